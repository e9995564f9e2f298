"""What stale sources mean for the nodes behind them, and for the end of an attempt."""

import pytest

from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.outcome import Producer, Verdict, decide
from dbt_watch.core.results import NodeInfo, NodeResult, NotRun

RAW, OTHER, ORDERS, CUSTOMERS = (
    "source.shop.raw.orders",
    "source.shop.raw.x",
    "model.shop.orders",
    "model.shop.c",
)
NODES = {
    RAW: NodeInfo("orders", "source"),
    OTHER: NodeInfo("x", "source"),
    ORDERS: NodeInfo(
        "orders", "model"
    ),  # reads both, though nothing here says so: the way is not part of the attempt
    CUSTOMERS: NodeInfo("c", "model"),
}
READERS = {RAW: (ORDERS,), OTHER: (ORDERS,)}


def closed(tell, statuses, *, on_stale="fail", exit_code=0):
    """Return the ledger of an attempt that has ended, and how it has."""
    stale = StaleSources(READERS, on_stale)
    ledger = Ledger(NODES, stale=stale)
    for unique_id, status in statuses.items():
        event = "LogModelResult" if unique_id.startswith("model") else "LogFreshnessResult"
        ledger.apply(tell(event, unique_id, status, status=status))
    ledger.close(exit_code)
    return ledger.entries, stale.end(Closed(exit_code), ledger.entries)


@pytest.fixture
def tell():
    from test_ledger import Teller  # noqa: PLC0415 - of the tests beside this one

    return Teller()


def sensor(entries, unique_id, end):
    return decide(Producer("failed" if end.exit_code else "success", end), [(unique_id, entries[unique_id])])


def test_what_reads_from_a_stale_source_fails_with_it(tell):
    entries, end = closed(tell, {RAW: "error", OTHER: "warn", CUSTOMERS: "success"})
    assert end == Closed(1, "1 source is stale: raw.orders")
    orders = entries[ORDERS]
    assert (orders.status, orders.skipped_because, orders.not_run) == ("skipped", (RAW,), None)
    decision = sensor(entries, ORDERS, end)
    assert decision.verdict is Verdict.FAIL
    assert decision.reason == "orders: not built: source `raw.orders` is stale"
    assert sensor(entries, CUSTOMERS, end).verdict is Verdict.SUCCEED
    assert sensor(entries, OTHER, end).verdict is Verdict.SUCCEED


def test_a_stale_source_says_so_itself(tell):
    entries, end = closed(tell, {RAW: "error", OTHER: "warn"})
    decision = sensor(entries, RAW, end)
    assert decision.verdict is Verdict.FAIL
    assert decision.reason.startswith("raw.orders: error: stale")
    assert "warn_after" in entries[OTHER].message


def test_what_reads_from_a_stale_source_is_skipped_on_request(tell):
    entries, end = closed(tell, {RAW: "error", OTHER: "pass", CUSTOMERS: "success"}, on_stale="skip")
    assert end == Closed(0)
    assert (entries[ORDERS].status, entries[ORDERS].not_run) == ("not run", NotRun.STALE_SOURCE)
    decision = sensor(entries, ORDERS, end)
    assert decision.verdict is Verdict.SKIP
    assert "source `raw.orders` is stale" in decision.reason
    assert sensor(entries, RAW, end).verdict is Verdict.FAIL


@pytest.mark.parametrize("on_stale", ["fail", "skip"])
def test_it_waits_while_another_attempt_will_check_again(tell, on_stale):
    entries, end = closed(tell, {RAW: "error", CUSTOMERS: "error"}, on_stale=on_stale, exit_code=1)
    running = Producer("running", end, will_retry=True)
    for unique_id in (RAW, ORDERS):
        assert decide(running, [(unique_id, entries[unique_id])]).verdict is Verdict.WAIT


def test_a_source_that_cannot_be_checked_counts_like_a_stale_one(tell):
    entries, end = closed(tell, {RAW: "runtime error", OTHER: "error"})
    assert end.reason == "1 source could not be checked: raw.orders; 1 source is stale: raw.x"
    assert entries[ORDERS].message == "source `raw.orders` could not be checked, source `raw.x` is stale"


def test_when_all_are_fresh_nothing_changes(tell):
    entries, end = closed(tell, {RAW: "pass", OTHER: "warn", ORDERS: "success", CUSTOMERS: "success"})
    assert end == Closed(0)
    assert entries[ORDERS].is_success


def test_a_node_that_was_built_after_all_is_believed(tell):
    entries, _ = closed(tell, {RAW: "error", OTHER: "pass", ORDERS: "success"})
    assert entries[ORDERS].is_success


@pytest.mark.parametrize("exit_code", [2, 137, None])
def test_the_end_of_a_broken_dbt_stays_what_it_is(tell, exit_code):
    entries, end = closed(tell, {RAW: "error"}, exit_code=exit_code)
    assert end == Closed(exit_code)
    assert entries[ORDERS].is_skipped
    assert entries[CUSTOMERS].not_run is NotRun.ENDED_EARLY


def test_many_stale_sources_are_counted_and_the_first_named():
    names = [f"s{number:02}" for number in range(12)]
    entries = {
        f"source.shop.raw.{name}": NodeResult(
            unique_id=f"source.shop.raw.{name}", name=name, resource_type="source", status="error"
        )
        for name in names
    }
    end = StaleSources(dict.fromkeys(entries, ())).end(Closed(1), entries)
    assert end.reason == f"12 sources are stale: {', '.join(f'raw.{name}' for name in names[:10])} ..."
