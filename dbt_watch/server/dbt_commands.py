"""
Checks the command that a client asks for against dbt's own sub-commands and options, word by word.

`app` calls `check_command`; a command that passes is a list of words for dbt and never a line for a shell. Source, option by
option: `dbt.cli.params` and `dbt.cli.main` of dbt-core 1.8 to 1.12. An option that an installed dbt does not know yet, or no
more, is dbt's to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_WORDS: Final = 1_000
MAX_WORD: Final = 65_536
"""The longest word of a command, in characters; Linux passes no word of more than 128 KiB to a program."""

_FLAG, _VALUE, _VALUES = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class CheckedCommand:
    """
    A command that passed.

    :ivar name: the sub-command
    :ivar leading: the options in front of it
    :ivar arguments: what follows it
    :ivar target: the target that was asked for
    :ivar log_level: the level of the log that was asked for
    """

    name: str
    leading: tuple[str, ...]
    arguments: tuple[str, ...]
    target: str | None
    log_level: str

    def words(self) -> list[str]:
        """Return the command without what the server adds."""
        return [*self.leading, *self.name.split(), *self.arguments]


def check_command(command: Sequence[str], *, roots: Mapping[str, str], contains: _Contains) -> CheckedCommand:
    """
    Return a command whose every word is understood, without the options that the server sets itself.

    :param command: dbt's arguments, options in front of the sub-command included
    :param roots: the directories that the options `--project-dir` and `--profiles-dir` may name
    :param contains: tells whether a path leads into the project
    :raises ArgumentError: naming the word that is wrong
    """
    _check_words(command)
    reader = _Reader(command, roots, contains)
    leading = reader.options(_LEADING, "dbt")
    name = reader.sub_command()
    arguments = reader.options(_COMMON | _OWN[name], name, positional=_POSITIONAL.get(name, 0))
    return CheckedCommand(
        name=name,
        leading=tuple(leading),
        arguments=tuple(arguments),
        target=reader.target,
        log_level=reader.log_level,
    )


def _check_words(command: Sequence[str]) -> None:
    if not command:
        raise ArgumentError("command", [], "a dbt sub-command")
    if len(command) > MAX_WORDS:
        raise ArgumentError("command", f"{len(command)} words", f"at most {MAX_WORDS} words")
    for word in command:
        if len(word) > MAX_WORD:
            raise ArgumentError("command", word, f"words of at most {MAX_WORD} characters")
        if "\0" in word or not _is_text(word):
            raise ArgumentError("command", word, "words of valid text, without the character 0")


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Reader:
    """Reads a command from its first word to its last."""

    def __init__(self, command: Sequence[str], roots: Mapping[str, str], contains: _Contains) -> None:
        self._rest = list(command)
        self._roots = roots
        self._contains = contains
        self.target: str | None = None
        self.log_level = "debug"

    def sub_command(self) -> str:
        """Take the sub-command."""
        if not self._rest:
            raise ArgumentError("command", "", "a dbt sub-command")
        word = self._rest.pop(0)
        if word in _GROUPS:
            following = self._rest.pop(0) if self._rest else ""
            word = f"{word} {following}"
        if word in _NEVER:
            raise ArgumentError("command", word, f"another sub-command: {_NEVER[word]}")
        if word not in _OWN:
            raise ArgumentError("command", word, "a dbt sub-command", known=_OWN)
        return word

    def options(self, known: Mapping[str, int], where: str, *, positional: int = 0) -> list[str]:
        """Take options, and their values, and as many other words as the sub-command has."""
        kept: list[str] = []
        while self._rest:
            word = self._rest[0]
            if not word.startswith("-"):
                if not positional:
                    if where == "dbt":
                        break
                    raise ArgumentError("command", word, f"an option of dbt {where}", known=known)
                positional -= 1
                kept.append(self._rest.pop(0))
                continue
            kept += self._option(known, where)
        return kept

    def _option(self, known: Mapping[str, int], where: str) -> list[str]:
        word = self._rest.pop(0)
        option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if option not in known:
            raise ArgumentError("command", word, f"an option of dbt {where}", known=known, sought=option)
        kind = known[option]
        if kind == _FLAG and equals:
            raise ArgumentError("command", word, f"{option} without a value")
        values = [value] if equals else []
        if kind != _FLAG and not equals:
            values = self._values(option, several=kind == _VALUES)
        elif kind == _VALUES:
            values += self._until_an_option()
        return self._judged(option, values, where)

    def _values(self, option: str, *, several: bool) -> list[str]:
        # dbt would take what looks like an option for the value of this one.
        if not self._rest or self._rest[0].startswith("-"):
            raise ArgumentError(
                "command",
                option,
                f"a value after {option}; write one that begins with a hyphen as {option}=VALUE",
            )
        return [self._rest.pop(0), *(self._until_an_option() if several else ())]

    def _until_an_option(self) -> list[str]:
        taken = []
        while self._rest and not self._rest[0].startswith("-"):
            taken.append(self._rest.pop(0))
        return taken

    def _judged(self, option: str, values: list[str], where: str) -> list[str]:
        """Return an option as dbt gets it: none, where the server sets it itself."""
        if option in _REFUSED or (where in _FRESHNESS and option in {"--output", "-o"}):
            raise ArgumentError("command", option, f"no {option}: {_REFUSED.get(option, _PLACES)}")
        if option in {"--target", "-t"}:
            self.target = values[0]
            return []
        if option in _LOG_VALUES:
            self._note_log(option, values[0])
            return []
        if option in _SET_ANYWAY:
            return []
        if option in self._roots and self._roots[option] == values[0]:
            return []
        if option in self._roots:
            raise ArgumentError("command", f"{option} {values[0]}", f"no {option}: {_PLACES}")
        if option in _PATHS and not self._contains(values[0]):
            raise ArgumentError("command", f"{option} {values[0]}", "a path in the project's directory")
        if len(values) == 1 and values[0].startswith("-"):
            return [f"{option}={values[0]}"]
        return [option, *values]

    def _note_log(self, option: str, value: str) -> None:
        if value not in _LOG_VALUES[option]:
            raise ArgumentError("command", f"{option} {value}", f"{option} {_LOG_VALUES[option][0]}: {_LOG}")
        if option == "--log-level":
            self.log_level = value


if TYPE_CHECKING:
    from collections.abc import Callable

    _Contains = Callable[[str], bool]

_LOG: Final = (
    "the state of each node is read from dbt's log, whose format and content only the server may set"
)
_PLACES: Final = "the server sets the paths"
_NO_RUN: Final = "with it dbt runs nothing"

# What may be said of the log, and is said to dbt by the server.
_LOG_VALUES: Final = {
    "--log-format": ("json",),
    "--log-level": ("debug", "info"),
    "--log-level-file": ("none",),
}
_SET_ANYWAY: Final = frozenset(
    {"--no-use-colors", "--no-use-colors-file", "--no-quiet", "--write-json", "--debug", "-d"}
)
_PATHS: Final = frozenset({"--state", "--defer-state"})
_FRESHNESS: Final = frozenset({"source freshness", "source snapshot-freshness"})

_REFUSED: Final = {
    **dict.fromkeys(
        (
            "--quiet", "-q", "--use-colors", "--use-colors-file", "--log-cache-events", "--no-log-cache-events",
            "--log-format-file", "--log-file-max-bytes", "--enable-legacy-logger", "--no-enable-legacy-logger", "--no-debug",
        ),
        _LOG,
    ),
    **dict.fromkeys(
        ("--log-path", "--target-path", "--partial-parse-file-path", "--record-timing-info", "-r"), _PLACES
    ),
    "--profile": "the targets are set in the server's settings",
    "--no-write-json": "the artifacts of an invocation are kept",
    "--upload-to-artifacts-ingest-api": "the files that dbt writes stay on the server",
    "--no-clean-project-files-only": "nothing outside the project may be removed",
    **dict.fromkeys(("--version", "-v", "-V", "--help", "-h"), _NO_RUN),
}  # fmt: skip

_NEVER: Final = {
    "docs serve": "it would never end",
    "init": "it creates a project, and projects are listed in the server's settings",
}
_GROUPS: Final = frozenset({"docs", "source"})
_POSITIONAL: Final = {"run-operation": 1}


def _switches(*names: str) -> dict[str, int]:
    """Return flags that have a form with `no-` each."""
    return {f"--{form}{name}": _FLAG for name in names for form in ("", "no-")}


_LEADING: Final = {
    **_switches(
        "cache-selected-only", "debug", "defer", "enable-legacy-logger", "fail-fast", "favor-state",
        "hints-enabled", "log-cache-events", "macro-debugging", "partial-parse", "partial-parse-file-diff", "populate-cache",
        "print", "quiet", "send-anonymous-usage-stats", "show-all-deprecations", "show-resource-report", "single-threaded",
        "snowflake-projects-otel", "static-parser", "upload-to-artifacts-ingest-api", "use-colors", "use-colors-file",
        "use-experimental-parser", "use-fast-test-edges", "version-check", "write-json",
    ),
    **dict.fromkeys(("--warn-error", "--version", "--help", "-V", "-d", "-h", "-q", "-v", "-x"), _FLAG),
    **dict.fromkeys(
        (
            "--defer-state", "--indirect-selection", "--log-file-max-bytes", "--log-format",
            "--log-format-file", "--log-level", "--log-level-file", "--log-path", "--maximum-seed-size-mib",
            "--partial-parse-file-path", "--printer-width", "--profile", "--record-timing-info", "--state", "--target",
            "--warn-error-options", "-r", "-t",
        ),
        _VALUE,
    ),
}  # fmt: skip
_COMMON: Final = {
    **_LEADING,
    **dict.fromkeys(("--profiles-dir", "--project-dir", "--target-path", "--vars"), _VALUE),
}
_SELECTS: Final = {
    **dict.fromkeys(("--select", "-s", "--models", "--model", "-m", "--exclude"), _VALUES),
    "--selector": _VALUE,
}
_TYPES: Final = dict.fromkeys(
    ("--resource-type", "--resource-types", "--exclude-resource-type", "--exclude-resource-types"), _VALUES
)
_THREADS: Final = {"--threads": _VALUE}
_REFRESH: Final = {"--full-refresh": _FLAG, "-f": _FLAG}
_PARSER: Final = {"--sqlparse": _VALUE}
_EVENTS: Final = dict.fromkeys(("--event-time-start", "--event-time-end", "--sample"), _VALUE)
_QUERY: Final = {
    **_SELECTS, **_THREADS, **_REFRESH, **_PARSER, **_switches("introspect"), "--inline": _VALUE, "--output": _VALUE,
}  # fmt: skip
_LS: Final = {**_SELECTS, **_TYPES, "--output": _VALUE, "--output-keys": _VALUES}
_SOURCES: Final = {**_SELECTS, **_THREADS, **_PARSER, "--output": _VALUE, "-o": _VALUE}

# The options of each sub-command besides those of all.
_OWN: Final[dict[str, dict[str, int]]] = {
    "build": {
        **_SELECTS, **_TYPES, **_THREADS, **_REFRESH, **_PARSER, **_EVENTS, "--show": _FLAG, "--store-failures": _FLAG,
        **_switches("empty", "export-saved-queries", "include-saved-query"),
    },
    "clean": _switches("clean-project-files-only"),
    "clone": {**_SELECTS, **_TYPES, **_THREADS, **_REFRESH},
    "compile": {**_QUERY, **_switches("empty", "inject-ephemeral-ctes")},
    "debug": {"--config-dir": _FLAG, "--connection": _FLAG},
    "deps": {"--add-package": _VALUE, "--lock": _FLAG, "--source": _VALUE, "--upgrade": _FLAG},
    "docs generate": {
        **_SELECTS, **_THREADS, **_PARSER, "--empty-catalog": _FLAG, "--static": _FLAG, **_switches("compile"),
    },
    "list": _LS,
    "ls": _LS,
    "parse": _THREADS,
    "retry": {**_THREADS, **_REFRESH},
    "run": {**_SELECTS, **_THREADS, **_REFRESH, **_PARSER, **_EVENTS, **_switches("empty")},
    "run-operation": {**_THREADS, "--args": _VALUE},
    "seed": {**_SELECTS, **_THREADS, **_REFRESH, **_PARSER, "--show": _FLAG},
    "show": {**_QUERY, "--inline-direct": _VALUE, "--limit": _VALUE},
    "snapshot": {**_SELECTS, **_THREADS, **_PARSER, **_switches("empty")},
    "source freshness": _SOURCES,
    "source snapshot-freshness": _SOURCES,
    "test": {**_SELECTS, **_TYPES, **_THREADS, **_PARSER, "--store-failures": _FLAG},
}  # fmt: skip

SUB_COMMANDS: Final = tuple(_OWN)
"""The sub-commands that a project may allow."""
