"""The outcome table: each cell, and how the words for it read."""

import pytest

from dbt_watch.core.journal.format import Closed
from dbt_watch.core.outcome import NOT_KNOWN, OUTCOMES, Producer, Report, Run, Verdict, decide
from dbt_watch.core.results import NodeResult, NotRun

OK = Closed(exit_code=0, reason=None)
BAD = Closed(exit_code=1, reason=None)

RUNS = {
    Run.PENDING: [
        Producer(None),
        Producer("scheduled"),
        Producer("queued", BAD),
        Producer("restarting"),
        Producer("running", is_older=True),
    ],
    Run.RETRIABLE: [
        Producer("running", None, will_retry=True),
        Producer("deferred", None, will_retry=True),
        Producer("running", BAD, will_retry=True),
        Producer("up_for_retry", BAD, will_retry=True),
        Producer("up_for_retry", None),
    ],
    Run.LAST_ATTEMPT: [Producer("running"), Producer("deferred")],
    Run.ENDED_WELL: [
        Producer("running", OK),
        Producer("success", OK),
        Producer("success"),
        Producer("running", OK, True),
    ],
    Run.FAILED: [Producer("running", BAD), Producer("failed", BAD), Producer("failed", BAD, will_retry=True)],
    Run.DIED: [Producer("failed"), Producer("failed", None, will_retry=True)],
    Run.DID_NOT_RUN: [Producer("upstream_failed"), Producer("removed"), Producer("skipped", OK)],
    Run.CLEARED_ALONE: [Producer("success", is_older=True), Producer("failed", is_older=True)],
}


def result(status, **kwargs):
    return NodeResult(
        unique_id="model.shop.orders", name="orders", resource_type="model", status=status, **kwargs
    )


REPORTS = {
    Report.NOTHING: [None, result("started")],
    Report.SUCCESS: [result(status) for status in ("success", "pass", "no-op", "reused", "warn")],
    Report.FAILURE: [
        result(status) for status in ("error", "fail", "runtime error", "partial success", "cancelled")
    ],
    Report.SKIPPED: [result("skipped")],
    Report.NOT_BUILT: [
        result("not run", not_run=reason)
        for reason in (NotRun.FAIL_FAST, NotRun.ENDED_EARLY, NotRun.UNFINISHED)
    ],
    Report.NOT_DUE: [
        result("not run", not_run=reason)
        for reason in (
            NotRun.EPHEMERAL,
            NotRun.NOTHING_TO_RUN,
            NotRun.NOT_IN_PROJECT,
            NotRun.LEFT_OUT,
            NotRun.STALE_SOURCE,
        )
    ],
    Report.NOT_KNOWN: [result("not run", not_run=NotRun.NOT_KNOWN)],
}

EXPECTED = {
    "PENDING": "wait wait wait wait wait wait wait",
    "RETRIABLE": "wait succeed wait wait wait wait wait",
    "LAST_ATTEMPT": "wait succeed fail fail wait wait wait",
    "ENDED_WELL": "fail succeed fail skip fail skip fail",
    "FAILED": "fail succeed fail fail fail skip fail",
    "DIED": "fail succeed fail fail fail fail fail",
    "DID_NOT_RUN": "skip skip skip skip skip skip skip",
    "CLEARED_ALONE": "build build build build build build build",
}
CELLS = [
    pytest.param(run, report, Verdict(word), id=f"{run.name}-{report.name}")
    for run in Run
    for report, word in zip(Report, EXPECTED[run.name].split(), strict=True)
]


@pytest.mark.parametrize(("run", "report", "verdict"), CELLS)
def test_each_cell_of_the_table_holds_for_all_that_falls_into_it(run, report, verdict):
    for producer in RUNS[run]:
        assert producer.run is run, producer
        for entry in REPORTS[report]:
            assert decide(producer, [("model.shop.orders", entry)]).verdict is verdict, (producer, entry)


def test_the_table_has_no_hole():
    assert set(OUTCOMES) == {(run, report) for run in Run for report in Report}


