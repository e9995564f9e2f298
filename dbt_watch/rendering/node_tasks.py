"""
What the author of a DAG says of the tasks of nodes by a function of the node, `node_task`, and where owners come from, `owners`.

`rendering.node_display` asks while a DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from dbt_watch.core.manifest.graph import Node
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Graph

NodeTask = Callable[[Node], Mapping[str, Any] | None]
"""A function from a node to arguments of its task: any of `task_display_name`, `owner`, `pool`, `priority_weight`, `doc_md`."""

Owners = Literal["none", "meta", "group"]
"""Where the owner of a node's task comes from."""

OF_THE_NODE_ALONE: Final = frozenset({"task_display_name", "doc_md"})
"""The arguments that the task of a node's tests does not take over."""


class _Meta(msgspec.Struct, frozen=True):
    owner: Any = None


class _Config(msgspec.Struct, frozen=True):
    meta: _Meta | None = None


_decode_config: Final = msgspec.json.Decoder(_Config).decode


class NodeTasks:
    """
    What is said of the tasks of the nodes of one project.

    :param graph: the project
    :param owners: "meta": `meta.owner` of a node; "group": the name of its dbt group; "none"
    :param node_task: a function of the node, or None
    """

    def __init__(self, graph: Graph, owners: Owners = "none", node_task: NodeTask | None = None) -> None:
        self._graph = graph
        self._owner_of: Callable[[Node], str | None] = {
            "none": lambda _: None,
            "meta": self._owner_in_meta,
            "group": lambda node: node.group,
        }[owners]
        self._node_task = node_task
        self._found: dict[str, dict[str, Any]] = {}

    def owner(self, node: Node) -> str | None:
        """Return the owner that dbt has of a node; None where it has none."""
        return self._owner_of(node)

    def arguments(self, node: Node) -> dict[str, Any]:
        """
        Return what the function says of a node.

        :raises ArgumentError: naming the node and the key that is wrong
        """
        if self._node_task is None:
            return {}
        if node.unique_id not in self._found:
            self._found[node.unique_id] = _checked(self._node_task(node), node)
        return self._found[node.unique_id]

    def _owner_in_meta(self, node: Node) -> str | None:
        config = self._graph.configs[node.config_index] if node.config_index >= 0 else b""
        owner = _owner_in(config) if b'"owner"' in config else None
        return None if owner is None else str(owner)


@cache
def _owner_in(config: bytes) -> str | None:
    try:
        meta = _decode_config(config).meta
    except msgspec.MsgspecError:
        return None
    owner = None if meta is None else meta.owner
    # A team may have several, or one with an address: then it is one text.
    if isinstance(owner, Mapping):
        owner = owner.get("name") or owner.get("email")
    if isinstance(owner, list):
        owner = ", ".join(str(each) for each in owner)
    return str(owner) if owner else None


def _checked(given: Any, node: Node) -> dict[str, Any]:
    where = f"node_task of {node.unique_id}"
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ArgumentError(where, given, f"a dict with any of {', '.join(_CHECKS)}, or None")
    for name, value in given.items():
        if name not in _CHECKS:
            expected = _ELSEWHERE.get(name) or f"one of {', '.join(_CHECKS)}"
            raise ArgumentError(where, name, expected, known=() if name in _ELSEWHERE else _CHECKS)
        if value is not None and (problem := _CHECKS[name](value)):
            raise ArgumentError(f"{where}: {name}", value, problem)
    return {name: value for name, value in given.items() if value is not None}


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "text, or None"


def _whole_number(value: Any) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return None if is_number and value > 0 else "a whole number, 1 or more, or None"


_CHECKS: Final = {
    "task_display_name": _text,
    "owner": _text,
    "pool": _text,
    "priority_weight": _whole_number,
    "doc_md": _text,
}
_ELSEWHERE: Final = {
    "task_id": "task_display_name instead: the id of a task is derived from its node, so that it keeps its history",
    "retries": "retries=... in the project's arguments instead: they apply to the task that runs dbt",
    "image": "isolate={selection: PodSettings(image=...)} in the project's arguments instead",
}
