"""What a command of dbt runs of its selection, and what waits for what, as dbt decides it: `run_order`. `player` asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbt_watch.core.manifest.graph import Graph

TESTS: Final = frozenset({"test", "unit_test"})


def run_order(graph: Graph, selected: Iterable[str], *, tests_block: bool) -> dict[str, tuple[str, ...]]:
    """
    Return the nodes that are run, in the manifest's order, each with those that it waits for.

    Between two nodes that are selected there may be others that are not, or ephemeral ones. In a build, a node waits for the
    tests of what it is made of too, and a model for its own unit tests.

    :param graph: the project
    :param selected: the unique_ids of the selection
    :param tests_block: whether it is a build
    """
    wanted = set(selected)
    runs = [
        unique_id
        for unique_id, node in graph.nodes.items()
        if unique_id in wanted and node.materialized != "ephemeral"
    ]
    running = set(runs)
    waits = {unique_id: _nearest(graph, unique_id, running) for unique_id in runs}
    if tests_block:
        _add_tests(graph, waits)
        _add_unit_tests(graph, waits)
    return {unique_id: tuple(sorted(before)) for unique_id, before in waits.items()}


def _nearest(graph: Graph, unique_id: str, running: set[str]) -> set[str]:
    """Return the nearest ancestors that are run."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(graph.parents(unique_id))
    while waiting:
        parent = waiting.pop()
        if parent in seen:
            continue
        seen.add(parent)
        if parent in running:
            found.add(parent)
        else:
            waiting += graph.parents(parent)
    return found


def _add_tests(graph: Graph, waits: dict[str, set[str]]) -> None:
    """Have each node wait for the tests of which all that they test comes before it."""
    tests_of: dict[str, list[str]] = {}
    for unique_id in waits:
        if graph.nodes[unique_id].resource_type == "test":
            for tested in graph.parents(unique_id):
                tests_of.setdefault(tested, []).append(unique_id)
    ancestors: dict[str, frozenset[str]] = {}
    for unique_id, wanted in waits.items():
        if _is_test(graph, unique_id):
            continue
        before = ancestors_of(graph.parent_map, unique_id, ancestors)
        for ancestor in before & tests_of.keys():
            wanted.update(test for test in tests_of[ancestor] if before.issuperset(graph.parents(test)))


def _add_unit_tests(graph: Graph, waits: dict[str, set[str]]) -> None:
    """Have each model wait for its unit tests, and these for whatever the model waits for."""
    for unique_id in waits:
        if graph.nodes[unique_id].resource_type != "unit_test":
            continue
        models = set(graph.parents(unique_id)) & waits.keys()
        waits[unique_id] = {
            before
            for model in models
            for before in waits[model]
            if graph.nodes[before].resource_type != "unit_test"
        }
        for model in models:
            waits[model].add(unique_id)


def ancestors_of(
    parents: Mapping[str, tuple[str, ...]], unique_id: str, known: dict[str, frozenset[str]]
) -> frozenset[str]:
    """
    Return all that a node depends on.

    :param parents: of each node
    :param known: what was found so far, of any node; it is added to
    """
    waiting = [unique_id]
    while waiting:
        node = waiting[-1]
        unknown = [parent for parent in parents[node] if parent not in known]
        if unknown:
            waiting += unknown
            continue
        waiting.pop()
        known[node] = frozenset(parents[node]).union(*(known[parent] for parent in parents[node]))
    return known[unique_id]


def _is_test(graph: Graph, unique_id: str) -> bool:
    return graph.nodes[unique_id].resource_type in TESTS
