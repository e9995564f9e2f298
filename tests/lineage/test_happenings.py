"""Which things that happen in a build are told to OpenLineage, when, and how often."""

from datetime import datetime, timedelta, timezone

import pytest
import replayed

from dbt_watch.core.log.end_of_run import DbtRun, LoggedCommand
from dbt_watch.core.log.queries import Queries
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.lineage.events import LineageEvents
from dbt_watch.lineage.happenings import LineageListener, NodeEnded, NodeStarted, RunEnded, RunStarted

ORDERS, CUSTOMERS, CHECK = "model.shop.orders", "model.shop.customers", "test.shop.unique_orders"
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


class Scene:
    """A listener, the log's commands, and a clock that is moved on by hand."""

    def __init__(self):
        self.now = 0.0
        self.told = []
        self.run = DbtRun()
        self.queries = Queries()
        self.queries.keep_main()
        self.listener = LineageListener(self.told.append, clock=lambda: self.now)
        self.begin("i")

    def begin(self, invocation, *, ended=""):
        self.run.commands[invocation] = LoggedCommand(
            has_begun=True, began="2026-01-01T12:00:00.000000Z", ended=ended, version="1.11.2"
        )

    def take(self, unique_id, status, **more):
        kind = unique_id.partition(".")[0]
        values = {"invocation_id": "i", "started_at": NOON, "resource_type": kind, **more}
        self.listener.take([NodeResult(unique_id=unique_id, status=status, **values)], self.run, self.queries)

    def end(self, exit_code=0, reason=None):
        self.listener.end(exit_code, reason, self.run, self.queries)

    def names(self):
        return [
            (
                type(item).__name__,
                item.result.unique_id if hasattr(item, "result") else item.invocation.invocation_id,
            )
            for item in self.told
        ]


@pytest.fixture
def scene():
    return Scene()


def test_a_run_and_a_node_each_begin_and_end_once(scene):
    scene.take(ORDERS, "started")
    scene.take(ORDERS, "success")
    scene.take(ORDERS, "success", adapter_response={"_message": "OK"})
    scene.take(ORDERS, "success", adapter_response={"_message": "OK", "more": 1})
    scene.end()
    assert scene.names() == [
        ("RunStarted", "i"),
        ("NodeStarted", ORDERS),
        ("NodeEnded", ORDERS),
        ("RunEnded", "i"),
    ]


def test_the_end_of_a_node_waits_for_the_details_that_dbt_adds_but_not_for_long(scene):
    scene.take(ORDERS, "started")
    scene.take(ORDERS, "success")
    assert len(scene.told) == 2
    scene.take(ORDERS, "success", adapter_response={"rows_affected": 3}, rows_affected=3)
    assert scene.told[-1].result.rows_affected == 3
    scene.take(CUSTOMERS, "started")
    scene.take(CUSTOMERS, "error")
    scene.now = 1.5
    scene.take(CHECK, "started")
    assert ("NodeEnded", CUSTOMERS) in scene.names()


def test_what_dbt_adds_too_late_is_told_at_the_end(scene):
    scene.take(ORDERS, "started")
    scene.take(ORDERS, "error")
    scene.end(1, "dbt failed")
    assert scene.names()[2:] == [("NodeEnded", ORDERS), ("RunEnded", "i")]
    assert (scene.told[-1].exit_code, scene.told[-1].reason) == (1, "dbt failed")


def test_a_node_that_was_left_out_is_not_told(scene):
    scene.take(ORDERS, "skipped", skipped_because=(CUSTOMERS,))
    scene.take(CUSTOMERS, "not run", not_run=NotRun.EPHEMERAL)
    scene.end()
    assert scene.names() == [("RunStarted", "i"), ("RunEnded", "i")]


def test_a_node_that_had_begun_and_was_not_finished_is_told(scene):
    scene.take(ORDERS, "started")
    scene.take(ORDERS, "not run", not_run=NotRun.UNFINISHED, message="dbt ended before this node finished")
    scene.end(None, "the pod was deleted")
    assert scene.names()[2:] == [("NodeEnded", ORDERS), ("RunEnded", "i")]
    assert (scene.told[-1].exit_code, scene.told[-1].reason) == (None, "the pod was deleted")


