"""What a later attempt builds."""

import pytest

from dbt_watch.core import resume
from dbt_watch.core.command import Selection
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.core.resume import (
    built_tasks,
    deaf_tasks,
    outdated_tasks,
    remaining_nodes,
    selection_of,
    selection_of_part,
)
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import SelectionError

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


def test_when_every_task_is_green_all_is_built_though_some_nodes_have_no_task():
    everything = ALL | {"exposure.report", "model.ephemeral"}
    assert remaining_nodes(everything, WATCHED, dict.fromkeys(WATCHED, "success")) == everything
    states = {**dict.fromkeys(WATCHED, "success"), "g.a": None}
    assert remaining_nodes(everything, WATCHED, states) >= {"model.a"}
    assert "model.b" not in remaining_nodes(everything, WATCHED, states)


@pytest.mark.parametrize(
    ("states", "nodes", "deaf"),
    [
        ({"g.a": "failed", "g.b": "upstream_failed", "g.b.test": "deferred"}, ALL, ["g.a", "g.b"]),
        ({"g.a": "failed", "g.b": None, "g.b.test": None}, {"model.b"}, []),
        ({"g.a": "success", "g.b": "skipped", "g.b.test": None}, ALL, []),
    ],
)
def test_tasks_that_have_failed_do_not_learn_of_an_attempt_that_they_were_not_cleared_with(
    states, nodes, deaf
):
    assert deaf_tasks(nodes, WATCHED, states) == deaf


def entries(**statuses):
    words = {name.replace("_", ".", 1): status for name, status in statuses.items()}
    return {
        uid: NodeResult(
            unique_id=uid, status=status, not_run=NotRun.NOTHING_TO_RUN if status == "not run" else None
        )
        for uid, status in words.items()
    }


def test_the_sensors_that_are_about_to_be_green_are_those_all_of_whose_nodes_are_built():
    both = entries(model_a="success", model_b="error", test_b1="pass", test_b2="warn")
    assert built_tasks(WATCHED, both) == {"g.a", "g.b.test"}
    assert built_tasks(WATCHED, entries(test_b1="pass", test_b2="fail")) == set()
    assert built_tasks(WATCHED, entries(test_b1="pass")) == set()


@pytest.mark.parametrize(
    ("states", "results", "exit_code", "outdated"),
    [
        ({"g.a": "failed"}, {"model_a": "success"}, 0, ["g.a"]),
        ({"g.a": "skipped"}, {"model_a": "success"}, 0, ["g.a"]),
        ({"g.a": "success"}, {"model_a": "error"}, 1, ["g.a"]),
        ({"g.a": "failed"}, {"model_a": "error"}, 1, []),
        ({"g.a": "upstream_failed"}, {"model_a": "skipped"}, 1, []),
        ({"g.a": "success"}, {"model_a": "warn"}, 0, []),
        ({"g.a": "deferred"}, {"model_a": "success"}, 0, []),
        ({"g.a": "failed"}, {"model_b": "success"}, 0, []),
        ({"g.a": "success"}, {"model_a": "not run"}, 0, []),
        ({"g.b.test": "success"}, {"test_b1": "pass", "test_b2": "fail"}, 1, ["g.b.test"]),
    ],
)
def test_tasks_that_have_ended_in_another_state_than_an_attempt_means_are_named(
    states, results, exit_code, outdated
):
    assert outdated_tasks(WATCHED, states, Closed(exit_code), entries(**results)) == outdated


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


SOURCE, MODEL = "source.landed_shop.landing.orders", "model.landed_shop.orders"


@pytest.fixture(scope="module")
def landed(landed_shop):
    return load_manifest(landed_shop / "target/manifest.json")


@pytest.mark.parametrize("others", [(), ("model.landed_shop.paid",)])  # which is ephemeral
def test_of_sources_alone_nothing_is_built(landed, others):
    assert selection_of(landed, frozenset({SOURCE, *others})) == Selection(
        sources=("source:landed_shop.landing.orders",), builds=False
    )


def test_sources_alone_may_be_too_long_for_a_command_line(landed, monkeypatch):
    monkeypatch.setattr(resume, "MAX_ARGUMENTS", len("source:landed_shop.landing.orders"))
    assert selection_of(landed, frozenset({SOURCE})) is None


def test_what_is_not_built_beside_sources_needs_no_room_on_the_command_line(landed, monkeypatch):
    monkeypatch.setattr(resume, "MAX_ARGUMENTS", len("source:landed_shop.landing.orders "))
    assert selection_of(landed, frozenset({SOURCE, "model.landed_shop.paid"})) is not None


def test_sources_are_checked_beside_what_is_built(landed):
    selection = selection_of(landed, frozenset({SOURCE, MODEL}))
    assert selection.sources == ("source:landed_shop.landing.orders",)
    assert selection.builds
    assert select_nodes(landed, select=list(selection.select), indirect_selection="empty") == {MODEL}


