"""
Finds the node that a person means by a name, or says why there is none that has a task.

`project["orders"]` asks, `@dbt_node("orders")` by way of it, and `authoring.standalone_node` where a node has no project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.core.labels import label_of
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Collection

    from dbt_watch.core.manifest.graph import Graph, Node


def node_named(graph: Graph, name: str, built: Collection[str]) -> str:
    """
    Return the unique_id of the one node that a name stands for.

    :param graph: the project
    :param name: see `Graph.find`
    :param built: the unique_ids of the nodes that have a task
    :raises ArgumentError: when there is none, with the reason, or when there are several
    """
    named = graph.find(name)
    found = [node.unique_id for node in named if node.unique_id in built]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArgumentError("node", name, f"one node; there are {', '.join(sorted(found))}")
    if named:
        raise ArgumentError("node", name, _why_not_built(named[0]))
    disabled = [unique_id for unique_id in sorted(graph.disabled) if name in _names(unique_id)]
    if disabled:
        raise ArgumentError("node", name, f"an enabled node; {disabled[0]} is disabled in the project")
    raise ArgumentError("node", name, "a node of the project", known=set(map(label_of, built or graph.nodes)))


def _why_not_built(node: Node) -> str:
    if node.materialized == "ephemeral":
        why = "is ephemeral: it is compiled into the nodes that use it, dbt never builds it"
    elif node.is_empty:
        why = "is empty: its file contains nothing to run"
    elif node.resource_type == "source":
        why = (
            'is a source, which has a task only where its freshness is checked: freshness="before" or "only"'
        )
    elif node.resource_type in _NEVER_BUILT:
        why = f"is of the type {node.resource_type}, which dbt never builds"
    else:
        why = "is left out by select, exclude, selector, tests or freshness"
    return f"a node that has a task in this selection; {node.unique_id} {why}"


def _names(unique_id: str) -> set[str]:
    label, package = label_of(unique_id), unique_id.partition(".")[2].partition(".")[0]
    return {unique_id, label, f"{package}.{label}"}


_NEVER_BUILT = frozenset({"analysis", "exposure", "metric", "semantic_model", "operation"})
