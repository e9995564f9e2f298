"""The table `[tool.dbt_watch]` of the pyproject.toml nearest to a DAG file. Read by `command`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TABLE: Final = "tool.dbt_watch"
KEYS: Final = ("images", "secrets", "config_maps")


@dataclass(frozen=True, slots=True)
class Pyproject:
    """
    What a pyproject.toml says of local runs.

    :ivar path: of the file; None where there is none
    :ivar directory: what its relative paths start from: its own, or that of the DAG file where there is none
    """

    path: Path | None
    directory: Path
    images: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict)
    config_maps: Mapping[str, Any] = field(default_factory=dict)

    def key(self, *names: str) -> str:
        """Return what to call a key of the table in a message."""
        return ".".join([f"{self.path}: {TABLE}", *names])


def nearest_pyproject(path: Path) -> Pyproject:
    """
    Return the table of the nearest pyproject.toml beside or above a DAG file or a folder.

    :raises ArgumentError: when the file is no TOML, or the table has a key that means nothing here
    """
    start = path.resolve() if path.is_dir() else path.resolve().parent
    for directory in (start, *start.parents):
        found = directory / "pyproject.toml"
        if found.is_file():
            return _read(found)
    return Pyproject(None, start)


def check_keys(argument: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first key that is not known; :raises ArgumentError: with the nearest ones."""
    known = list(known)
    for key in given:
        if key not in known:
            raise ArgumentError(argument, key, f"one of the keys {', '.join(known)}", known=known)


def _read(path: Path) -> Pyproject:
    try:
        content = msgspec.toml.decode(path.read_bytes())
    except ImportError as error:  # before Python 3.11, where nothing has brought it
        raise ArgumentError(
            "pyproject.toml", str(path), "tomli to be installed, which reads it: `pip install tomli`"
        ) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ArgumentError("pyproject.toml", str(path), f"TOML ({error})") from error
    table = content.get("tool", {}).get("dbt_watch", {})
    found = Pyproject(path, path.parent)
    if not isinstance(table, dict):
        raise ArgumentError(found.key(), table, "a table")
    check_keys(found.key(), table, KEYS)
    for name, value in table.items():
        if not isinstance(value, dict):
            raise ArgumentError(found.key(name), value, "a table")
    return Pyproject(path, path.parent, **table)
