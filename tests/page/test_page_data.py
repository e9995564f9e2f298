"""What the page is told of a run: from its first second to its end, by attempts, and when nothing but the tasks' XComs is left."""

from made_airflow import DAG, RUN, at, model


def nodes_of(answer):
    return {node["unique_id"].split(".")[2]: node for node in answer["record"]["nodes"]}


def test_before_dbt_is_started_the_page_says_what_its_task_waits_for(ask, shop):
    answer = ask("record")
    assert answer["live"]["phase"] == "waiting"
    assert answer["live"]["phase_text"] == "the task that runs dbt is queued"
    shop.begin()
    shop.phase("pod", "pod pending: ImagePullBackOff: no such image")
    live = ask("record")["live"]
    assert (live["phase"], live["phase_text"]) == ("pod", "pod pending: ImagePullBackOff: no such image")
    shop.phase("parsing", "dbt reads the project")
    assert ask("record")["live"]["phase"] == "parsing"
    shop.tell(("raw", "started"))
    assert ask("record")["live"]["phase"] == "running"


def test_all_nodes_are_there_from_the_beginning_with_what_they_depend_on(ask, shop):
    shop.begin()
    answer = ask("record")
    nodes = nodes_of(answer)
    assert set(nodes) == {"raw", "orders", "customers", "other"}
    assert nodes["customers"]["depends_on"] == [model("orders")]
    assert nodes["customers"]["path"] == "models/customers.sql"
    assert nodes["customers"]["meaning"] == "not run"
    assert "not_run" not in nodes["customers"]
    assert answer["live"]["counts"]["waiting"] == 4
    assert answer["live"]["tasks"][model("raw")] == {
        "task_id": "build.raw", "map_index": -1, "state": "deferred", "try_number": 1
    }  # fmt: skip


def test_a_viewer_is_told_of_what_has_changed_alone(ask, shop):
    shop.begin()
    version = ask("record")["version"]
    assert ask("changes", since=version)["nodes"] == []
    shop.tell(("raw", "started", 1))
    first = ask("changes", since=version)
    assert [node["unique_id"] for node in first["nodes"]] == [model("raw")]
    assert first["live"]["running"] == [{"node": model("raw"), "since": "2026-11-26T12:00:01Z"}]
    assert first["live"]["tasks"] == {}
    shop.tell(("raw", "success", 1, 3), ("orders", "started", 3))
    shop.airflow.set_task("build.raw", "success")
    second = ask("changes", since=first["version"])
    assert {node["name"]: node["state"] for node in second["nodes"]} == {
        "raw": "success",
        "orders": "started",
    }
    assert second["live"]["counts"] == {
        "done": 1, "running": 1, "waiting": 2, "failed": 0, "warned": 0, "skipped": 0, "total": 4
    }  # fmt: skip
    assert {node: task["state"] for node, task in second["live"]["tasks"].items()} == {
        model("raw"): "success"
    }
    both = ask("changes", since=version)
    assert len(both["nodes"]) == 2


def test_a_version_of_another_process_is_answered_with_a_reset(ask, shop):
    shop.begin()
    version = ask("record")["version"]
    for since in (0, 17, version - 10_000, version + 10_000):
        assert ask("changes", since=since)["reset"] is True
    assert "reset" not in ask("changes", since=version)


def test_a_failed_run_names_its_culprit_and_what_was_not_built_because_of_it(ask, shop):
    shop.begin()
    shop.tell(("raw", "success", 0, 1), ("other", "success", 0, 1))
    shop.tell(
        (
            "orders",
            "error",
            1,
            2,
        ),
    )
    failed = shop.result(
        "orders", "error", 1, 2, message="Binder Error: no such column", sql="select nothing"
    )
    skipped = shop.result("customers", "skipped", 2, 2, skipped_because=(model("orders"),))
    shop.tell(failed, skipped)
    shop.end(1)
    answer = ask("record")
    (cause,) = answer["record"]["causes"]
    assert cause["node"] == model("orders")
    assert cause["blocked"] == [model("customers")]
    assert answer["record"]["outcome"] == "failure"
    details = ask("node", node=model("orders"))
    assert details["sql_sent"] == "select nothing"
    assert details["task_url"] == f"../dags/{DAG}/runs/{RUN}/tasks/build.orders"
    assert any("Binder Error" in line["text"] for line in details["log"])
    assert {line["level"] for line in details["log"]} == {"info", "error"}


def test_a_run_is_over_when_its_tasks_are(ask, shop):
    shop.begin()
    shop.tell(*[(name, "success", 0, 1) for name in ("raw", "orders", "customers", "other")])
    shop.end()
    assert ask("record")["live"]["is_over"] is False
    for name in ("raw", "orders", "customers", "other"):
        shop.airflow.set_task(f"build.{name}", "success")
    live = ask("record")["live"]
    assert live["is_over"] is True
    assert live["phase"] == "over"
    assert live["counts"]["done"] == 4


