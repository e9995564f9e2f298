"""How an invocation is followed: live where the server gives its log, from dbt's results where it gives none, never green unknown."""

import json
import time
from types import SimpleNamespace

import pytest
from airflow.sdk import Connection
from api_pace import hurry, soon_given_up
from api_server import StandInServer, hangs_up, says
from dbt_words import BEGINNING, said

from dbt_watch.core.results import NodeInfo, NotRun
from dbt_watch.core.steps import run
from dbt_watch.exceptions import ServerError
from dbt_watch.producers.api import client as module
from dbt_watch.producers.api import invocation_log
from dbt_watch.producers.api.answers import RemoteInvocation
from dbt_watch.producers.api.client import WorkerClient
from dbt_watch.producers.api.invocation_log import InvocationFollowing, _GrowingText
from dbt_watch.producers.api.protocol import LogPart
from dbt_watch.producers.build_watch import BuildWatch

ORDERS, CUSTOMERS = "model.shop.orders", "model.shop.customers"
NODES = {name: NodeInfo(name.rpartition(".")[2], "model", "table") for name in (ORDERS, CUSTOMERS)}
SUMMARY = json.dumps(
    {
        "info": {
            "name": "EndOfRunSummary",
            "ts": "2026-01-01T00:00:02.000000Z",
            "level": "info",
            "invocation_id": "i",
        },
        "data": {},
    }
)


class Scene:
    """An invocation, its server, and one that follows it."""

    def __init__(self, server, caplog):
        self.server = server
        self.invocation = server.add("nightly-1", "STARTED")
        self.shown = []
        self.caplog = caplog
        self.client = WorkerClient("dbt_api", on_tick=self.tick)
        self.happens = []
        self.watch = BuildWatch(NODES, attempt=1, show=self.shown.append)

    def tick(self):
        """Let the next thing happen when the one before it has been seen."""
        if self.happens and self.happens[0]():
            self.happens.pop(0)

    def say(self, *lines):
        self.invocation["log"] += "".join(f"{line}\n" for line in lines)

    def end(self, state="SUCCESS", **more):
        self.invocation.update(state=state, **more)

    def status(self, name):
        found = {entry.unique_id: entry for entry in self.watch.results}
        return found[name].status if name in found else None

    def follow(self):
        following = InvocationFollowing(self.client.server, "nightly-1", self.watch)
        end = self.client.run(following.steps())
        self.watch.end(end.exit_code, end.reason, run_results=end.run_results, no_log=end.no_log)
        return end

    def results(self, **statuses):
        """Have the server keep dbt's results."""
        self.invocation["artifacts"]["run_results.json"] = {
            "metadata": {"invocation_id": "i"},
            "results": [{"unique_id": f"model.shop.{name}", "status": status, "message": "as dbt said"} for name, status in statuses.items()],
        }  # fmt: skip


@pytest.fixture
def scene_of(monkeypatch, caplog):
    hurry(monkeypatch)
    caplog.set_level("INFO")
    servers = []

    def make(dialect):
        server = StandInServer(dialect)
        servers.append(server.__enter__())
        connection = Connection(conn_id="dbt_api", conn_type="http", host=server.url)
        monkeypatch.setattr(module.BaseHook, "get_connection", classmethod(lambda *_: connection))
        return Scene(server, caplog)

    yield make
    for server in servers:
        server.__exit__()


@pytest.mark.parametrize("dialect", ["own", "field"])
def test_what_becomes_of_a_node_is_known_while_dbt_runs(scene_of, dialect):
    scene = scene_of(dialect)
    scene.say(BEGINNING, said(ORDERS, "success"))

    def first_is_known():
        if scene.status(ORDERS) != "success":
            return False
        assert scene.status(CUSTOMERS) is None
        scene.say(said(CUSTOMERS, "warn"), SUMMARY)
        return True

    def second_is_known():
        if scene.status(CUSTOMERS) != "warn":
            return False
        scene.end()
        return True

    scene.happens = [first_is_known, second_is_known]
    end = scene.follow()
    assert (end.exit_code, end.reason, end.no_log) == (0, None, "")
    assert not scene.happens
    assert scene.watch.closed.exit_code == 0
    assert sum("orders OK" in line for line in scene.shown) == 1


def test_of_a_log_by_offset_no_part_is_read_twice_and_a_line_may_come_in_pieces(scene_of, monkeypatch):
    scene = scene_of("own")
    monkeypatch.setattr("dbt_watch.producers.api.protocol.LOG_PIECE", 100)
    scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
    scene.end()
    scene.follow()
    assert (scene.status(ORDERS), scene.status(CUSTOMERS)) == ("success", "success")
    offsets = [
        path.partition("offset=")[2].partition("&")[0] for path in scene.server.asked() if "/log?" in path
    ]
    assert len(set(offsets)) == len(offsets)