def test_a_node_whose_beginning_was_not_read_has_one_all_the_same(scene):
    scene.take(ORDERS, "success", adapter_response={"code": "OK"})
    assert scene.names() == [("RunStarted", "i"), ("NodeStarted", ORDERS), ("NodeEnded", ORDERS)]


@pytest.mark.parametrize(
    "unique_id", ["operation.shop.on-run-start-0", "exposure.shop.page", "source.shop.raw.a"]
)
def test_what_is_no_job_of_a_warehouse_is_not_told(scene, unique_id):
    scene.take(unique_id, "started")
    scene.take(unique_id, "success")
    assert not scene.told


def test_what_is_to_be_left_out_is_not_told(scene):
    scene.listener = LineageListener(scene.told.append, left_out={ORDERS})
    scene.take(ORDERS, "started")
    scene.take(ORDERS, "no-op")
    assert not scene.told


def test_a_check_of_sources_is_no_run_and_the_build_after_it_is_one(scene):
    scene.take("source.shop.raw.orders", "pass")
    scene.begin("second")
    scene.take(ORDERS, "started", invocation_id="second")
    scene.end(1)
    assert scene.names() == [("RunStarted", "second"), ("NodeStarted", ORDERS), ("RunEnded", "second")]


def test_a_command_that_came_to_no_node_is_a_run_that_failed(scene):
    scene.end(2, "Compilation Error")
    assert [type(item) for item in scene.told] == [RunStarted, RunEnded]
    assert scene.told[0].invocation.version == "1.11.2"
    assert scene.told[0].invocation.began == NOON


def test_where_dbt_did_not_begin_nothing_is_told(scene):
    scene.run.commands.clear()
    scene.end(None, "no such image")
    assert not scene.told


def test_of_several_builds_in_one_log_only_the_last_ends_as_dbt_did(scene):
    scene.take(ORDERS, "started")
    scene.take(ORDERS, "success", adapter_response={"code": "OK"})
    scene.begin("second", ended="2026-01-01T12:30:00.000000Z")
    scene.take(CUSTOMERS, "started", invocation_id="second")
    scene.end(1, "dbt failed")
    first, second = scene.told[-2:]
    assert (first.invocation.invocation_id, first.exit_code, first.reason) == ("i", 0, None)
    assert (second.invocation.invocation_id, second.exit_code, second.reason) == ("second", 1, "dbt failed")
    assert second.at == NOON + timedelta(minutes=30)


def test_the_statement_that_builds_a_table_is_told_and_no_row_of_a_seed(scene):
    seed = "seed.shop.raw_orders"
    for unique_id, sql in (
        (ORDERS, "create table orders as (select 1)"),
        (seed, "insert into raw values ('secret')"),
    ):
        scene.queries.note(unique_id, sql)
        scene.queries.note(unique_id, "select name, kind, more from the_whole_catalog where schema = 'main'")
        scene.take(unique_id, "success", adapter_response={"code": "OK"})
    ends = {item.result.unique_id: item.sql for item in scene.told if isinstance(item, NodeEnded)}
    assert ends == {ORDERS: "create table orders as (select 1)", seed: None}


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_however_a_log_is_cut_the_same_is_told_of_each_node(piece):
    def nodes(told):
        ends = [item for item in told if isinstance(item, NodeEnded)]
        starts = [item.result.unique_id for item in told if isinstance(item, NodeStarted)]
        return sorted(starts), sorted(
            (item.result.unique_id, item.result.status, item.sql or "") for item in ends
        )

    assert nodes(replayed.happenings(piece=piece)) == nodes(replayed.happenings())


def test_one_who_goes_on_with_a_build_tells_of_the_same_runs():
    """What was told shortly before may be told again; then whoever is told knows by the ids that it is the same."""

    def ids(told):
        events = LineageEvents(replayed.plan())
        made = [events.of(item) for item in told]
        return {(event.job.name, event.eventType, event.run.runId) for event in made}

    known = {
        item.result.unique_id: item.result for item in replayed.happenings() if isinstance(item, NodeEnded)
    }
    seeds = {unique_id: known[unique_id] for unique_id in known if unique_id.startswith("seed.")}
    first, again = ids(replayed.happenings()), ids(replayed.happenings(known=seeds))
    assert again <= first
    assert len(again) > len(first) / 2
