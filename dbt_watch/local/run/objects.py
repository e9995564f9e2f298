"""
Secrets and config maps for the pods of a local run: `--secret NAME:KEY=VALUE`, `[tool.dbt_watch.secrets]`, and the same for config maps.

`command` reads them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.run.pyproject import check_keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbt_watch.local.run.pyproject import Pyproject

    Data = dict[str, dict[str, str | bytes]]

SECRET: Final = "--secret"  # noqa: S105 - the name of an option
CONFIG_MAP: Final = "--config-map"
_FORM: Final = "NAME:KEY=VALUE, or NAME:KEY=@FILE"
_SOURCES: Final = ("env", "file")


def objects(option: str, texts: Sequence[str], table: str, pyproject: Pyproject) -> Data:
    """
    Return the values of secrets or config maps by name and key; the command line wins.

    :param option: the name of the option
    :param texts: its values
    :param table: the name of the table in the pyproject.toml
    :raises ArgumentError: for what is not of the form, and for a file or a variable that is not there; no value is shown
    """
    found: Data = {}
    given: Mapping[str, Any] = getattr(pyproject, table)
    for name, keys in given.items():
        argument = pyproject.key(table, name)
        if not isinstance(keys, dict):
            raise ArgumentError(argument, "...", "a table of keys and their values")
        found[name] = {
            key: _value(f"{argument}.{key}", value, pyproject.directory) for key, value in keys.items()
        }
    for text in texts:
        left, separator, value = text.partition("=")
        name, colon, key = left.partition(":")
        if not (separator and colon and name and key):
            raise ArgumentError(option, f"{left}=..." if separator else left, _FORM)
        source = {"file": value[1:]} if value.startswith("@") else value
        found.setdefault(name, {})[key] = _value(f"{option} {left}", source, Path.cwd())
    return found


def _value(argument: str, value: Any, directory: Path) -> str | bytes:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ArgumentError(argument, "...", 'text, { env = "VARIABLE" } or { file = "PATH" }')
    check_keys(argument, value, _SOURCES)
    ((source, text),) = value.items()
    if source == "env":
        if text not in os.environ:
            raise ArgumentError(argument, text, "a variable that is set in the environment")
        return os.environ[text]
    try:
        return (directory / Path(text).expanduser()).read_bytes()
    except OSError as error:
        raise ArgumentError(argument, text, f"a file that can be read ({error.strerror})") from error