@pytest.mark.parametrize("dialect", ["own", "field"])
def test_an_invocation_waits_for_its_turn(scene_of, dialect):
    scene = scene_of(dialect)
    scene.invocation["state"] = "PENDING"

    def has_waited():
        if len(scene.server.requests) < 4:
            return False
        scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
        scene.end()
        return True

    scene.happens = [has_waited]
    assert scene.follow().exit_code == 0
    assert "is queued on the server" in scene.caplog.text


def requests_until(scene, is_over):
    """Return how many requests, and seconds, it takes to follow an invocation that says nothing before the end of something."""
    began = time.monotonic()

    def end():
        if not is_over(time.monotonic() - began):
            return False
        scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
        scene.end()
        return True

    scene.happens = [end]
    assert scene.follow().exit_code == 0
    return len(scene.server.requests), time.monotonic() - began


def test_a_server_that_waits_until_there_is_more_is_asked_less_and_one_that_does_not_is_not_asked_at_once_again(
    scene_of, monkeypatch
):
    monkeypatch.setattr("dbt_watch.producers.api.protocol.LONGEST_WAIT", 30.0)
    waiting, _ = requests_until(scene_of("own"), lambda seconds: seconds > 1.0)
    assert waiting < 8
    scene = scene_of("own")
    scene.server.waits = False
    polled, seconds = requests_until(scene, lambda _: len(scene.server.requests) > 40)
    assert polled / seconds < 150


def test_a_server_whose_log_is_not_there_before_dbt_runs_still_gives_it(scene_of):
    scene = scene_of("silent")
    scene.invocation["state"] = "PENDING"

    def begin():
        if not any("/log" in path for path in scene.server.asked()):
            return False
        scene.server.dialect = "own"
        scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
        scene.end()
        return True

    scene.happens = [begin]
    assert scene.follow().no_log == ""
    assert scene.status(CUSTOMERS) == "success"


@pytest.mark.parametrize("fault", [hangs_up, says(503, Retry_After="0"), says(500), says(200, b"not json")])
@pytest.mark.parametrize("dialect", ["own", "field"])
def test_a_server_that_does_not_answer_for_a_while_ends_nothing(scene_of, dialect, fault):
    scene = scene_of(dialect)
    scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
    scene.end()
    scene.server.instead = [fault, fault, None, fault]
    assert scene.follow().exit_code == 0
    assert scene.status(CUSTOMERS) == "success"


@pytest.mark.parametrize(
    ("state", "more", "exit_code", "reason"),
    [
        ("SUCCESS", {"exit_code": 0}, 0, None),
        ("FAILURE", {"exit_code": 2, "exc_type": "DbtError", "exc_message": "no such profile"}, 2, None),
        ("FAILURE", {}, 1, None),
        ("ABORTED", {}, None, "the invocation was aborted"),
        ("INTERNAL_ERROR", {"exc_type": "WorkerLost", "exc_message": "the worker died"}, None, "the server ended the invocation as INTERNAL_ERROR: WorkerLost: the worker died"),
    ],
)  # fmt: skip
def test_each_state_that_is_an_end_ends_the_following(scene_of, state, more, exit_code, reason):
    scene = scene_of("own")
    scene.say(BEGINNING, said(ORDERS, "success"))
    scene.end(state, **more)
    end = scene.follow()
    assert (end.exit_code, end.reason) == (exit_code, reason)
    assert scene.status(ORDERS) == "success"
    assert scene.status(CUSTOMERS) == "not run"


def test_an_invocation_that_was_known_and_is_not_any_more_is_lost(scene_of):
    scene = scene_of("own")
    scene.say(BEGINNING, said(ORDERS, "success"))

    def forget():
        if scene.status(ORDERS) is None:
            return False
        scene.server.invocations.clear()
        return True

    scene.happens = [forget]
    end = scene.follow()
    assert end.exit_code is None
    assert end.reason == "the server no longer knows the invocation nightly-1"
    assert scene.status(ORDERS) == "success"
    assert scene.watch.closed.reason == end.reason


def test_a_proxy_that_knows_of_no_server_for_a_moment_loses_no_invocation(scene_of, monkeypatch):
    """As some do while the server in the cluster behind them is started again."""
    monkeypatch.setattr("dbt_watch.producers.api.protocol.PLAIN_404_PATIENCE", 60.0)
    scene = scene_of("own")
    scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
    scene.end()
    scene.server.instead = [says(404, b"404 page not found")] * 20
    assert scene.follow().exit_code == 0
    assert scene.status(CUSTOMERS) == "success"


