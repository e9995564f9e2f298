"""
The command line of dbt, as a list of arguments.

`dbt_build` returns a `DbtBuild`; `producers` renders it when it runs, and asks `dbt_arguments` for the command of a pod and
`environment` for its variables, or `server_arguments` for what a server is asked for. `authoring` checks what is known earlier,
and asks for the `deps` of an own container. Every value is one argument of its own; nothing is pasted into a line that a shell
would read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec

from dbt_watch.core import event_time
from dbt_watch.core.flags import LOG_ENVIRONMENT, check_flags
from dbt_watch.core.verbatim import Reference
from dbt_watch.exceptions import ArgumentError

# JSON on stdout at debug: only there does dbt 1.x say why a node failed at the moment it fails. No log file, since
# `--log-format json` would turn that into debug JSON as well.
GLOBAL_FLAGS = ("--log-format", "json", "--log-level", "debug", "--log-level-file", "none", "--no-use-colors")

# What `dbt docs generate` writes is read only when it fails, by people.
DOCS_FLAGS = ("--log-format", "text", "--log-level", "error", "--log-level-file", "none", "--no-use-colors")

# The same where a server runs dbt. It may read the log from dbt's file, which is left as the server wants it.
SERVER_FLAGS = ("--log-format", "json", "--log-level", "debug", "--no-use-colors")

# dbt takes variables as an argument only. They are put into the environment of the container, so that its command does
# not show them.
VARS_VARIABLE = "DBT_WATCH_VARS"

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", "none", ""})


class Unrendered(str):
    """A template, or what another task gives, as a plan shows it before it has a value."""

    __slots__ = ()


class DbtBuild(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a run of `dbt build` is asked to do; the return value of `dbt_build(...)`.

    Any value may be a template or an XComArg until the producer runs.
    """

    vars: Any = None
    full_refresh: Any = None
    target: Any = None
    threads: Any = None
    fail_fast: Any = None
    empty: Any = None
    event_time_start: Any = None
    event_time_end: Any = None
    select: Any = None
    exclude: Any = None
    flags: Any = ()
    event_time: Any = None
    event_time_vars: Any = None
    defer: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Return the options that were set, as builtins: what Airflow renders."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if value is not None and value != ()}


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which nodes of the project are built, in dbt's own words.

    :param sources: the sources that are checked before, each by its full name
    :param builds: whether anything is built at all
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    selector: str | None = None
    exclude_resource_types: tuple[str, ...] = ()
    indirect_selection: str | None = None
    sources: tuple[str, ...] = ()
    builds: bool = True

    def arguments(self) -> list[str]:
        """Return the options of `dbt build` that select these nodes."""
        arguments: list[str] = []
        for flag, values in (("--select", self.select), ("--exclude", self.exclude)):
            if values:
                arguments += [flag, *values]
        if self.selector is not None:
            arguments += ["--selector", self.selector]
        for resource_type in self.exclude_resource_types:
            arguments += ["--exclude-resource-type", resource_type]
        # Always, since the tasks are made by this rule, whatever the project's flags or the environment say.
        return [*arguments, "--indirect-selection", self.indirect_selection or "eager"]


