"""
What the nodes of a selection depend on through others that are not in it: `edges_over_gaps`, and `selected_nodes` with such edges.

dbt orders and skips by the whole project: between two nodes that it runs there may be others that it was not asked for. Source:
`get_dependent_nodes` in `dbt/graph/graph.py` of dbt-core 1.11. `producers` asks for the nodes of an attempt, and `core.run_notes`
for what the page draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dbt_watch.core.selection.evaluator import reach

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dbt_watch.core.manifest.graph import Graph, Node


def selected_nodes(graph: Graph, unique_ids: Iterable[str]) -> dict[str, Node]:
    """
    Return the nodes of a selection, with what they depend on through others among what they depend on.

    :param graph: the project
    :param unique_ids: those of the selection
    """
    found = {unique_id: graph.nodes[unique_id] for unique_id in unique_ids}
    for unique_id, more in edges_over_gaps(graph, found).items():
        node = found[unique_id]
        found[unique_id] = msgspec.structs.replace(node, depends_on=(*node.depends_on, *more))
    return found


def edges_over_gaps(graph: Graph, unique_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
    """
    Return for the nodes of a selection which others of it they depend on through nodes that are not in it, the nearest ones.

    :param graph: the project
    :param unique_ids: those of the selection
    """
    selected = frozenset(unique_ids)
    outside = {parent for unique_id in selected for parent in graph.parents(unique_id)} - selected
    # Mostly these are sources, behind which there is nothing.
    behind = reach(graph.parent_map, outside)
    gaps = (outside | behind) & reach(graph.child_map, selected) - selected if behind else frozenset()
    found = {}
    for unique_id in selected if gaps else ():
        ways = [parent for parent in graph.parents(unique_id) if parent in gaps]
        seen = set(ways)
        nearest: dict[str, None] = {}
        for way in ways:
            for parent in graph.parents(way):
                if parent in selected:
                    nearest[parent] = None
                elif parent in gaps and parent not in seen:
                    seen.add(parent)
                    ways.append(parent)
        if nearest:
            found[unique_id] = tuple(nearest)
    return found
