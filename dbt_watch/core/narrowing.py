"""
A selection that is narrowed when dbt runs: `dbt_build(select=..., exclude=...)`.

The producer asks before it starts dbt. What the tasks of a project are was decided when the DAG was parsed; here a part
of them is chosen, never more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.command import Selection, criteria
from dbt_watch.core.freshness import sources_read_by, sources_selected
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.core.resume import selection_of
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.core.graph import Graph


class Narrowed(msgspec.Struct, frozen=True):
    """
    What is left of a selection.

    :param nodes: the unique_ids that are built
    :param selection: how dbt is asked for them
    :param left_out: an entry for each node that is not built, with the reason
    """

    nodes: frozenset[str]
    selection: Selection
    left_out: tuple[NodeResult, ...] = ()


def narrowed(
    graph: Graph,
    selected: frozenset[str],
    selection: Selection,
    options: Mapping[str, Any],
    *,
    attempt: int = 1,
) -> Narrowed:
    """
    Narrow a selection down.

    :param graph: the project
    :param selected: the nodes of the selection
    :param selection: how dbt is asked for them
    :param options: a rendered `DbtBuild.to_dict()`; its `select` and `exclude` count, blank ones do not
    :param attempt: of the producer
    :raises SelectionError: when nothing is left, or dbt cannot be asked for what is left
    :raises ArgumentError: when `select` or `exclude` is no selection
    """
    select, exclude = (criteria(name, options.get(name)) for name in ("select", "exclude"))
    if not (select or exclude):
        return Narrowed(selected, selection)
    words = " ".join(
        part
        for name, value in (("select", select), ("exclude", exclude))
        if value
        for part in (f"--{name}", *value)
    )
    if selection.builds:
        built = selected & select_nodes(
            graph,
            select=select or None,
            exclude=exclude or None,
            exclude_resource_types=selection.exclude_resource_types,
        )
        nodes = built | (selected & sources_read_by(graph, built))
    else:
        nodes = selected & sources_selected(graph, select=select or None, exclude=exclude or None)
    if not nodes:
        name, value = ("select", select) if select else ("exclude", exclude)
        raise SelectionError(
            name, " ".join(value), "a selection that leaves at least one node of this project to build"
        )
    asked = selection_of(graph, nodes)
    if asked is None:
        raise SelectionError("select", words, "nodes that dbt can be asked for one by one")
    left_out = [_left_out(graph, unique_id, words, attempt) for unique_id in sorted(selected - nodes)]
    return Narrowed(nodes, asked, tuple(left_out))


def _left_out(graph: Graph, unique_id: str, words: str, attempt: int) -> NodeResult:
    node = graph.nodes[unique_id]
    return NodeResult(
        unique_id=unique_id,
        name=node.name,
        resource_type=node.resource_type,
        status=statuses.NOT_RUN,
        message=f"left out of this run by {words}",
        not_run=NotRun.LEFT_OUT,
        attempt=attempt,
    )
