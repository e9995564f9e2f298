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
        assert (entry.message, entry.attempt) == (None, 1)
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


@pytest.mark.parametrize(("count", "end"), [(10, "`task09` failed"), (11, "`task09` and 1 more failed")])
def test_ten_causes_are_all_named(graph, count, end):
    many = [Upstream(f"task{number:02}", None, ("model.shop.apart",)) for number in range(count)]
    assert held(graph, *((upstream, "failed") for upstream in many)).reason.endswith(f", {end}")


def test_the_entry_of_a_node_says_what_it_is_and_of_which_attempt(graph):
    found = held(graph, (ORDERS, "failed"), attempt=3)
    assert [entry.unique_id for entry in found.entries] == sorted(OURS - {"model.shop.apart"})
    entry = entries(found)["model.shop.heavy"]
    assert (entry.name, entry.resource_type, entry.attempt) == ("heavy", "model", 3)


def test_each_cause_is_named_once_in_the_order_of_the_tasks(graph):
    failed = [result("model.shop.b", "error"), result("model.shop.a", "error")]
    skipped = result("model.shop.orders", "skipped", skipped_because=("model.shop.a", "model.shop.c"))
    other = Upstream("build.other", "model.shop.b", ("model.shop.heavy",))
    found = held(graph, (other, "failed", *failed), (ORDERS, "failed", skipped))
    assert entries(found)["model.shop.heavy"].skipped_because == (
        "model.shop.b", "model.shop.a", "model.shop.c",
    )  # fmt: skip
    assert found.reason == "3 nodes were not built: upstream `b`, `a`, `c` failed"


def test_a_skipped_node_that_does_not_say_why_is_the_cause_itself(graph):
    found = held(graph, (ORDERS, "failed", result("model.shop.orders", "skipped")))
    assert entries(found)["model.shop.heavy"].skipped_because == ("model.shop.orders",)


def test_a_node_that_a_lost_pod_had_not_built_is_the_cause_itself(graph):
    unfinished = result("model.shop.orders", "not run", not_run=NotRun.UNFINISHED, message="the pod was lost")
    found = held(graph, (ORDERS, "failed", unfinished))
    assert entries(found)["model.shop.heavy"].skipped_because == ("model.shop.orders",)


def test_what_a_run_leaves_out_is_not_held_back_and_still_passes_a_failure_on(graph):
    upstreams = {ORDERS.task_id: UpstreamEnd("failed")}
    assert held_back(graph, {"model.shop.report"}, [ORDERS], upstreams).nodes == {"model.shop.report"}


def test_a_node_that_failed_counts_for_more_than_a_task_that_did(graph):
    entry = entries(held(graph, (FIT, "failed"), (ORDERS, "failed")))["model.shop.report"]
    assert (entry.skipped_because, entry.message) == (("model.shop.orders",), None)


@pytest.mark.parametrize(
    ("status", "fault"), [("error", "is stale"), ("runtime error", "could not be checked"), (None, "failed")]
)
def test_beside_a_source_all_causes_are_told(graph, status, fault):
    checked = [result("source.shop.raw.orders", status)] if status else []
    behind = Upstream("fit", None, ("model.shop.heavy",))
    entry = entries(held(graph, (SOURCE, "failed", *checked), (behind, "failed")))["model.shop.heavy"]
    what = "source" if status else "upstream"
    assert entry.message == f"{what} `raw.orders` {fault}, task `fit` failed"
    assert entry.skipped_because == ("source.shop.raw.orders",)


def test_a_source_is_named_in_the_reason_as_people_call_it(graph):
    found = held(graph, (SOURCE, "failed", result("source.shop.raw.orders", "error")))
    assert found.reason == "3 nodes were not built: upstream `raw.orders` failed"


def test_all_that_was_skipped_before_a_node_is_told(graph):
    behind = Upstream("fit", None, ("model.shop.heavy",))
    entry = entries(held(graph, (behind, "skipped"), (ORDERS, "skipped")))["model.shop.heavy"]
    assert entry.message == "task `fit` was skipped, upstream `orders` was skipped"
    assert (entry.status, entry.not_run, entry.skipped_because) == ("not run", NotRun.UPSTREAM_SKIPPED, ())


def test_readers_of_a_source_that_was_not_checked_are_skipped_as_behind_any_other_task(graph):
    entry = entries(held(graph, (SOURCE, "skipped")))["model.shop.heavy"]
    assert (entry.not_run, entry.message) == (
        NotRun.UPSTREAM_SKIPPED, "upstream `raw.orders` was skipped",
    )  # fmt: skip


def test_that_a_stale_source_is_no_failure_makes_no_other_failure_a_skip(graph):
    found = held(graph, (ORDERS, "failed"), (FIT, "failed"), on_stale="skip")
    assert {entry.status for entry in found.entries} == {"skipped"}


def test_a_node_behind_a_stale_source_and_a_failure_has_failed_for_the_failure(graph):
    stale = (SOURCE, "failed", result("source.shop.raw.orders", "error"))
    entry = entries(held(graph, stale, (ORDERS, "failed"), on_stale="skip"))["model.shop.heavy"]
    assert (entry.status, entry.skipped_because) == ("skipped", ("model.shop.orders",))


def test_of_several_results_one_that_was_skipped_is_enough_to_pass_that_on(graph):
    left_out, skipped = (
        result(f"test.shop.{name}", "not run", not_run=why)
        for name, why in (("a", NotRun.LEFT_OUT), ("b", NotRun.UPSTREAM_SKIPPED))
    )
    found = held(graph, (ORDERS, "skipped", left_out, skipped))
    assert entries(found)["model.shop.heavy"].not_run is NotRun.UPSTREAM_SKIPPED


def test_what_dbt_skipped_though_it_ended_well_has_what_needs_it_skipped_as_in_one_pod(graph):
    skipped = result("model.shop.orders", "skipped", message="as Fusion says")
    found = held(graph, (ORDERS, "skipped", skipped))
    entry = entries(found)["model.shop.heavy"]
    assert (entry.not_run, entry.message) == (NotRun.UPSTREAM_SKIPPED, "upstream `orders` was skipped")
    assert found.reason == ""


@pytest.mark.parametrize("tested", ["pass", "warn"])
def test_a_node_that_was_left_out_holds_nothing_back_whatever_became_of_a_test_of_its_task(graph, tested):
    left_out = result("model.shop.orders", "not run", not_run=NotRun.LEFT_OUT)
    found = held(graph, (ORDERS, "success", left_out, result("test.shop.a", tested)))
    assert found == HeldBack()


def test_readers_of_a_stale_source_that_were_skipped_have_theirs_skipped_too(graph):
    stale = result("model.shop.orders", "not run", not_run=NotRun.STALE_SOURCE)
    assert held(graph, (ORDERS, "skipped", stale)).nodes == OURS - {"model.shop.apart"}


@pytest.mark.parametrize("closed", [Closed(None, "why"), Closed(2, "why"), Closed(0, "why"), Closed(1)])
def test_an_attempt_whose_end_is_another_was_not_ended_by_what_came_before(closed):
    assert not HeldBack(reason="why").caused(closed)


@pytest.mark.parametrize("reason", [None, ""])
def test_where_nothing_was_held_back_nothing_was_ended_by_that(reason):
    assert not HeldBack().caused(Closed(1, reason))


def test_of_a_good_end_nothing_but_the_exit_code_and_the_reason_is_changed():
    closed = Closed(0, "all well")
    assert HeldBack(reason="why").end(closed) == Closed(1, "why")
    assert closed == Closed(0, "all well")
