"""
The command lines of dbt for all that is no build of a project: a macro that is run, the docs, a clone, any other sub-command.

`authoring.operations` checks what is known while the DAG is parsed; the operators of `producers.pods` and `producers.api` render it
and ask for the words. Each value is one argument of its own, as in `core.command`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dbt_watch.core.command import (
    GLOBAL_FLAGS,
    SERVER_FLAGS,
    environment,
    is_literal,
    server_shared_arguments,
    shared_arguments,
)
from dbt_watch.core.flags import check_command_options
from dbt_watch.core.verbatim import Reference
from dbt_watch.exceptions import ArgumentError

ARGS_VARIABLE: Final = "DBT_WATCH_ARGS"
"""The environment variable of the container that holds the arguments of a macro, which may be secret, as the vars are."""

_GROUPS: Final = frozenset({"docs", "source"})
_MACRO: Final = re.compile(r"(?:[A-Za-z_]\w*\.)?[A-Za-z_]\w*")
_NOT_HERE: Final = {
    "build": "another command: @dbt_k8s_project or @dbt_api_project builds the project, with a task for each node",
    "docs serve": "another command: this one never ends; a web server can serve what `docs generate` writes",
    "init": "another command: the project that it creates would be lost with the pod",
}
"""What to use instead, by sub-command."""


def check_operation(macro: Any, args: Any) -> None:
    """
    Check the call of a macro, as far as it is known.

    :raises ArgumentError: when the name is no macro's, or the arguments are no dict
    """
    if not isinstance(macro, str) or (is_literal(macro) and _MACRO.fullmatch(macro) is None):
        raise ArgumentError("macro", macro, "the name of a macro, such as grant_select or dbt_utils.log_info")
    if is_literal(args):
        args_text(args)


def check_words(words: Any) -> None:
    """
    Check the words of a command, as far as they are known.

    :param words: the sub-command, and what follows it
    :raises ArgumentError: naming what is wrong
    """
    is_list = isinstance(words, Sequence) and not isinstance(words, str)
    if not is_list or not words:
        raise ArgumentError("words", words, 'the words of a dbt command, such as ["docs", "generate"]')
    name = sub_command(words)
    if not name or name.startswith("-") or not is_literal(name):
        raise ArgumentError("words", words, "a dbt sub-command as the first word, before its options")
    if name in _NOT_HERE:
        raise ArgumentError("words", words, _NOT_HERE[name])
    known = [word for word in words if isinstance(word, str) and is_literal(word)]
    for word in words:
        if is_literal(word) and not isinstance(word, str | int | float):
            raise ArgumentError("words", words, "a list of text")
    check_command_options("words", words, known)


def sub_command(words: Sequence[Any]) -> str:
    """Return the name of the sub-command that stands in front: one word, or two as in `docs generate`."""
    count = 2 if words and words[0] in _GROUPS else 1
    return " ".join(str(word) for word in words[:count] if isinstance(word, str))


def args_text(args: Any) -> str | None:
    """
    Return the arguments of a macro as dbt takes them; None where there are none.

    :raises ArgumentError: when they are no dict, or hold what JSON cannot
    """
    if args is None or args == "":
        return None
    if isinstance(args, str):
        return args
    if not isinstance(args, Mapping):
        raise ArgumentError("args", args, "a dict of a macro's arguments, or YAML text as for dbt")
    try:
        return json.dumps(args, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError("args", args, f"values that JSON can represent ({error})") from error


def pod_words(
    command: Mapping[str, Any],
    *,
    project_dir: str | None = None,
    profiles_dir: str | None = None,
    profile: str | None = None,
) -> list[str]:
    """
    Return the arguments of dbt in a container, which needs the variables of `pod_environment`.

    :param command: the rendered `words`, and `args`, `vars` and `target` where they are given
    :param project_dir: the directory of `dbt_project.yml` in the image
    :param profiles_dir: the directory of `profiles.yml` in the image
    :param profile: the name of the profile there; by default what the project says
    :raises ArgumentError: when something rendered to what dbt cannot be called with
    """
    args = [] if args_text(command.get("args")) is None else ["--args", Reference(f"$({ARGS_VARIABLE})")]
    shared = shared_arguments(command, project_dir=project_dir, profiles_dir=profiles_dir, profile=profile)
    return [*GLOBAL_FLAGS, *_words(command), *args, *shared]


def pod_environment(command: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that the arguments of `pod_words` refer to, and those of dbt's log."""
    args = args_text(command.get("args"))
    return {**environment(command), **({} if args is None else {ARGS_VARIABLE: args})}


def server_words(command: Mapping[str, Any]) -> list[str]:
    """
    Return the arguments of dbt for a server.

    :param command: see `pod_words`
    :raises ArgumentError: see `pod_words`
    """
    args = args_text(command.get("args"))
    given = [] if args is None else ["--args", args]
    return [*SERVER_FLAGS, *_words(command), *given, *server_shared_arguments(command)]


def _words(command: Mapping[str, Any]) -> list[str]:
    words = command["words"]
    check_words(words)
    return [str(word) for word in words]