def test_a_server_that_has_no_json_for_what_it_does_not_know_is_asked_for_a_while_once(scene_of):
    scene = scene_of("own")
    scene.server.instead = [says(404, b"<html>Not Found</html>")] * 10_000
    server = scene.client.server
    for _ in range(2):
        before = len(scene.server.requests)
        assert scene.client.run(server.look("nightly-1")).state == "NOT_FOUND"
    assert len(scene.server.requests) == before + 1


def test_the_state_is_asked_for_as_soon_as_the_log_is_complete(scene_of):
    scene = scene_of("own")
    scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
    following = InvocationFollowing(scene.client.server, "nightly-1", scene.watch)
    asked = []

    def do(step):
        asked.append(step)
        if len(asked) == 2:
            scene.end()  # between the first look at its state and that at its log
        return scene.client._do(step)

    assert run(following.steps(), do).exit_code == 0
    assert [type(step).__name__ for step in asked] == ["Ask"] * 3


@pytest.mark.parametrize("ends_as", ["SUCCESS", "INTERNAL_ERROR"])
def test_a_log_that_is_never_said_to_be_complete_does_not_hang_what_follows_it(
    scene_of, monkeypatch, ends_as
):
    scene = scene_of("own")
    answer = scene.server.log_part

    def never_complete(found, query):
        status, headers, content = answer(found, query)
        return status, {**headers, "X-Log-Complete": "false"}, content

    monkeypatch.setattr(scene.server, "log_part", never_complete)
    monkeypatch.setattr(invocation_log, "REST_PATIENCE", 0.2)
    scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)

    def end():
        if scene.status(CUSTOMERS) is None:
            return False
        scene.end(ends_as)
        return True

    scene.happens = [end]
    assert scene.follow().exit_code == (0 if ends_as == "SUCCESS" else None)
    assert scene.status(CUSTOMERS) == "success"
    assert "has not reported that its log is complete" in scene.caplog.text


@pytest.mark.parametrize("dialect", ["own", "silent"])
def test_a_server_that_calls_it_a_success_that_dbt_came_to_its_end_makes_no_failed_node_green(
    scene_of, dialect
):
    scene = scene_of(dialect)
    scene.say(BEGINNING, said(ORDERS, "error"), said(CUSTOMERS, "skipped"), SUMMARY)
    scene.results(orders="error", customers="skipped")
    scene.end("SUCCESS")
    scene.follow()
    assert scene.watch.closed.exit_code == 1
    assert scene.watch.closed.reason == "dbt was reported as successful, but 1 node has failed: orders"


def test_a_server_that_stays_away_is_given_up(scene_of, monkeypatch):
    scene = scene_of("own")
    soon_given_up(monkeypatch, "PATIENCE")
    scene.server.instead = [None] + [says(503)] * 10_000
    with pytest.raises(ServerError, match="reading the log: HTTP 503"):
        scene.follow()


def test_the_end_of_a_log_that_cannot_be_had_leaves_nodes_unknown_and_not_green(scene_of, monkeypatch):
    scene = scene_of("own")
    soon_given_up(monkeypatch, "REST_PATIENCE")
    scene.say(BEGINNING, said(ORDERS, "success"))
    scene.end()
    scene.server.instead = [None] + [says(500)] * 10_000

    def give_back():
        if "could not be read" not in scene.caplog.text:
            return False
        scene.server.instead = []
        return True

    scene.happens = [give_back]
    scene.follow()
    assert "The end of the log could not be read" in scene.caplog.text
    assert scene.status(ORDERS) == "not run"
    assert scene.watch.closed.exit_code == 1


def test_a_log_that_has_become_shorter_is_read_again(scene_of):
    scene = scene_of("own")
    scene.say("x" * 100_000)

    def begin_anew():
        if not scene.shown:
            return False
        scene.invocation["log"] = ""
        scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
        scene.end()
        return True

    scene.happens = [begin_anew]
    scene.follow()
    assert scene.status(CUSTOMERS) == "success"


def test_what_the_log_lacks_is_filled_in_from_dbts_results(scene_of):
    scene = scene_of("own")
    scene.say(BEGINNING, said(ORDERS, "success"), SUMMARY)
    scene.results(orders="success", customers="success")
    scene.end()
    scene.follow()
    assert scene.status(CUSTOMERS) == "success"
    assert scene.watch.closed.exit_code == 0
    by_name = {entry.name: entry.from_run_results for entry in scene.watch.results}
    assert by_name == {"orders": False, "customers": True}


# Servers without a log.


