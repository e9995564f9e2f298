"""
What a later attempt still has to build, and how dbt is asked for just that.

The producer asks before each attempt but the first. What is done is known from the states of the sensors, which
outlive attempts and clears on every version of Airflow: a cleared sensor is not done, a sensor that was marked as
success is.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from dbt_watch.core.command import Selection
from dbt_watch.core.freshness import SOURCE, source_criterion
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbt_watch.core.graph import Graph, Node

# In bytes. Kubernetes stores an object of 1.5 MB at most, and Linux takes 2 MB of arguments.
MAX_ARGUMENTS: Final = 500_000


def remaining_nodes(
    selected: Iterable[str], watched: Mapping[str, Iterable[str]], states: Mapping[str, str | None]
) -> frozenset[str]:
    """
    Give the nodes that are not done.

    :param selected: the unique_ids of the whole project's selection
    :param watched: the unique_ids that each sensor stands for, by its task id
    :param states: the state of each sensor, by its task id
    :returns: all of them when none is left: then the run was asked for anew
    """
    everything = frozenset(selected)
    done = {node for task, nodes in watched.items() if states.get(task) == "success" for node in nodes}
    return (everything - done) or everything


def selection_of(graph: Graph, nodes: frozenset[str]) -> Selection | None:
    """
    Give a selection that makes dbt build these nodes and no others, and check the sources among them.

    :param graph: the project
    :param nodes: their unique_ids
    :returns: None when there is none that fits, or that is short enough
    """
    checked = {node for node in nodes if graph.nodes[node].resource_type == SOURCE}
    sources = tuple(sorted(source_criterion(graph.nodes[node]) for node in checked))
    built = _built(graph, nodes - checked)
    if checked and not built:
        return Selection(sources=sources, builds=False)
    criteria = tuple(sorted({criterion_of(graph.nodes[node]) for node in nodes - checked}))
    if sum(len(criterion.encode()) + 1 for criterion in criteria + sources) > MAX_ARGUMENTS:
        return None
    try:
        # dbt's own rules decide what a criterion matches, so they are asked.
        found = select_nodes(graph, select=criteria, indirect_selection="empty")
    except SelectionError:
        return None
    if _built(graph, found) != built:
        return None
    return Selection(select=criteria, indirect_selection="empty", sources=sources)


def criterion_of(node: Node) -> str:
    """
    Return the criterion that names one node, and no source, in dbt's selection syntax.

    A model's name alone may be that of a folder too, and its unit tests lie below it.
    """
    file = PurePosixPath(node.path).name
    return f"fqn:{'.'.join(node.fqn)},resource_type:{node.resource_type},file:{file}"


def _built(graph: Graph, nodes: Iterable[str]) -> set[str]:
    # An ephemeral model is not built on its own; it may be in a selection or not.
    return {node for node in nodes if graph.nodes[node].materialized != "ephemeral"}
