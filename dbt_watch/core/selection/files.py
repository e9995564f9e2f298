"""
The files that a manifest names, to be searched by patterns: what `path:` needs, by way of `core.selection.index`.

dbt globs its project directory; where a DAG is parsed there is no such directory, but the manifest names every file that can
matter.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: a directory's entries by name, themselves directories; None for a file
_Directory = dict[str, Any]

_WILDCARDS = frozenset("*?[")


class Files:
    """
    The files and directories of a project; the empty path is its root.

    :param paths: the files, with each directory named once
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)

    def glob(self, pattern: str) -> frozenset[str]:
        """
        Return the files and directories that match, as `pathlib.Path.glob` would from the root.

        :param pattern: a relative path; `*`, `?` and `[...]` match within a name, `**` any number of directories
        """
        parts = [part for part in pattern.split("/") if part not in {"", "."}]
        only_directories = pattern.endswith("/")
        if parts and _WILDCARDS.isdisjoint(pattern):
            return self._literal("/".join(parts), only_directories=only_directories)
        found = _glob(self._root, "", parts)
        return frozenset(path for path, entry in found if entry is not None or not only_directories)

    def _literal(self, path: str, *, only_directories: bool) -> frozenset[str]:
        exists = path in self._paths and not only_directories
        directory = f"{path}/"
        if exists or any(file.startswith(directory) for file in self._paths):
            return frozenset({path})
        return frozenset()

    @cached_property
    def _root(self) -> _Directory:
        root: _Directory = {}
        for path in self._paths:
            *directories, name = path.split("/")
            here = root
            for directory in directories:
                entry = here.get(directory)
                if entry is None:
                    entry = here[directory] = {}
                here = entry
            here.setdefault(name, None)
        return root


def _glob(here: _Directory, prefix: str, parts: list[str]) -> Iterator[tuple[str, _Directory | None]]:
    if not parts:
        yield prefix, here
        return
    first, *rest = parts
    if first == "**":
        for path, directory in _directories(here, prefix):
            yield from _glob(directory, path, rest)
        return
    for name, entry in _matching(here, first):
        path = f"{prefix}/{name}" if prefix else name
        if not rest:
            yield path, entry
        elif entry is not None:
            yield from _glob(entry, path, rest)


def _matching(here: _Directory, pattern: str) -> Iterator[tuple[str, _Directory | None]]:
    if _WILDCARDS.isdisjoint(pattern):
        if pattern in here:
            yield pattern, here[pattern]
        return
    for name, entry in here.items():
        if fnmatchcase(name, pattern):
            yield name, entry


def _directories(here: _Directory, prefix: str) -> Iterator[tuple[str, _Directory]]:
    yield prefix, here
    for name, entry in here.items():
        if entry is not None:
            yield from _directories(entry, f"{prefix}/{name}" if prefix else name)