def test_a_later_attempt_takes_the_place_of_the_one_before_when_it_has_begun(ask, shop):
    shop.begin()
    shop.tell(("raw", "success", 0, 1), ("orders", "error", 1, 2))
    shop.end(1)
    version = ask("record")["version"]
    shop.state("up_for_retry", 1)
    live = ask("record")["live"]
    assert live["notes"] == ["the task that runs dbt is tried again: the previous attempt is shown"]
    assert live["phase"] == "waiting"
    shop.state("running", 2)
    assert nodes_of(ask("record"))["orders"]["state"] == "error"
    shop.begin()
    assert ask("changes", since=version)["reset"] is True
    assert nodes_of(ask("record"))["orders"]["meaning"] == "not run"
    shop.tell(("raw", "success", 0, 1), ("orders", "success", 10, 12))
    answer = ask("record")
    assert nodes_of(answer)["orders"]["state"] == "success"
    assert answer["live"]["attempt"] == 2


def test_where_the_journal_is_gone_the_tasks_of_nodes_tell(ask, shop):
    for name in ("raw", "orders"):
        shop.airflow.put(f"build.{name}", "return_value", shop.result(name, "success", 0, 1).to_dict())
    for name in ("raw", "orders", "customers", "other"):
        shop.airflow.set_task(f"build.{name}", "success")
    shop.state("success")
    answer = ask("record")
    assert answer["live"]["sources"] == ["xcom of tasks"]
    assert nodes_of(answer)["orders"]["state"] == "success"
    assert any("journal of the producer is gone" in note for note in answer["record"]["notes"])


def test_a_damaged_journal_and_outline_leave_a_page_without_nodes(ask, shop):
    shop.state("running")
    shop.put("journal_0000", '{"chunk": "<script>"}')
    shop.put("dbt_watch_outline", '{"format": 1, "attempt": 1, "pieces": 999, "data": ""}')
    shop.put("dbt_watch_phase", "[1, 2]")
    answer = ask("record")
    assert answer["record"]["nodes"] == []
    assert answer["live"]["phase"] == "pod"


def test_until_it_has_its_own_the_graph_is_that_of_the_run_before(ask, shop, airflow, make):
    airflow.dag_runs = {"manual__1": airflow.dag_runs[RUN]._replace(run_id="manual__1"), **airflow.dag_runs}
    make({"raw": (), "orders": ("raw",)}, run_id="manual__1").begin()
    answer = ask("record")
    assert nodes_of(answer)["orders"]["depends_on"] == [model("raw")]
    assert answer["live"]["notes"] == ["dbt has not started: the nodes shown are those of the run manual__1"]
    shop.begin()
    answer = ask("record")
    assert len(answer["record"]["nodes"]) == 4
    assert answer["live"]["notes"] == []


def test_the_median_of_earlier_runs_and_when_this_one_may_be_over(ask, shop, airflow, make):
    for number, factor in ((0, 1), (1, 3)):
        run_id = f"earlier__{number}"
        airflow.dag_runs = {run_id: airflow.dag_runs[RUN]._replace(run_id=run_id), **airflow.dag_runs}
        earlier = make({"raw": ()}, run_id=run_id)
        earlier.attempt = 1
        earlier.leave_summary(
            [
                earlier.result("raw", "success", 0, 2 * factor),
                earlier.result("orders", "success", 10, 10 + 20 * factor),
                earlier.result("customers", "error", 30, 31),
            ]
        )
    history = ask("history")
    assert history["runs"] == ["earlier__1", "earlier__0"]
    assert history["nodes"][model("raw")] == {"seconds": [6.0, 2.0], "median": 4.0}
    assert model("customers") not in history["nodes"]
    assert model("other") not in history["nodes"]
    shop.begin()
    live = ask("record")["live"]
    # raw, orders and customers in a row, the last as long as the middle one of all nodes.
    assert live["estimated_end"] is not None
    shop.tell(*[(name, "success", 0, 1) for name in ("raw", "orders", "customers", "other")])
    assert ask("record")["live"]["estimated_end"] is None


def test_the_last_run_and_the_only_project_are_meant_where_none_is_named(page, shop):
    shop.begin()
    for query in ({}, {"run_id": "{RUN_ID}", "map_index": "{MAP_INDEX}"}, {"run_id": RUN}):
        answer = page.get("/api/record", params={"dag_id": DAG, **query})
        assert answer.status_code == 200
        assert len(answer.json()["record"]["nodes"]) == 4


def test_what_is_not_there_is_said_to_be_missing(page, ask, shop):
    assert page.get("/api/runs").status_code == 404
    assert ask("record", 404, run_id="other") == {"detail": "there is no such run"}
    assert ask("record", 404, project="nothing") == {"detail": "this run has no such dbt project"}
    assert ask("node", 404, node="model.shop.nothing") == {"detail": "there is no such node"}
    assert page.get("/api/projects", params={"dag_id": "another"}).status_code == 404


def test_the_runs_of_a_dag(ask):
    (run,) = ask("runs")["runs"]
    assert run == {
        "run_id": RUN,
        "state": "running",
        "started_at": at(0).isoformat().replace("+00:00", "Z"),
        "ended_at": None,
    }
