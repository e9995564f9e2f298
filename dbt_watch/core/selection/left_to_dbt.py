"""
A selection of which a part is decided in the pod: `source_status:fresher+`, the nodes whose sources have newer data.

Which sources these are, dbt finds out itself when it has checked them. So its words stand in the command as they were written, and all
the rest is spelled out. `core.selection.run_time` asks for such a selection, and `producers.retry_plan` for what is left of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dbt_watch.core.command import Selection
from dbt_watch.core.resume import MAX_ARGUMENTS, built_among, criterion_of
from dbt_watch.core.selection import select_nodes
from dbt_watch.core.selection.source_freshness import is_source, source_criterion
from dbt_watch.core.selection.state import StateComparison, StateManifest, needs_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbt_watch.core.manifest.graph import Graph


def is_left_to_dbt(selection: Selection) -> bool:
    """Return whether it is decided in the pod what a selection selects."""
    return needs_sources(selection.select)


def selection_left_to_dbt(
    graph: Graph, whole: Selection, words: Sequence[str], *, most: frozenset[str], least: frozenset[str]
) -> Selection | None:
    """
    Return a selection that makes dbt decide about some nodes.

    :param graph: the project
    :param whole: the selection of the project, of which this is a part
    :param words: those of `source_status:`
    :param most: the nodes that are built when all sources have newer data, and the sources that are checked
    :param least: those that are built when none has
    :returns: None when there is none that fits, or that is short enough
    """
    always = _criteria(graph, least)
    asked = Selection(
        select=(*always, *words),
        exclude_resource_types=whole.exclude_resource_types,
        # What depends on a node without end includes its tests.
        indirect_selection="empty" if all(word.endswith("+") for word in words) else "eager",
        sources=tuple(sorted(source_criterion(graph.nodes[one]) for one in most if is_source(one))),
    )
    sources = frozenset(filter(is_source, most))
    asked = msgspec.structs.replace(asked, exclude=_criteria(graph, _found(graph, asked, sources) - most))
    fits = (
        _length(asked) <= MAX_ARGUMENTS
        and _found(graph, asked, sources) == built_among(graph, most - sources)
        and _found(graph, asked, ()) == built_among(graph, least - sources)
    )
    return asked if fits else None


def rest_left_to_dbt(
    graph: Graph, asked: Selection, most: frozenset[str], remaining: frozenset[str]
) -> Selection | None:
    """
    Return what is left of such a selection for a later attempt.

    All sources are checked again, since a new pod knows of none.

    :param graph: the project
    :param asked: as `selection_left_to_dbt` returned it
    :param most: the nodes that it can select at most
    :param remaining: those that are not done
    :returns: None when there is none that fits, or that is short enough
    """
    sources = frozenset(filter(is_source, most))
    done = built_among(graph, most - remaining - sources)
    rest = msgspec.structs.replace(asked, exclude=tuple(sorted({*asked.exclude, *_criteria(graph, done)})))
    fits = _length(rest) <= MAX_ARGUMENTS and _found(graph, rest, sources) == built_among(
        graph, remaining - sources
    )
    return rest if fits else None


def _found(graph: Graph, selection: Selection, fresher: Iterable[str]) -> set[str]:
    """Return what dbt builds of a selection if just some sources have newer data."""
    supposed = StateComparison(StateManifest(), None).with_fresher(fresher)
    found = select_nodes(
        graph.compared_with(supposed),
        select=selection.select,
        exclude=selection.exclude or None,
        exclude_resource_types=selection.exclude_resource_types,
        indirect_selection=selection.indirect_selection or "eager",
    )
    return built_among(graph, found)


def _criteria(graph: Graph, nodes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({criterion_of(graph.nodes[node]) for node in nodes if not is_source(node)}))


def _length(selection: Selection) -> int:
    words = (*selection.select, *selection.exclude, *selection.sources)
    return sum(len(word.encode()) + 1 for word in words)
