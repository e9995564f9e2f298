"""
A selection of which a part is decided in the pod: `source_status:fresher+`, the nodes whose sources have newer data.

Which sources these are, dbt finds out itself when it has checked them. So its words stand in the command as they were written, and all
the rest is spelled out. `core.selection.run_time` asks for such a selection, and `producers.retry_plan` for what is left of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.command import Selection
from dbt_watch.core.resume import MAX_ARGUMENTS, built_among, criterion_of
from dbt_watch.core.selection import select_nodes
from dbt_watch.core.selection.resource_types import release
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
    always, sources = _criteria(graph, least), frozenset(filter(is_source, most))
    for mode in _modes(graph, words):
        asked = Selection(
            select=(*always, *words),
            exclude_resource_types=whole.exclude_resource_types,
            indirect_selection=mode,
            sources=tuple(sorted(source_criterion(graph.nodes[one]) for one in sources)),
        )
        found = _found(graph, asked, sources)
        for left_out in _to_exclude(graph, found, built_among(graph, found) - most):
            narrow = msgspec.structs.replace(asked, exclude=left_out)
            if _selects(graph, narrow, most, sources) and _selects(graph, narrow, least, ()):
                return narrow
    return None


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
    for mode in _modes(graph, asked.select):
        again = msgspec.structs.replace(asked, indirect_selection=mode)
        for left_out in _to_exclude(graph, _found(graph, again, sources), done):
            rest = msgspec.structs.replace(again, exclude=tuple(sorted({*asked.exclude, *left_out})))
            if _selects(graph, rest, remaining, sources):
                return rest
    return None


def _modes(graph: Graph, words: Iterable[str]) -> tuple[str, ...]:
    """
    Return how tests may come along, in the order in which to try.

    With "eager" a test is left out with any node that it tests. With "empty" it is not, but an older dbt does not heed the `+` of
    `source_status:fresher+` then. What depends on a node without end includes its tests.
    """
    is_known = release(graph.facts.dbt_version) >= _HEEDS_OPERATORS
    is_endless = all(word.endswith("+") for word in words if needs_sources([word]))
    return ("eager", "empty") if is_known and is_endless else ("eager",)


_HEEDS_OPERATORS: Final = (1, 11)


def _selects(graph: Graph, selection: Selection, wanted: frozenset[str], fresher: Iterable[str]) -> bool:
    """Return whether a selection is short enough, and makes dbt build just some nodes if just some sources have newer data."""
    nodes = (one for one in wanted if not is_source(one))
    is_short = _length(selection) <= MAX_ARGUMENTS
    found = built_among(graph, _found(graph, selection, fresher)) if is_short else set()
    return is_short and found == built_among(graph, nodes)


def _to_exclude(graph: Graph, found: frozenset[str], nodes: Iterable[str]) -> Iterable[tuple[str, ...]]:
    """
    Yield what may be excluded to leave out some nodes, in the order in which to try.

    An ephemeral model is left out as well where that takes no test along: dbt does not count its nodes when there is nothing else.

    :param found: what is selected
    :param nodes: what is to be left out
    """
    ephemeral = found - built_among(graph, found)
    yield _criteria(graph, {*nodes, *ephemeral})
    if ephemeral:
        yield _criteria(graph, nodes)


def _found(graph: Graph, selection: Selection, fresher: Iterable[str]) -> frozenset[str]:
    """Return what dbt selects if just some sources have newer data."""
    supposed = StateComparison(StateManifest(), None).with_fresher(fresher)
    return select_nodes(
        graph.compared_with(supposed),
        select=selection.select,
        exclude=selection.exclude or None,
        exclude_resource_types=selection.exclude_resource_types,
        indirect_selection=selection.indirect_selection or "eager",
    )


def _criteria(graph: Graph, nodes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({criterion_of(graph.nodes[node]) for node in nodes if not is_source(node)}))


def _length(selection: Selection) -> int:
    words = (*selection.select, *selection.exclude, *selection.sources)
    return sum(len(word.encode()) + 1 for word in words)
