"""What a later attempt builds."""

import pytest

from dbt_watch.core import resume
from dbt_watch.core.resume import remaining_nodes, selection_of
from dbt_watch.core.selection import select_nodes

WATCHED = {"g.a": ["model.a"], "g.b": ["model.b"], "g.b.test": ["test.b1", "test.b2"]}
ALL = {"model.a", "model.b", "test.b1", "test.b2"}


@pytest.mark.parametrize(
    ("states", "remaining"),
    [
        ({"g.a": "success", "g.b": "failed", "g.b.test": "deferred"}, {"model.b", "test.b1", "test.b2"}),
        ({"g.a": "success", "g.b": "success", "g.b.test": "failed"}, {"test.b1", "test.b2"}),
        ({"g.a": "success", "g.b": "success"}, {"test.b1", "test.b2"}),
        ({"g.a": "deferred", "g.b": "deferred", "g.b.test": None}, ALL),
        ({"g.a": "skipped", "g.b": "upstream_failed", "g.b.test": "removed"}, ALL),
        ({}, ALL),
    ],
)
def test_what_is_not_done_is_built_again(states, remaining):
    assert remaining_nodes(ALL, WATCHED, states) == remaining


def test_a_run_that_is_asked_for_again_when_all_is_done_builds_all():
    assert remaining_nodes(ALL, WATCHED, dict.fromkeys(WATCHED, "success")) == ALL


def test_each_single_node_of_a_project_can_be_asked_for_alone(graph):
    for node in select_nodes(graph):
        selection = selection_of(graph, frozenset({node}))
        assert selection is not None, node
        assert select_nodes(graph, select=list(selection.select), indirect_selection="empty") == {node}
        assert selection.arguments()[-2:] == ["--indirect-selection", "empty"]


def test_a_selection_that_is_too_long_for_a_command_line_is_not_made(graph, monkeypatch):
    monkeypatch.setattr(resume, "MAX_ARGUMENTS", 100)
    assert selection_of(graph, select_nodes(graph)) is None
    assert selection_of(graph, frozenset({"seed.jaffle_shop.raw_orders"})) is not None