def dbt_arguments(
    options: Mapping[str, Any],
    selection: Selection,
    *,
    project_dir: str | None = None,
    profiles_dir: str | None = None,
    profile: str | None = None,
    docs: bool = False,
) -> list[str]:
    """
    Return the arguments of dbt for one build, for one check of sources, or for both.

    The arguments of both stand one after the other, and in front of them how many belong to the first. So do those of
    `dbt docs generate`, between the two, as `docs:` and a number. The container needs
    the variables that `environment` returns. What is `Unrendered` stands among them as it is written; where it decides whether
    there is an option at all, in brackets: `[--full-refresh if {{ params.full }}]`.

    :param options: a rendered `DbtBuild.to_dict()`; templates have become text, so "True" is a boolean here. `leading`
        among them are words in front of the arguments. `select` and `exclude` are none of dbt's here: what they leave of
        the selection is in `selection`.
    :param selection: the nodes to build, and the sources to check
    :param project_dir: the directory of `dbt_project.yml` in the image
    :param profiles_dir: the directory of `profiles.yml` in the image
    :param profile: the name of the profile there; by default what the project says
    :param docs: whether `dbt docs generate` follows the build
    :raises ArgumentError: when a rendered value is not of the kind that dbt expects
    """
    shared = shared_arguments(options, project_dir=project_dir, profiles_dir=profiles_dir, profile=profile)
    check, build, catalog = [], [], []
    if selection.sources:
        check = [*GLOBAL_FLAGS, "source", "freshness", *shared, "--select", *selection.sources]
    if selection.builds:
        build = [*GLOBAL_FLAGS, "build", *shared, *_build_arguments(options), *selection.arguments()]
    if docs and build:
        catalog = [*DOCS_FLAGS, "docs", "generate", *shared, "--no-compile"]
        catalog.insert(0, f"docs:{len(catalog)}")
    count = [str(len(check))] if check and build else []
    return [*options.get("leading", ()), *count, *check, *catalog, *build]


def server_arguments(options: Mapping[str, Any], selection: Selection) -> list[str]:
    """
    Return the arguments of dbt for one build, or for one check of sources, where a server runs it.

    The server knows where things are, and there is no container whose environment could hold the variables. A long selection
    goes into few words, as dbt takes it too: a server may count them.

    :param options: see `dbt_arguments`
    :param selection: the nodes to build, or the sources to check
    :raises ArgumentError: when a rendered value is not of the kind that dbt expects
    """
    shared = server_shared_arguments(options)
    if not selection.builds:
        return [*SERVER_FLAGS, "source", "freshness", *shared, "--select", *_in_few_words(selection.sources)]
    few = msgspec.structs.replace(
        selection, select=_in_few_words(selection.select), exclude=_in_few_words(selection.exclude)
    )
    return [*SERVER_FLAGS, "build", *shared, *_build_arguments(options), *few.arguments()]


def server_shared_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the options that all of these commands take where a server runs them."""
    return _given(
        ("--target", _text("target", options.get("target"))),
        ("--threads", _threads(options.get("threads"))),
        ("--vars", _vars(options.get("vars"))),
    )


def _in_few_words(criteria: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a selection, several in a word where there are many: dbt cuts a word at its blanks."""
    if len(criteria) <= MANY_WORDS:
        return tuple(criteria)
    words: list[str] = []
    for criterion in criteria:
        if words and len(words[-1]) + len(criterion) < LONG_WORD:
            words[-1] = f"{words[-1]} {criterion}"
        else:
            words.append(criterion)
    return tuple(words)


MANY_WORDS = 200
LONG_WORD = 30_000
"""In characters; the server of this library takes words of 65,536."""


