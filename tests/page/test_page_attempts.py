"""Threads, and attempts: what an earlier one has built or failed to build is shown beside a later one, with the attempt's number."""

from made_airflow import model
from test_page_data import nodes_of


def bars(answer):
    return {
        (command["attempt"], lane["name"]): [bar["node"].split(".")[2] for bar in lane["bars"]]
        for command in answer["record"]["commands"]
        for lane in command["lanes"]
    }


def test_lanes_are_the_threads_of_dbt_and_those_that_did_nothing_are_lanes_too(ask, shop):
    shop.begin()
    shop.tell(
        shop.result("raw", "success", 0, 1, thread="Thread-2"),
        shop.result("orders", "success", 1, 2, thread="Thread-1"),
        shop.result("customers", "success", 2, 3, thread="Thread-2"),
    )
    assert nodes_of(ask("record"))["raw"]["thread"] == "Thread-2"
    shop.end(0, threads=3)
    answer = ask("record")
    assert bars(answer) == {
        (1, "Thread-1"): ["orders"],
        (1, "Thread-2"): ["raw", "customers"],
        (1, ""): [],
    }
    (command,) = answer["record"]["commands"]
    assert (command["has_threads"], command["threads"]) == (True, 3)
    assert [lane["idle"] for lane in command["lanes"]] == [2, 1, 3]
    assert answer["record"]["critical_path"]["nodes"] == [model("raw"), model("orders"), model("customers")]


def test_what_an_earlier_attempt_has_built_is_read_from_the_tasks_of_its_nodes(ask, shop, airflow):
    shop.begin()
    built = shop.result("raw", "success", 0, 1, thread="Thread-1")
    failed = shop.result("orders", "error", 1, 3, message="no such column", thread="Thread-2")
    shop.tell(built, failed)
    shop.end(1)
    airflow.set_task("build.raw", "success")
    airflow.put("build.raw", "return_value", built.to_dict())
    shop.begin(tries=[failed])
    shop.tell(shop.result("orders", "success", 10, 12, thread="Thread-1"))
    answer = ask("record")
    nodes = nodes_of(answer)
    assert (nodes["raw"]["state"], nodes["raw"].get("attempt", 1)) == ("success", 1)
    assert (nodes["orders"]["state"], nodes["orders"]["attempt"]) == ("success", 2)
    assert bars(answer) == {
        (1, "Thread-1"): ["raw"],
        (1, "Thread-2"): ["orders"],
        (2, "Thread-1"): ["orders"],
    }
    assert [command["label"] for command in answer["record"]["commands"]] == ["attempt 1", "attempt 2"]
    assert answer["live"]["counts"]["done"] == 2
    assert not [note for note in answer["record"]["notes"] if "overwrites" in note]
    tries = ask("node", node=model("orders"))["attempts"]
    assert [(one.get("attempt", 1), one["state"]) for one in tries] == [(1, "error"), (2, "success")]


def test_without_what_earlier_attempts_have_left_it_is_said_that_they_are_missing(ask, shop):
    shop.begin()
    shop.tell(("raw", "success", 0, 1), ("orders", "error", 1, 2))
    shop.end(1)
    shop.begin()
    shop.tell(("raw", "success", 10, 11))
    notes = ask("record")["record"]["notes"]
    assert any("attempt 2 only: each attempt overwrites the previous one" in note for note in notes)


def test_each_task_of_a_node_is_asked_once_what_it_has_left(ask, shop, airflow):
    shop.begin()
    shop.end(1)
    airflow.set_task("build.raw", "success")
    shop.begin()
    ask("record")
    asked = airflow.asked
    ask("record")
    first = airflow.asked - asked
    asked = airflow.asked
    airflow.set_task("build.other", "success")
    ask("record")
    assert airflow.asked - asked == first + 1
