"""
Narrows a selection when dbt runs: `dbt_build(select=..., exclude=...)`.

`producers.wanted` asks before dbt is started, and `authoring.project_factory` while the DAG is parsed, where the words are known
already. The tasks of a project are made when the DAG is parsed; here a part of them is chosen, never more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.command import Selection, criteria
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.core.resume import selection_of
from dbt_watch.core.selection import Written, select_nodes
from dbt_watch.core.selection.left_to_dbt import selection_left_to_dbt
from dbt_watch.core.selection.near import alternatives
from dbt_watch.core.selection.source_freshness import is_source, sources_read_by, sources_selected
from dbt_watch.core.selection.state import needs_sources, needs_state
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbt_watch.core.manifest.graph import Graph


class Narrowed(msgspec.Struct, frozen=True):
    """
    What is left of a selection.

    :param nodes: the unique_ids that are built
    :param selection: how dbt is asked for them
    :param left_out: an entry for each node that is not built, with the reason
    :param left_to_dbt: why dbt itself may leave out more of them, in words; empty where all is decided
    """

    nodes: frozenset[str]
    selection: Selection
    left_out: tuple[NodeResult, ...] = ()
    left_to_dbt: str = ""


def narrowed(
    graph: Graph,
    selected: frozenset[str],
    selection: Selection,
    options: Mapping[str, Any],
    *,
    attempt: int = 1,
    on_unmatched: Callable[[Written], object] = lambda _: None,
) -> Narrowed:
    """
    Return what is left of a selection by a build's own `select` and `exclude`.

    :param graph: the project
    :param selected: the nodes of the selection
    :param selection: how dbt is asked for them
    :param options: a rendered `DbtBuild.to_dict()`; its `select` and `exclude` count, blank ones do not
    :param attempt: of the producer
    :param on_unmatched: see `nodes_left`
    :raises SelectionError: when nothing is left, or dbt cannot be asked for what is left
    :raises ArgumentError: when `select` or `exclude` is no selection
    """
    select, exclude = _criteria(options)
    compared = graph.compared
    newer = tuple(word for word in select if needs_sources([word]))
    is_left_to_dbt = bool(newer) and compared is not None and compared.knows_sources
    if is_left_to_dbt and compared is not None:
        graph = graph.compared_with(compared.with_fresher(filter(is_source, selected)))
    nodes = nodes_left(graph, selected, selection, options, on_unmatched)
    if nodes == selected and not is_left_to_dbt:
        return Narrowed(selected, selection)
    words = " ".join(
        part
        for name, value in (("select", select), ("exclude", exclude))
        if value
        for part in (f"--{name}", *value)
    )
    since = f": unchanged since {compared.since}" if compared is not None else ""
    asked: Selection | None = selection
    if nodes and is_left_to_dbt and compared is not None:
        without = nodes_left(graph.compared_with(compared.with_fresher(())), selected, selection, options)
        asked = selection_left_to_dbt(graph, selection, newer, most=nodes, least=without)
    elif nodes:
        asked = selection_of(graph, nodes)
    if asked is None:
        raise SelectionError(
            "select",
            words,
            "nodes that one dbt command can select by name: some names are ambiguous, or the list is too long",
        )
    compares = needs_state((*select, *exclude))
    left_out = [
        _left_out(graph, unique_id, words + since * compares, attempt)
        for unique_id in sorted(selected - nodes)
    ]
    told = f"left out of this run by {words}{since}" if nodes and is_left_to_dbt else ""
    return Narrowed(nodes, asked, tuple(left_out), told)


def nodes_left(
    graph: Graph,
    selected: frozenset[str],
    selection: Selection,
    options: Mapping[str, Any],
    on_unmatched: Callable[[Written], object] = lambda _: None,
) -> frozenset[str]:
    """
    Return the nodes that are left of a selection.

    :param graph: see `narrowed`, and so for the others
    :param on_unmatched: is told of each part of `select` and `exclude` that matches nothing, unless nothing is left
    :raises SelectionError: when nothing is left, unless that is so because nothing has changed
    :raises ArgumentError: when `select` or `exclude` is no selection
    """
    select, exclude = _criteria(options)
    if not (select or exclude):
        return selected
    unmatched: list[Written] = []
    asked: dict[str, Any] = {
        "select": select or None,
        "exclude": exclude or None,
        "on_unmatched": unmatched.append,
    }
    if selection.builds:
        types = selection.exclude_resource_types
        built = selected & select_nodes(graph, exclude_resource_types=types, **asked)
        nodes = built | (selected & sources_read_by(graph, built))
    else:
        nodes = selected & sources_selected(graph, **asked)
    if graph.compared is not None and needs_state((*select, *exclude)):
        return nodes
    if not nodes:
        name, value = ("select", select) if select else ("exclude", exclude)
        sought, known = alternatives(graph, unmatched[0].text) if unmatched else (None, [])
        raise SelectionError(
            name,
            " ".join(value),
            "a selection that matches at least one node of this project's own selection",
            known=known,
            sought=sought,
        )
    for written in unmatched:
        on_unmatched(written)
    return nodes


def _criteria(options: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return criteria("select", options.get("select")), criteria("exclude", options.get("exclude"))


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
