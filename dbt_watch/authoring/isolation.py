"""
Which nodes get a pod of their own, and what is different about it: `isolate`, and `meta.dbt_watch.isolate` of a node.

`authoring.project_factory` asks while a DAG is parsed.
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
"""For each isolated node, by its unique_id, the arguments of the operator that are different for it."""


def isolation(
    graph: Graph, plan: Plan, settings: ProjectSettings, function: Callable[..., Any]
) -> dict[str, dict[str, Any]]:
    """
    Return the nodes that get a pod of their own, each with the arguments that are different for it.

    Of several selections that match a node each adds its settings, a later one over an earlier one; what the node itself says
    comes last.

    :param graph: the project
    :param plan: its tasks
    :param settings: the arguments of the decorator
    :param function: the decorated function, at which warnings point
    :raises SelectionError: when a selection matches no node that can have a pod of its own
    :raises ArgumentError: when a node's own settings are wrong
    """
    can_be_alone = {task.home for task in plan.tasks.values() if task.home is not None}
    found: dict[str, dict[str, Any]] = {}
    for selection, pod in _given(settings.options["isolate"]):
        unmatched: list[Written] = []
        words = criteria("isolate", selection)
        matched = can_be_alone
        if words != _EVERY_NODE:  # for dbt, sources are not among these
            matched = can_be_alone & select_nodes(
                graph,
                select=words,
                indirect_selection="empty",
                buildable_only=False,
                on_unmatched=unmatched.append,
            )
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
        node = graph.nodes[unique_id]
        own = node_settings(node).isolate if node.meta else None
        if own:
            found.setdefault(unique_id, {}).update(from_meta(unique_id, own))
    return found


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
    Check `isolate` as far as that can be done without a manifest.

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
