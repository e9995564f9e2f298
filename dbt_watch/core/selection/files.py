"""
The files that a manifest names, as a tree that patterns are looked up in.

dbt globs its project directory for `path:`; where a DAG is parsed there is no such directory, but the manifest names every
file that can matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Optional

#: a directory's entries by name; None for a file
_Directory = dict[str, Optional["_Directory"]]  # type: ignore[misc]  # recursive

_WILDCARDS = frozenset("*?[")


class FileTree:
    """The files and directories of a project; the empty path is its root."""

    def __init__(self) -> None:
        self._root: _Directory = {}

    def add(self, path: str) -> None:
        """Add a file, and the directories that lead to it."""
        *directories, name = _parts(path)
        here = self._root
        for directory in directories:
            entry = here.get(directory)
            if entry is None:
                entry = here[directory] = {}
            here = entry
        here.setdefault(name, None)

    def glob(self, pattern: str) -> frozenset[str]:
        """
        Give the files and directories that match, as `pathlib.Path.glob` would from the root.

        :param pattern: a relative path; `*`, `?` and `[...]` match within a name, `**` any number of directories
        """
        found = _glob(self._root, "", _parts(pattern))
        return frozenset(path for path, entry in found if entry is not None or not pattern.endswith("/"))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _glob(
    here: _Directory, prefix: str, parts: list[str]
) -> Iterator[tuple[str, _Directory | None]]:
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