@pytest.mark.parametrize(
    ("producer", "entry", "words"),
    [
        (Producer("running"), result("error", message="no such column"), "orders: error: no such column"),
        (
            Producer("running", None, will_retry=True),
            result("error", message="no such column"),
            "orders: error: no such column\nthe next attempt will build it again",
        ),
        (
            Producer("failed", BAD),
            result("skipped", skipped_because=("model.shop.stg_orders",)),
            "orders: not built: upstream `stg_orders` failed",
        ),
        (
            Producer("failed", Closed(exit_code=137, reason="OOMKilled")),
            None,
            "model.shop.orders: dbt ended before this node finished (OOMKilled)",
        ),
        (
            Producer("failed", Closed(exit_code=137, reason="OOMKilled")),
            result("not run", message="dbt ended before it got to this node (exit code 137: OOMKilled)"),
            "orders: not built: dbt ended before it got to this node (exit code 137: OOMKilled)",
        ),
        (
            Producer("failed"),
            result("started"),
            "orders: dbt ended before this node finished (its task was marked as failed, or its worker died)",
        ),
        (Producer("upstream_failed"), None, "dbt did not run: its task is upstream_failed"),
        (Producer("queued"), None, "dbt has not started"),
        (Producer("running"), result("started"), ""),
        (
            Producer("success", OK),
            None,
            f"model.shop.orders: {NOT_KNOWN}",
        ),
        (
            Producer("success", OK),
            result("not run", not_run=NotRun.NOT_KNOWN, message="its outcome is not known: no summary"),
            "orders: its outcome is not known: no summary",
        ),
        (Producer("failed", BAD), result("fail"), "orders: fail"),
        (
            Producer("failed", Closed(exit_code=None, reason="Evicted")),
            result("not run", not_run=NotRun.ENDED_EARLY),
            "orders: not built: dbt did not get to it (Evicted)",
        ),
        (
            Producer("success", OK),
            result("not run", not_run=NotRun.EPHEMERAL, message="ephemeral"),
            "orders: not built: ephemeral",
        ),
        (
            Producer("running"),  # whose end is still to be read
            result("not run", not_run=NotRun.ENDED_EARLY),
            "orders: not built: dbt did not get to it",
        ),
        (Producer("failed", BAD), result("skipped"), "orders: not built: skipped by dbt"),
        (
            Producer("failed", BAD),
            result("skipped", message="the schema could not be made"),
            "orders: not built: the schema could not be made",
        ),
        (
            Producer("failed", BAD),
            result("skipped", skipped_because=("model.shop.a", "source.shop.raw.b"), message="skipped"),
            "orders: not built: upstream `a`, `raw.b` failed",
        ),
        (
            Producer("failed", BAD),
            result(
                "skipped", skipped_because=("source.shop.raw.b", "model.shop.a"), message="`raw.b` is stale"
            ),
            "orders: not built: `raw.b` is stale",
        ),
        (
            Producer("failed", BAD),
            result("skipped", skipped_because=("source.shop.raw.b",)),
            "orders: not built: upstream `raw.b` failed",
        ),
        (Producer("success", is_older=True), None, "cleared on its own, so it is built on its own"),
    ],
)
def test_a_decision_says_why(producer, entry, words):
    assert decide(producer, [("model.shop.orders", entry)]).reason == words


def test_a_task_of_several_nodes_waits_for_the_last_one():
    entries = [("test.a", result("pass")), ("test.b", result("fail")), ("test.c", None)]
    assert decide(Producer("running"), entries).verdict is Verdict.WAIT


def test_a_task_of_several_nodes_fails_when_one_does():
    entries = [("test.a", result("pass")), ("test.b", result("fail", message="Got 3 results"))]
    decision = decide(Producer("running"), entries)
    assert decision.verdict is Verdict.FAIL
    assert decision.reason == "orders: fail: Got 3 results"


def test_a_task_of_several_nodes_is_skipped_only_when_all_of_them_are():
    empty = result("not run", not_run=NotRun.NOTHING_TO_RUN)
    assert decide(Producer("success", OK), [("a", empty), ("b", result("pass"))]).verdict is Verdict.SUCCEED
    assert decide(Producer("success", OK), [("a", empty), ("b", empty)]).verdict is Verdict.SKIP


def test_a_task_of_several_nodes_fails_when_of_one_nothing_is_known():
    assert decide(Producer("success", OK), [("a", None), ("b", result("pass"))]).verdict is Verdict.FAIL


def test_a_reason_is_told_once_and_each_in_a_line():
    entries = [("a", result("fail")), ("b", result("fail")), ("c", result("error"))]
    assert decide(Producer("running"), entries).reason == "orders: fail\norders: error"


def test_a_task_that_stands_for_no_node_is_skipped():
    decision = decide(Producer("running"), [])
    assert decision.verdict is Verdict.SKIP
    assert decision.reason == "this task has no node"
