"""
Which nodes get a pod of their own, and what is different about it: `isolate`, and a node's `meta.dbt_watch.isolate`.

`authoring.project_factory` calls this while a DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.authoring.parse_warnings import warn_of
from dbt_watch.authoring.pod_settings import PodSettings, from_meta
from dbt_watch.core.command import criteria
from dbt_watch.core.manifest.node_meta import node_settings
from dbt_watch.core.selection import Written, select_nodes
from dbt_watch.core.selection.near import alternatives
from dbt_watch.exceptions import ArgumentError, SelectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbt_watch.authoring.settings import ProjectSettings
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.rendering.plan import Plan

Isolation = Mapping[str, Mapping[str, Any]]
"""For each isolated node, by unique_id, the operator arguments that differ for it."""


def isolation(
    graph: Graph, plan: Plan, settings: ProjectSettings, function: Callable[..., Any]
) -> dict[str, dict[str, Any]]:
    """
    Return the nodes that get a pod of their own, each with the arguments that differ for it.

    If several selections match a node, all their settings apply, and later ones override earlier ones; the node's own settings
    override them all.

    :param graph: the project
    :param plan: its tasks
    :param settings: the arguments of the decorator
    :param function: the decorated function, where warnings point to
    :raises SelectionError: when a selection matches no node that can have a pod of its own
    :raises ArgumentError: when a node's own settings are wrong
    """
    can_be_alone = _can_be_alone(plan)
    found: dict[str, dict[str, Any]] = {}
    for selection, pod in _given(settings.options["isolate"]):
        unmatched: list[Written] = []
        matched = _matched(graph, selection, can_be_alone, unmatched.append)
        if not matched:
            sought, known = alternatives(graph, unmatched[0].text) if unmatched else (None, [])
            raise SelectionError(
                "isolate",
                selection,
                "a selection that matches at least one node of this project; a test of one node runs in that node's pod",
                known=known,
                sought=sought,
            )
        warn_of(unmatched, graph, function)
        for unique_id in matched:
            found.setdefault(unique_id, {}).update(pod.arguments)
    for unique_id in sorted(can_be_alone):
        own = _own_wish(graph, unique_id)
        if own:
            found.setdefault(unique_id, {}).update(from_meta(unique_id, own))
    return found


def asked_by(graph: Graph, plan: Plan, settings: ProjectSettings) -> dict[str, list[str]]:
    """
    Return why each isolated node gets a pod of its own: selections and its own settings, as written.

    A plan shows this; `isolation`, which every parse calls, leaves it out.

    :param graph: see `isolation`, also for the other parameters
    """
    can_be_alone = _can_be_alone(plan)
    found: dict[str, list[str]] = {}
    for selection, _ in _given(settings.options["isolate"]):
        written = " ".join(criteria("isolate", selection))
        for unique_id in _matched(graph, selection, can_be_alone):
            found.setdefault(unique_id, []).append(f'isolate="{written}"')
    for unique_id in can_be_alone:
        if _own_wish(graph, unique_id):
            found.setdefault(unique_id, []).append("its meta.dbt_watch.isolate")
    return found


def _can_be_alone(plan: Plan) -> set[str]:
    return {task.home for task in plan.tasks.values() if task.home is not None}


def _matched(
    graph: Graph,
    selection: str | Sequence[str],
    can_be_alone: set[str],
    on_unmatched: Callable[[Written], object] = lambda _: None,
) -> set[str]:
    words = criteria("isolate", selection)
    if words == _EVERY_NODE:  # for dbt, sources are not among these
        return can_be_alone
    return can_be_alone & select_nodes(
        graph,
        select=words,
        indirect_selection="empty",
        buildable_only=False,
        on_unmatched=on_unmatched,
    )


def _own_wish(graph: Graph, unique_id: str) -> Mapping[str, Any] | bool:
    node = graph.nodes[unique_id]
    return node_settings(node).isolate if node.meta else False


def _given(isolate: Any) -> list[tuple[str | Sequence[str], PodSettings]]:
    if isolate is None:
        return []
    if isinstance(isolate, Mapping):
        return list(isolate.items())
    return [(isolate, _AS_ALL)]


_AS_ALL: Final = PodSettings()
_EVERY_NODE: Final = ("*",)


def check_isolate(argument: str, value: Any) -> None:
    """
    Check `isolate` as far as possible without a manifest.

    :raises ArgumentError: when it is neither a selection nor a mapping of selections to `PodSettings`
    """
    if not isinstance(value, Mapping):
        if value is not None and not criteria(argument, value):
            raise ArgumentError(
                argument, value, 'a selection in dbt\'s syntax, such as "tag:heavy", or "*" for every node'
            )
        return
    for selection, pod in value.items():
        if not isinstance(selection, str) or not selection.strip():
            raise ArgumentError(
                argument, selection, 'a selection in dbt\'s syntax as each key, such as "tag:heavy"'
            )
        if not isinstance(pod, PodSettings):
            raise ArgumentError(f"{argument}[{selection!r}]", pod, "PodSettings(...)")