@pytest.mark.parametrize(("spare", "is_made"), [(0, True), (-1, False)])
def test_a_selection_may_be_as_long_as_the_command_line_allows(landed, monkeypatch, spare, is_made):
    nodes = frozenset({SOURCE, MODEL})
    whole = selection_of(landed, nodes)
    length = len(" ".join([*whole.select, *whole.sources]) + " ")
    monkeypatch.setattr(resume, "MAX_ARGUMENTS", length + spare)
    assert (selection_of(landed, nodes) is not None) is is_made


# A part of a project.


def built_by(graph, selection):
    """Return what dbt builds when it is asked so."""
    return select_nodes(
        graph,
        select=selection.select or None,
        exclude=selection.exclude or None,
        exclude_resource_types=selection.exclude_resource_types,
    )


@pytest.fixture
def half(graph):
    """Return a few nodes of the example project, and the tests of nothing but them."""
    return select_nodes(graph, select=["raw_orders", "stg_orders"], indirect_selection="cautious")


@pytest.fixture
def others(graph):
    """Return a node with all tests that touch it."""
    return select_nodes(graph, select=["raw_payments"])


@pytest.fixture
def allow(graph, monkeypatch):
    """Let the command line have room for the names of some nodes, and a byte more or less."""

    def allow(nodes, spare=0):
        room = sum(len(selection_of(graph, frozenset({node})).select[0]) + 1 for node in nodes)
        monkeypatch.setattr(resume, "MAX_ARGUMENTS", room + spare)

    return allow


def test_a_part_is_asked_for_by_the_names_of_its_nodes(graph, half):
    everything = select_nodes(graph)
    assert selection_of_part(graph, Selection(), everything, half) == selection_of(graph, half)


@pytest.mark.parametrize("whole", [Selection(), Selection(select=("+orders",), exclude=("raw_customers",))])
def test_a_part_of_too_many_nodes_is_asked_for_by_the_names_of_all_others(graph, others, allow, whole):
    everything = built_by(graph, whole)
    others &= everything
    allow(others)
    found = selection_of_part(graph, whole, everything, everything - others)
    assert found.select == whole.select
    assert found.exclude[: len(whole.exclude)] == whole.exclude
    assert len(found.exclude) == len(whole.exclude) + len(others)
    assert built_by(graph, found) == everything - others
    assert found.builds


def test_the_names_of_all_others_may_be_too_many_too(graph, others, allow):
    everything = select_nodes(graph)
    allow(others, spare=-1)
    with pytest.raises(SelectionError):
        selection_of_part(graph, Selection(), everything, everything - others)


def test_resource_types_that_a_project_leaves_out_stay_out_of_its_parts(graph, allow):
    whole = Selection(exclude_resource_types=("test", "unit_test"))
    everything = built_by(graph, whole)
    others = built_by(graph, Selection(select=("raw_orders",), exclude_resource_types=("test", "unit_test")))
    allow(others)
    found = selection_of_part(graph, whole, everything, everything - others)
    assert found.exclude_resource_types == whole.exclude_resource_types
    assert built_by(graph, found) == everything - others


@pytest.mark.parametrize(
    "whole", [Selection(selector="nightly"), Selection(sources=("source:landing.orders",))]
)
def test_a_large_part_of_what_nothing_can_be_taken_from_by_names_is_refused(graph, others, allow, whole):
    everything = select_nodes(graph)
    allow(others)
    with pytest.raises(SelectionError):
        selection_of_part(graph, whole, everything, everything - others)


def test_a_part_that_dbt_cannot_be_asked_for_is_refused_with_its_size(graph, half, monkeypatch):
    monkeypatch.setattr(resume, "MAX_ARGUMENTS", 10)
    with pytest.raises(SelectionError) as caught:
        selection_of_part(graph, Selection(), select_nodes(graph), half)
    assert str(caught.value) == (
        f"isolate='{len(half)} nodes': expected nodes that one dbt command can select by name: some names are ambiguous, or the list is too long"
    )


def test_a_part_whose_own_names_match_more_is_asked_for_by_those_of_all_others(graph, half, monkeypatch):
    monkeypatch.setattr(resume, "selection_of", lambda graph, nodes: None)
    found = selection_of_part(graph, Selection(), select_nodes(graph), half)
    assert not found.select
    assert built_by(graph, found) == half


def test_a_part_of_which_dbt_would_build_more_than_that_is_refused(graph, half, others, monkeypatch):
    monkeypatch.setattr(resume, "selection_of", lambda graph, nodes: None)
    with pytest.raises(SelectionError):
        selection_of_part(graph, Selection(), half | others, half)
