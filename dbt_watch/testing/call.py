"""The command line of dbt, read as dbt reads it, as far as a played run heeds it: `call_of`. `player` and `commands` ask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

# The options that take every word up to the next option.
_MANY: Final = {
    "--select": "select",
    "-s": "select",
    "--models": "select",
    "--model": "select",
    "-m": "select",
    "--exclude": "exclude",
    "--resource-type": "resource_types",
    "--resource-types": "resource_types",
    "--exclude-resource-type": "exclude_resource_types",
    "--exclude-resource-types": "exclude_resource_types",
}
# Those that take one.
_ONE: Final = frozenset(
    {
        "--args",
        "--cache-selected-only",
        "--defer-state",
        "--event-time-end",
        "--event-time-start",
        "--indirect-selection",
        "--inline",
        "--limit",
        "--log-file-max-bytes",
        "--log-format",
        "--log-format-file",
        "--log-level",
        "--log-level-file",
        "--log-path",
        "--output",
        "--output-keys",
        "--output-path",
        "--printer-width",
        "--profile",
        "--profiles-dir",
        "--project-dir",
        "--sample",
        "--selector",
        "--state",
        "--target",
        "--target-path",
        "--threads",
        "--vars",
        "--warn-error-options",
        "-o",
        "-t",
    }
)
_SHORT: Final = {
    "-t": "--target",
    "-o": "--output",
    "-f": "--full-refresh",
    "-x": "--fail-fast",
    "-d": "--debug",
}
GROUPS: Final = frozenset({"docs", "source"})
"""The first words of the commands of two words."""


class Call(msgspec.Struct, frozen=True):
    """
    One call of dbt.

    :param command: such as "build" or "source freshness"; empty where there is none
    :param arguments: the other words that are no options: the macro of `run-operation`
    :param options: those with one value, and the switches that are on, by their long names
    """

    command: str = ""
    arguments: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    resource_types: tuple[str, ...] = ()
    exclude_resource_types: tuple[str, ...] = ()
    options: dict[str, str | bool] = {}

    def value(self, option: str) -> str | None:
        """Return the value of an option that takes one."""
        value = self.options.get(option)
        return value if isinstance(value, str) else None

    def has(self, switch: str) -> bool:
        """Return whether a switch is on."""
        return self.options.get(switch) is True

    @property
    def vars(self) -> Any:
        """The variables; text where they are not JSON."""
        return self._read("--vars")

    @property
    def args(self) -> Any:
        """The arguments of a macro; text where they are not JSON."""
        return self._read("--args")

    def _read(self, option: str) -> Any:
        text = self.value(option)
        try:
            return json.loads(text) if text else {}
        except ValueError:
            return text


def call_of(words: Sequence[str]) -> Call:
    """Read the words that follow `dbt`."""
    command: list[str] = []
    arguments: list[str] = []
    many: dict[str, list[str]] = {field: [] for field in _MANY.values()}
    options: dict[str, str | bool] = {}
    collects: list[str] | None = None
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if not word.startswith("-") or word == "-":
            if collects is not None:
                collects += word.split()
            elif not command or (len(command) == 1 and command[0] in GROUPS):
                command.append(word)
            else:
                arguments.append(word)
            continue
        name, has_value, value = word.partition("=")
        collects = None
        if name in _MANY:
            collects = many[_MANY[name]]
            if has_value:
                collects += value.split()
        elif name in _ONE:
            options[_SHORT.get(name, name)] = value if has_value else (waiting.pop() if waiting else "")
        else:
            options[_SHORT.get(name, name)] = True
    return Call(
        command=" ".join(command),
        arguments=tuple(arguments),
        options=options,
        **{field: tuple(found) for field, found in many.items()},
    )
