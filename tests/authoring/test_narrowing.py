"""A selection that is narrowed when dbt runs."""

import pytest

from dbt_watch.core.command import Selection
from dbt_watch.core.outcome import Producer, Verdict, decide
from dbt_watch.core.selection import select_nodes
from dbt_watch.core.selection.run_time import narrowed
from dbt_watch.exceptions import ArgumentError, SelectionError

ALL = Selection()


@pytest.fixture
def everything(graph):
    return select_nodes(graph)


@pytest.mark.parametrize("options", [{}, {"select": ""}, {"select": None, "exclude": []}, {"exclude": " "}])
def test_nothing_said_leaves_everything(graph, everything, options):
    left = narrowed(graph, everything, ALL, options)
    assert (left.nodes, left.selection, left.left_out) == (everything, ALL, ())


def test_what_is_left_is_part_of_the_selection_and_dbt_is_asked_for_just_that(graph, everything):
    selected = select_nodes(graph, select="+orders")
    left = narrowed(graph, selected, Selection(select=("+orders",)), {"select": "orders+"})
    assert left.nodes == selected & select_nodes(graph, select="orders+")
    again = select_nodes(
        graph, select=left.selection.select, indirect_selection=left.selection.indirect_selection
    )
    assert again == left.nodes


def test_nodes_can_be_left_out_by_name(graph, everything):
    left = narrowed(graph, everything, ALL, {"exclude": ["customers", "daily_revenue"]})
    assert "model.jaffle_shop.customers" not in left.nodes
    assert "model.jaffle_shop.orders" in left.nodes


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_sensor_of_a_node_that_was_left_out_is_skipped_with_the_reason(graph, everything, state):
    left = narrowed(graph, everything, ALL, {"select": "raw_orders", "exclude": "test_type:unit"})
    assert {result.unique_id for result in left.left_out} == everything - left.nodes
    orders = next(result for result in left.left_out if result.name == "orders")
    from dbt_watch.core.journal.format import Closed  # noqa: PLC0415

    closed = Closed(0 if state == "success" else 1, None)
    decision = decide(Producer(state, closed), [(orders.unique_id, orders)])
    assert decision.verdict is Verdict.SKIP
    assert "left out of this run by --select raw_orders --exclude test_type:unit" in decision.reason


@pytest.mark.parametrize(
    "options", [{"select": "no_such_model"}, {"select": "customers", "exclude": "customers"}]
)
def test_a_selection_that_leaves_nothing_is_an_error_of_the_run(graph, everything, options):
    with pytest.raises(SelectionError, match="matches at least one node"):
        narrowed(graph, select_nodes(graph, select="customers", indirect_selection="empty"), ALL, options)


def test_something_that_is_no_selection(graph, everything):
    with pytest.raises(ArgumentError, match="select=7: expected a selection"):
        narrowed(graph, everything, ALL, {"select": 7})


def test_a_part_that_matches_nothing_is_told_when_dbt_runs(graph, everything):
    unmatched = []
    narrowed(graph, everything, ALL, {"select": "orders no_such_model"}, on_unmatched=unmatched.append)
    assert [found.text for found in unmatched] == ["no_such_model"]
