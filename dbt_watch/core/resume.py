"""
What a later attempt still has to build, and how dbt is asked for just that.

`producers.retry_plan` asks before each attempt but the first, `producers.task_end` which sensors contradict an attempt after it.
What is done is known from the states of the sensors, which outlive attempts and clears on every version of Airflow: a cleared
sensor is not done, a sensor that was marked as success is. `selection_of` also serves a narrowed selection and a build of
single nodes.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from dbt_watch.core.command import Selection
from dbt_watch.core.outcome import Producer, Verdict, decide
from dbt_watch.core.results import NOT_DUE
from dbt_watch.core.selection import select_nodes
from dbt_watch.core.selection.source_freshness import SOURCE, source_criterion
from dbt_watch.core.task_states import FAILED, RED, SKIPPED, SUCCESS
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.core.results import NodeResult

# In bytes. Kubernetes stores an object of 1.5 MB at most, and Linux takes 2 MB of arguments.
MAX_ARGUMENTS: Final = 500_000


def remaining_nodes(
    selected: Iterable[str], watched: Mapping[str, Iterable[str]], states: Mapping[str, str | None]
) -> frozenset[str]:
    """
    Return the nodes that are not done.

    :param selected: the unique_ids of the whole project's selection
    :param watched: the unique_ids that each sensor stands for, by its task id
    :param states: the state of each sensor, by its task id
    :returns: all of them when none is left that has a sensor: then the run was asked for anew
    """
    everything = frozenset(selected)
    done = {node for task, nodes in watched.items() if states.get(task) == SUCCESS for node in nodes}
    left = everything - done
    # Exposures and ephemeral models have no sensor, so they are never done.
    is_any_watched = any(node in left for nodes in watched.values() for node in nodes)
    return left if is_any_watched else everything


def built_tasks(watched: Mapping[str, Iterable[str]], entries: Mapping[str, NodeResult]) -> frozenset[str]:
    """
    Return the sensors all of whose nodes an attempt has built, so that they are about to be green.

    :param watched: see `remaining_nodes`
    :param entries: the final results of the attempt by unique_id
    """
    built = {unique_id for unique_id, entry in entries.items() if entry.is_success or entry.is_warning}
    return frozenset(task for task, nodes in watched.items() if built.issuperset(nodes))


def deaf_tasks(
    nodes: Collection[str], watched: Mapping[str, Iterable[str]], states: Mapping[str, str | None]
) -> list[str]:
    """
    Return the sensors that have failed before an attempt that is going to build their nodes: they will not learn of it.

    :param nodes: the unique_ids of what is to be built
    :param watched: see `remaining_nodes`
    :param states: likewise
    """
    return [
        task
        for task, unique_ids in watched.items()
        if states.get(task) in _STATES[Verdict.FAIL] and any(node in nodes for node in unique_ids)
    ]


def outdated_tasks(
    watched: Mapping[str, Iterable[str]],
    states: Mapping[str, str | None],
    closed: Closed,
    entries: Mapping[str, NodeResult],
) -> list[str]:
    """
    Return the sensors that have ended in another state than the one that an attempt's results mean for them.

    They ended before the attempt, and were not cleared with the producer. One that still waits for it does not count, and
    what was left out of the attempt contradicts nothing.

    :param watched: see `remaining_nodes`
    :param states: likewise, after the attempt
    :param closed: how the attempt has ended
    :param entries: its final results by unique_id
    """
    producer = Producer(SUCCESS if closed.exit_code == 0 else FAILED, closed)
    outdated = []
    for task, unique_ids in watched.items():
        found = [entries[unique_id] for unique_id in unique_ids if unique_id in entries]
        nodes = [(result.unique_id, result) for result in found if result.not_run not in NOT_DUE]
        if nodes and states.get(task) in _ENDED:
            meant = _STATES[decide(producer, nodes).verdict]
            if states[task] not in meant:
                outdated.append(task)
    return outdated


_STATES: Final[Mapping[Verdict, frozenset[str]]] = {
    Verdict.SUCCEED: frozenset({SUCCESS}),
    Verdict.FAIL: RED,
    Verdict.SKIP: frozenset({SKIPPED}),
}
_ENDED: Final = frozenset(state for states in _STATES.values() for state in states)


def selection_of(graph: Graph, nodes: frozenset[str]) -> Selection | None:
    """
    Return a selection that makes dbt build these nodes and no others, and check the sources among them.

    :param graph: the project
    :param nodes: their unique_ids
    :returns: None when there is none that fits, or that is short enough
    """
    checked = {node for node in nodes if graph.nodes[node].resource_type == SOURCE}
    sources = tuple(sorted(source_criterion(graph.nodes[node]) for node in checked))
    built = built_among(graph, nodes - checked)
    only_checks = bool(checked) and not built
    others = () if only_checks else nodes - checked
    criteria = tuple(sorted({criterion_of(graph.nodes[node]) for node in others}))
    if sum(len(criterion.encode()) + 1 for criterion in criteria + sources) > MAX_ARGUMENTS:
        return None
    if only_checks:
        return Selection(sources=sources, builds=False)
    try:
        # dbt's own rules decide what a criterion matches.
        found = select_nodes(graph, select=criteria, indirect_selection="empty")
    except SelectionError:
        return None
    if built_among(graph, found) != built:
        return None
    return Selection(select=criteria, indirect_selection="empty", sources=sources)


def selection_of_part(
    graph: Graph, whole: Selection, selected: frozenset[str], nodes: frozenset[str]
) -> Selection:
    """
    Return a selection of some nodes of a larger one: by their names, or by those of all others where that is shorter.

    :param graph: the project
    :param whole: the larger selection
    :param selected: the unique_ids of its nodes
    :param nodes: those that are wanted
    :raises SelectionError: when dbt cannot be asked for just these
    """
    explicit = selection_of(graph, nodes)
    if explicit is not None:
        return explicit
    others = tuple(sorted({criterion_of(graph.nodes[node]) for node in selected - nodes}))
    is_short = sum(len(criterion.encode()) + 1 for criterion in others) <= MAX_ARGUMENTS
    # dbt takes no exclusions beside a YAML selector, and sources are checked by their names.
    if is_short and whole.selector is None and not whole.sources:
        exclude = (*whole.exclude, *others)
        found = select_nodes(
            graph,
            select=whole.select or None,
            exclude=exclude,
            exclude_resource_types=whole.exclude_resource_types,
        )
        if built_among(graph, found) == built_among(graph, nodes):
            return Selection(
                select=whole.select, exclude=exclude, exclude_resource_types=whole.exclude_resource_types
            )
    raise SelectionError(
        "isolate",
        f"{len(nodes)} nodes",
        "nodes that one dbt command can select by name: some names are ambiguous, or the list is too long",
    )


def criterion_of(node: Node) -> str:
    """
    Return the criterion that names one node, and no source, in dbt's selection syntax.

    A model's name alone may be that of a folder too, and its unit tests lie below it.
    """
    file = PurePosixPath(node.path).name
    return f"fqn:{'.'.join(node.fqn)},resource_type:{node.resource_type},file:{file}"


def built_among(graph: Graph, nodes: Iterable[str]) -> set[str]:
    """Return those of some nodes that dbt builds on their own."""
    # An ephemeral model is not built on its own; it may be in a selection or not.
    return {node for node in nodes if graph.nodes[node].materialized != "ephemeral"}
