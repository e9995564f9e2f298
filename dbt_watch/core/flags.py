"""
Which options and environment variables of dbt a user may set, and which not: dbt's log and its nodes are ours to set.

`core.command` and `authoring` check with it. Source, option by option: `dbt.cli.params` of dbt-core 1.8 to 1.13, and the
command line of dbt Fusion 2.0 (preview).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Settings of an image or a DAG that would leave records out of the log, or flood it, and that the command line cannot overrule
# on every dbt (Fusion knows no `--no-quiet`). From 1.11 on dbt reads each of them under two names.
LOG_ENVIRONMENT: Final = {
    "DBT_QUIET": "false",
    "DBT_ENGINE_QUIET": "false",
    "DBT_LOG_CACHE_EVENTS": "false",
    "DBT_ENGINE_LOG_CACHE_EVENTS": "false",
    "DBT_ENABLE_LEGACY_LOGGER": "false",  # of 1.8
}
"""The environment variables that a container gets for dbt's log."""


def check_flags(argument: str, value: Any, words: Sequence[str]) -> None:
    """
    Check that options of dbt change neither its log nor what it builds.

    :param argument: whose words they are
    :param value: its value
    :param words: the options, and their values
    :raises ArgumentError: naming the option and what to use instead
    """
    for word in words:
        for option in _options_in(word):
            instead = _REFUSED.get(option)
            if instead is not None:
                raise ArgumentError(argument, value, f"options without {option}: {instead}")


def check_command_options(argument: str, value: Any, words: Sequence[str]) -> None:
    """
    Check that options of a command that is no build do not change dbt's log, nor say what arguments of their own say.

    :param argument: whose words they are
    :param value: its value
    :param words: the sub-command, its options, and their values
    :raises ArgumentError: naming the option and what to use instead
    """
    for word in words:
        for option in _options_in(word):
            instead = _REFUSED_IN_COMMANDS.get(option)
            if instead is not None:
                raise ArgumentError(argument, value, f"words without {option}: {instead}")


def _options_in(word: str) -> Sequence[str]:
    """Return the options of a word, of which one with a single hyphen may hold several."""
    if word.startswith("--") or not word.startswith("-"):
        return [word.partition("=")[0]]
    letters = word[1:]
    ends = [number for number, letter in enumerate(letters, 1) if letter in _TAKE_A_VALUE]
    return [f"-{letter}" for letter in letters[: min(ends, default=len(letters))]]


def check_variables(argument: str, value: Any, names: Iterable[str]) -> None:
    """
    Check that environment variables do not change what dbt builds; those that would change its log are overruled.

    :param argument: whose variables they are
    :param value: its value
    :param names: the names of the variables
    :raises ArgumentError: naming the variable and what to use instead
    """
    for name in names:
        setting = name.removeprefix("DBT_").removeprefix("ENGINE_") if name.startswith("DBT_") else ""
        if setting in _REFUSED_SETTINGS:
            raise ArgumentError(argument, value, f"variables without {name}: {_REFUSED_SETTINGS[setting]}")


_TAKE_A_VALUE: Final = frozenset("mrst")

_LOG: Final = (
    "the state of each node is read from dbt's log, whose level, format and content must not be changed"
)
_SELECTION: Final = (
    "each node that is built has a task; use select= and exclude= of dbt_build or of @dbt_k8s_project"
)
_TYPES: Final = (
    'each node that is built has a task; use select= and exclude=, or tests="none", of @dbt_k8s_project'
)
_NO_BUILD: Final = "with it dbt builds nothing"

# What to use instead, by option. `dbt.cli.params` of dbt-core 1.8 to 1.13.
_REFUSED: Final = {
    **dict.fromkeys(
        (
            "--quiet", "--no-quiet", "-q", "--log-format", "--log-level", "--log-level-file", "--use-colors",
            "--no-use-colors", "--log-cache-events", "--no-log-cache-events", "--enable-legacy-logger",
            "--no-enable-legacy-logger",
        ),
        _LOG,
    ),
    **dict.fromkeys(
        ("--select", "-s", "--models", "--model", "-m", "--exclude", "--selector", "--indirect-selection"), _SELECTION
    ),
    **dict.fromkeys(
        ("--resource-type", "--resource-types", "--exclude-resource-type", "--exclude-resource-types"), _TYPES
    ),
    **dict.fromkeys(("--version", "-v", "-V", "--help", "-h"), _NO_BUILD),
}  # fmt: skip

# The same for a command that builds no project.
_REFUSED_IN_COMMANDS: Final = {
    **{
        option: "the task's log and result are read from dbt's log, whose level, format and content must not be changed"
        for option, why in _REFUSED.items()
        if why is _LOG
    },
    **dict.fromkeys(("--version", "-v", "-V", "--help", "-h"), "with it dbt runs nothing"),
    "--project-dir": "project_dir=... of the project instead",
    "--profiles-dir": "profiles_dir=... of the project instead",
    "--vars": "vars=... instead, which keeps the values out of the pod's command",
    "--args": "args=... of run_operation instead, which keeps the values out of the pod's command",
    "--target": "target=... instead",
    "-t": "target=... instead",
}

# What to use instead, by the name of the variable without `DBT_` or `DBT_ENGINE_`.
_REFUSED_SETTINGS: Final = {
    "RESOURCE_TYPES": _TYPES,
    "EXCLUDE_RESOURCE_TYPES": _TYPES,
    "RECORDER_MODE": "dbt would replay a recording and report it as built, instead of building anything",
}
