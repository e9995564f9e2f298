"""
Which sources are checked for freshness, and how dbt is asked for them.

A source that is checked is a node of the selection like any other: `authoring.settings` puts it there, `core.resume` and
`core.selection.run_time` keep it there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from dbt_watch.core.selection import Written, select_nodes
from dbt_watch.core.selection.evaluator import reach
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from dbt_watch.core.manifest.graph import Graph, Node

Freshness = Literal["none", "before", "only"]
FRESHNESS: Final[tuple[Freshness, ...]] = ("none", "before", "only")

SOURCE: Final = "source"
"""The resource type of sources."""

# Dots, commas, spaces, wildcards and a plus have a meaning in dbt's selection syntax, and what JSON escapes looks different in
# dbt's log.
_NAMEABLE: Final = re.compile(r"[\w$#-]+", re.ASCII)


def is_source(unique_id: str) -> bool:
    """Return whether a unique_id is that of a source."""
    return unique_id.startswith(f"{SOURCE}.")


def sources_read_by(graph: Graph, nodes: Iterable[str]) -> frozenset[str]:
    """
    Return the sources that nodes read themselves or through ephemeral models, as far as they can be stale.

    :param graph: the project
    :param nodes: the unique_ids of what is built
    """
    # dbt selects exposures, but builds none.
    built = (unique_id for unique_id in nodes if graph.nodes[unique_id].resource_type != "exposure")
    return frozenset(one for one in all_sources_read_by(graph, built) if graph.nodes[one].has_freshness)


def all_sources_read_by(graph: Graph, nodes: Iterable[str]) -> frozenset[str]:
    """
    Return the sources that nodes read themselves or through ephemeral models.

    :param graph: the project
    :param nodes: their unique_ids
    """
    waiting = list(nodes)
    seen = set(waiting)
    found = set()
    while waiting:
        for parent in graph.parents(waiting.pop()):
            if is_source(parent):
                found.add(parent)
            elif graph.nodes[parent].materialized == "ephemeral" and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return frozenset(found)


def sources_selected(
    graph: Graph,
    *,
    select: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    selector: str | None = None,
    on_unmatched: Callable[[Written], object] = lambda _: None,
) -> frozenset[str]:
    """
    Return the sources of a selection, as far as they can be stale.

    :param graph: the project
    :param select: see `select_nodes`, and so for the others
    :raises SelectionError: as there
    """
    found = select_nodes(
        graph,
        select=select,
        exclude=exclude,
        selector=selector,
        resource_types=[SOURCE],
        buildable_only=False,
        on_unmatched=on_unmatched,
    )
    return frozenset(unique_id for unique_id in found if graph.nodes[unique_id].has_freshness)


def source_criterion(source: Node) -> str:
    """
    Return the criterion that names a source in dbt's selection syntax.

    :raises SelectionError: when that is not possible
    """
    parts = (source.package_name, source.source_name or "", source.name)
    name = ".".join(parts)
    if not all(map(_NAMEABLE.fullmatch, parts)):
        raise SelectionError(
            "freshness",
            name,
            "source names of ASCII letters, digits, `_`, `-`, `$` and `#`: dbt cannot select any other source on its own",
        )
    return f"source:{name}"


def readers_of(graph: Graph, nodes: Collection[str]) -> dict[str, tuple[str, ...]]:
    """
    Return for each source among some nodes which of the others read from it, directly or not.

    These are what `--exclude source:NAME+` leaves out: the way may lead through nodes that are not among them.

    :param graph: the project
    :param nodes: their unique_ids
    """
    sources = sorted(unique_id for unique_id in nodes if graph.nodes[unique_id].resource_type == SOURCE)
    built = {unique_id for unique_id in nodes if graph.nodes[unique_id].materialized != "ephemeral"}
    return {unique_id: tuple(sorted(built & reach(graph.child_map, [unique_id]))) for unique_id in sources}
