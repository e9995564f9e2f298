"""Which nodes of a part are not built because of what came before, and what is said of them."""

import pytest

from dbt_watch.core.held_back import HeldBack, UpstreamEnd, held_back
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.core.part import Upstream
from dbt_watch.core.results import NodeResult, NotRun

NAMES = {
    "model.shop.orders": (),
    "model.shop.heavy": ("model.shop.orders",),
    "model.shop.report": ("model.shop.heavy",),
    "model.shop.apart": (),
    "test.shop.unique_report.0123456789": ("model.shop.report",),
}
OURS = frozenset(NAMES) - {"model.shop.orders"}
ORDERS = Upstream("build.orders", "model.shop.orders", ("model.shop.heavy",))
SOURCE = Upstream("build.source.raw.orders", "source.shop.raw.orders", ("model.shop.heavy",))
FIT = Upstream("fit", None, ("model.shop.report",))


@pytest.fixture
def graph():
    nodes = [
        Node(key, key.split(".")[2], key.split(".")[0], "shop", depends_on=parents)
        for key, parents in NAMES.items()
    ]
    return Graph(Facts("1.11", "shop"), nodes)


def result(unique_id, status, **values):
    return NodeResult(unique_id=unique_id, status=status, **values)


def held(graph, *ends, **options):
    upstreams = [upstream for upstream, *_ in ends]
    found = {upstream.task_id: UpstreamEnd(state, tuple(results)) for upstream, state, *results in ends}
    return held_back(graph, OURS, upstreams, found, **options)


def entries(found):
    return {entry.unique_id: entry for entry in found.entries}


def test_nothing_is_held_back_by_what_has_ended_well(graph):
    assert held(graph, (ORDERS, "success"), (FIT, "success")) == HeldBack()


def test_all_that_depends_on_a_failed_node_is_skipped_because_of_it_and_nothing_else_is(graph):
    found = held(graph, (ORDERS, "failed", result("model.shop.orders", "error")))
    assert found.nodes == OURS - {"model.shop.apart"}
    for entry in found.entries:
        assert (entry.status, entry.skipped_because) == ("skipped", ("model.shop.orders",))
        assert entry.message is None
    assert found.reason == "3 nodes were not built: upstream `orders` failed"


@pytest.mark.parametrize("state", ["failed", "upstream_failed"])
def test_a_task_that_left_no_result_counts_for_its_node(graph, state):
    found = held(graph, (ORDERS, state))
    assert entries(found)["model.shop.heavy"].skipped_because == ("model.shop.orders",)


def test_a_failed_test_is_named_and_not_the_node_that_it_tests(graph):
    test = result("test.shop.unique_orders.0123456789", "fail")
    found = held(graph, (ORDERS, "failed", result("model.shop.orders", "success"), test))
    assert entries(found)["model.shop.heavy"].skipped_because == (test.unique_id,)
    assert found.reason == "3 nodes were not built: upstream `unique_orders` failed"


def test_what_was_held_back_itself_names_the_node_that_failed_first(graph):
    skipped = result("model.shop.orders", "skipped", skipped_because=("model.shop.raw",))
    found = held(graph, (ORDERS, "failed", skipped))
    assert entries(found)["model.shop.heavy"].skipped_because == ("model.shop.raw",)


@pytest.mark.parametrize("reason", [NotRun.LEFT_OUT, NotRun.EPHEMERAL, NotRun.NOTHING_TO_RUN])
def test_what_dbt_had_nothing_to_do_for_holds_nothing_back(graph, reason):
    assert (
        held(graph, (ORDERS, "skipped", result("model.shop.orders", "not run", not_run=reason))) == HeldBack()
    )


@pytest.mark.parametrize(
    "results", [(), (result("model.shop.orders", "not run", not_run=NotRun.UPSTREAM_SKIPPED),)]
)
def test_what_was_skipped_otherwise_has_what_needs_it_skipped(graph, results):
    found = held(graph, (ORDERS, "skipped", *results))
    entry = entries(found)["model.shop.heavy"]
    assert (entry.status, entry.not_run) == ("not run", NotRun.UPSTREAM_SKIPPED)
    assert entry.message == "upstream `orders` was skipped"
    assert found.reason == ""


def test_a_task_that_is_none_of_the_project_s_is_named_as_it_is(graph):
    found = held(graph, (FIT, "failed"))
    entry = entries(found)["model.shop.report"]
    assert (entry.status, entry.skipped_because, entry.message) == ("skipped", (), "task `fit` failed")
    assert found.reason == "2 nodes were not built: upstream `fit` failed"


def test_a_task_in_the_middle_that_was_skipped_has_the_nodes_behind_it_skipped(graph):
    found = held(graph, (FIT, "skipped"))
    assert entries(found)["model.shop.report"].message == "task `fit` was skipped"
    assert found.nodes == {"model.shop.report", "test.shop.unique_report.0123456789"}


def test_of_several_causes_a_failure_counts(graph):
    found = held(graph, (ORDERS, "skipped"), (FIT, "failed"))
    assert entries(found)["model.shop.heavy"].not_run is NotRun.UPSTREAM_SKIPPED
    assert entries(found)["model.shop.report"].status == "skipped"


def test_readers_of_a_stale_source_fail_with_what_is_the_matter_with_it(graph):
    found = held(graph, (SOURCE, "failed", result("source.shop.raw.orders", "error")))
    entry = entries(found)["model.shop.heavy"]
    assert (entry.status, entry.skipped_because) == ("skipped", ("source.shop.raw.orders",))
    assert entry.message == "source `raw.orders` is stale"


def test_readers_of_a_stale_source_are_skipped_where_that_is_asked_for(graph):
    found = held(graph, (SOURCE, "failed", result("source.shop.raw.orders", "error")), on_stale="skip")
    entry = entries(found)["model.shop.heavy"]
    assert (entry.status, entry.not_run) == ("not run", NotRun.STALE_SOURCE)
    assert entry.message == "source `raw.orders` is stale"
    assert found.reason == ""


def test_an_attempt_that_held_something_back_for_a_failure_ends_badly_however_well_dbt_did():
    held_back_some = HeldBack(reason="2 nodes were not built: upstream `orders` failed")
    closed = held_back_some.end(Closed(0))
    assert (closed.exit_code, closed.reason) == (1, held_back_some.reason)
    assert held_back_some.caused(closed)
    assert not held_back_some.caused(Closed(1, "another reason"))


@pytest.mark.parametrize("closed", [Closed(1, "a node failed"), Closed(None, "the pod was lost"), Closed(2)])
def test_the_end_of_dbt_counts_where_that_is_bad_itself(closed):
    assert HeldBack(reason="2 nodes were not built").end(closed) == closed


def test_what_was_only_skipped_leaves_the_end_as_it_is():
    assert HeldBack().end(Closed(0)) == Closed(0)


def test_one_node_is_told_in_the_singular_and_many_causes_are_cut(graph):
    many = [Upstream(f"task{number:02}", None, ("model.shop.apart",)) for number in range(12)]
    found = held(graph, *((upstream, "failed") for upstream in many))
    assert found.reason.startswith("1 node was not built: upstream `task00`, `task01`")
    assert found.reason.endswith("`task09` and 2 more failed")
