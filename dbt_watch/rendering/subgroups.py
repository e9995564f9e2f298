"""
Where the tasks of a project lie: in groups by folder or by tag, within the project's own group.

Such a group is for the eye only. It is no part of the ids of its tasks, so that a file which is moved, or a project
which is grouped in another way, keeps the history of its tasks.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from airflow.sdk import TaskGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.core.manifest.graph import Node

GroupBy = Literal["none", "folder", "tag"]

_ILLEGAL: Final = re.compile(r"[^\w-]+")
# In characters; Airflow takes 200 for the id of a group, and adds a suffix for the ends of its edges.
_MAX_LENGTH: Final = 150


class Places:
    """
    The groups within a project's group, made when the first of their tasks is.

    :param group: the project's group
    :param group_by: "none": all tasks lie side by side; "folder": as the files lie in the project; "tag": by the first
        tag of each node
    :param project_name: the root project's name; files of other packages lie in a group of their package
    """

    def __init__(self, group: TaskGroup, group_by: GroupBy, project_name: str) -> None:
        self._group = group
        self._path_of = _PATHS[group_by]
        self._project_name = project_name
        self._groups: dict[tuple[str, ...], TaskGroup] = {(): group}

    def of(self, node: Node) -> TaskGroup:
        """Return the group in which the tasks of a node lie."""
        return self._at(self._path_of(node, self._project_name))

    def _at(self, path: tuple[str, ...]) -> TaskGroup:
        if path not in self._groups:
            self._groups[path] = TaskGroup(
                _group_key(self._group.group_id or "", path),
                group_display_name=path[-1],
                parent_group=self._at(path[:-1]),
                dag=self._group.dag,
                prefix_group_id=False,
            )
        return self._groups[path]


def _folder(node: Node, project_name: str) -> tuple[str, ...]:
    parts = PurePosixPath(node.path.replace("\\", "/")).parent.parts
    return parts if node.package_name == project_name else (node.package_name, *parts)


def _tag(node: Node, project_name: str) -> tuple[str, ...]:  # noqa: ARG001 - one of a table
    return node.tags[:1]


_PATHS: Final[dict[GroupBy, Callable[[Node, str], tuple[str, ...]]]] = {
    "none": lambda *_: (),
    "folder": _folder,
    "tag": _tag,
}


def _group_key(group_id: str, path: tuple[str, ...]) -> str:
    """Return an id that no task and no other group of the DAG has: sanitized and cut, with a hash suffix."""
    suffix = hashlib.sha256("\0".join((group_id, *path)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = _ILLEGAL.sub("_", "-".join((group_id, *path)))
    return f"{name[:_MAX_LENGTH]}-{suffix}"