@pytest.mark.parametrize(("dialect", "log"), [("silent", ""), ("own", "Running with dbt=1.11\nDone.\n")])
def test_without_a_log_of_dbt_the_states_come_from_its_results_and_say_so(scene_of, dialect, log):
    scene = scene_of(dialect)
    scene.invocation["log"] = log
    scene.results(orders="success", customers="error")
    scene.end("FAILURE")
    end = scene.follow()
    assert end.exit_code == 1
    assert (scene.status(ORDERS), scene.status(CUSTOMERS)) == ("success", "error")
    assert all(entry.from_run_results for entry in scene.watch.results)
    assert any("orders OK (from run_results.json)" in line for line in scene.shown)
    assert "from run_results.json: the server provides no dbt log" in scene.caplog.text
    assert ("Done." in "".join(scene.shown)) is (dialect == "own")


@pytest.mark.parametrize(("dialect", "why"), [("silent", "the server provides no log"), ("field", "the server's log contains no record from dbt")])  # fmt: skip
@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "ABORTED"])
def test_what_is_known_from_nowhere_is_not_green(scene_of, dialect, why, state):
    scene = scene_of(dialect)
    scene.invocation["log"] = "17:00:00 Finished running 2 table models\n"
    scene.end(state)
    scene.follow()
    for entry in scene.watch.results:
        assert (entry.status, entry.not_run) == ("not run", NotRun.NOT_KNOWN)
        assert entry.message.startswith(f"its outcome is not known: {why}")
    assert scene.watch.closed.exit_code != 0
    assert ("Finished running" in "".join(scene.shown)) is (dialect == "field")


def test_a_node_that_dbts_results_do_not_hold_is_not_in_the_project_where_dbt_ended_well(scene_of):
    scene = scene_of("silent")
    scene.results(orders="success")
    scene.end()
    scene.follow()
    found = {entry.unique_id: entry.not_run for entry in scene.watch.results}
    assert found == {ORDERS: None, CUSTOMERS: NotRun.NOT_IN_PROJECT}
    assert scene.watch.closed.exit_code == 0


def test_where_dbt_did_not_end_well_it_may_have_been_left_out_of_the_results(scene_of):
    scene = scene_of("silent")
    scene.results(orders="success")
    scene.end("FAILURE")
    scene.follow()
    found = {entry.unique_id: entry.not_run for entry in scene.watch.results}
    assert found == {ORDERS: None, CUSTOMERS: NotRun.ENDED_EARLY}


# The whole log so far.


def test_a_text_that_grows_is_new_at_its_end_and_another_one_is_new_as_a_whole():
    text = _GrowingText()
    assert [text.more(each) for each in ("", "a", "ab", "ab", "xb", "xbc", "x")] == [
        "",
        "a",
        "b",
        "",
        None,
        "c",
        None,
    ]


def test_a_log_of_which_the_beginning_goes_missing_is_taken_for_a_part_of_the_same(scene_of):
    scene = scene_of("field")
    scene.say(BEGINNING, said(ORDERS, "success"))

    def rotate():
        if scene.status(ORDERS) is None:
            return False
        scene.invocation["log"] = ""
        scene.say(said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
        scene.end()
        return True

    scene.happens = [rotate]
    scene.follow()
    assert (scene.status(ORDERS), scene.status(CUSTOMERS)) == ("success", "success")
    assert sum("orders OK" in line for line in scene.shown) == 1


def test_a_poll_is_not_shorter_than_four_times_the_answer_with_the_whole_log(scene_of, monkeypatch):
    scene = scene_of("field")

    def slowly(handler):
        time.sleep(0.2)
        handler.say(*scene.server.answer("GET", "/invocations/nightly-1", {}, None))

    scene.say(BEGINNING, said(ORDERS, "success"), said(CUSTOMERS, "success"), SUMMARY)
    scene.server.instead = [slowly]
    began = time.monotonic()
    scene.happens = [lambda: time.monotonic() - began > 0.3 and (scene.end(), True)[1]]
    scene.follow()
    assert time.monotonic() - began > 0.9


class ScriptedServer:
    """A server whose log grows by a line with each answer, each of which takes a second, until it has answered so many times."""

    def __init__(self, clock, answers):
        self.clock, self.left = clock, answers

    def look(self, task_id):
        yield from ()
        return RemoteInvocation(task_id=task_id, state="STARTED" if self.left else "SUCCESS")

    def log_part(self, task_id, offset, patience):
        yield from ()
        self.clock.now += 1.0
        self.left -= 1
        return LogPart(b"a line\n", offset + 7, is_complete=not self.left)

    def artifact(self, task_id, name):
        yield from ()


def test_a_log_is_asked_for_again_soon_at_first_and_less_often_with_each_part(monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(invocation_log, "time", clock)
    following = InvocationFollowing(
        ScriptedServer(clock, 40), "nightly-1", BuildWatch({}, attempt=1, show=print)
    )
    pauses = []
    run(following.steps(), lambda step: pauses.append(step.seconds))
    assert pauses == [pytest.approx(min(0.2, 0.02 * 1.1**number)) for number in range(39)]