def environment(options: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the environment variables of the container: those that the arguments of dbt refer to, and those of its log.

    :param options: see `dbt_arguments`
    :raises ArgumentError: when `vars` are no variables
    """
    text = _vars(options.get("vars"))
    return LOG_ENVIRONMENT if text is None else {**LOG_ENVIRONMENT, VARS_VARIABLE: text}


def deps_arguments(*, project_dir: str | None = None, profiles_dir: str | None = None) -> list[str]:
    """
    Return the arguments of dbt for the installation of packages.

    :param project_dir: the directory of `dbt_project.yml` in the image
    :param profiles_dir: the directory of `profiles.yml` in the image
    """
    return [
        *GLOBAL_FLAGS, "deps", *shared_arguments({}, project_dir=project_dir, profiles_dir=profiles_dir),
    ]  # fmt: skip


def shared_arguments(
    options: Mapping[str, Any],
    *,
    project_dir: str | None,
    profiles_dir: str | None,
    profile: str | None = None,
) -> list[str]:
    """Return the options that all of these commands take."""
    return _given(
        ("--project-dir", project_dir),
        ("--profiles-dir", profiles_dir),
        ("--profile", profile),
        ("--target", _text("target", options.get("target"))),
        ("--threads", _threads(options.get("threads"))),
        ("--vars", Reference(f"$({VARS_VARIABLE})") if _vars(options.get("vars")) is not None else None),
    )


def _build_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the options that `dbt build` alone takes."""
    arguments = _given(
        ("--event-time-start", _moment("event_time_start", options.get("event_time_start"))),
        ("--event-time-end", _moment("event_time_end", options.get("event_time_end"))),
    )
    for flag, name in (
        ("--full-refresh", "full_refresh"),
        ("--fail-fast", "fail_fast"),
        ("--empty", "empty"),
        ("--defer", "defer"),
    ):
        value = options.get(name)
        if isinstance(value, Unrendered):
            arguments.append(f"[{flag} if {value}]")
        elif _boolean(name, value):
            arguments.append(flag)
    return arguments + _flags(options.get("flags"))


def _given(*options: tuple[str, str | None]) -> list[str]:
    return [word for flag, value in options if value is not None for word in (flag, value)]


def check_literals(build: DbtBuild) -> None:
    """
    Check the options that are known already: all but templates and what another task gives.

    :param build: the options
    :raises ArgumentError: see `dbt_arguments`
    """
    known = {name: value for name, value in build.to_dict().items() if is_literal(value)}
    event_time.check(build.to_dict())
    dbt_arguments(known, Selection())
    for name in ("select", "exclude"):
        criteria(name, known.get(name))


def check_flags_beside_profile(flags: Any, argument: str = "flags") -> None:
    """
    Check that options of dbt name no other profile than the one that is made for it.

    :param flags: the options, or what is not known yet
    :param argument: whose words they are
    :raises ArgumentError: naming the option
    """
    for word in flags if isinstance(flags, Sequence) and not isinstance(flags, str) else ():
        option = str(word).partition("=")[0]
        if option in _PROFILE_OPTIONS:
            raise ArgumentError(
                argument, list(flags), f"options without {option}: {_PROFILE_OPTIONS[option]}"
            )


_PROFILE_OPTIONS = {
    "--profile": "profile=DbtProfile(..., name=...) sets it",
    "--profiles-dir": "profile=DbtProfile(...) creates the file",
    "--target": "use dbt_build(target=...)",
    "-t": "use dbt_build(target=...)",
}


def criteria(argument: str, value: Any) -> tuple[str, ...]:
    """
    Return the parts of a selection; none for None and for blank text.

    :raises ArgumentError: when the value is no selection
    """
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise ArgumentError(argument, value, "a selection in dbt's syntax, or a list of them")
    return tuple(word for item in items for word in item.split())


def is_literal(value: Any) -> bool:
    """Return whether a value is known already: it holds no template, and nothing that another task gives."""
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(map(is_literal, value.values()))
    if isinstance(value, Sequence):
        return all(map(is_literal, value))
    # Airflow's references cannot be imported here; this method is how they are recognised.
    return not hasattr(value, "iter_references")


def _text(argument: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        raise ArgumentError(argument, value, "text")
    return value


def _moment(argument: str, value: Any) -> str | None:
    """Return a time as dbt takes it: in UTC, without saying so, and without fractions of a second."""
    text = _text(argument, value)
    if text is None or isinstance(text, Unrendered):
        return text
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text  # dbt says what it takes
    if moment.tzinfo is None and not moment.microsecond:
        return text
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return moment.isoformat(timespec="seconds")


def _boolean(argument: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ArgumentError(argument, value, "a boolean, or a template that renders to true or false")


def _threads(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, Unrendered):
        return value
    text = str(value).strip()
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError("threads", value, "a number of threads, 1 or more")
    return text


def _vars(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise ArgumentError("vars", value, "a dict of dbt variables, or YAML text as for dbt")
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError("vars", value, f"values that JSON can represent ({error})") from error


def _flags(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Unrendered):
        return [f"[{value}]"]
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or not all(isinstance(flag, str | int | float) for flag in value):
        raise ArgumentError("flags", value, 'a list of dbt options, such as ["--warn-error"]')
    flags = [str(flag) for flag in value]
    check_flags("flags", value, flags)
    return flags
