"""
How dbt is called in the container: as the command, after the image's ENTRYPOINT, or after other dbt commands.

`authoring.project_factory` calls this when a project is made.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.authoring.artifact_script import BEGINNING, STATE, sending
from dbt_watch.core.artifacts import checked
from dbt_watch.core.command import deps_arguments
from dbt_watch.core.flags import check_flags
from dbt_watch.exceptions import ArgumentError
from dbt_watch.profiles.dbt_profile import PROFILES_DIR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.authoring.options import ProjectOptions
    from dbt_watch.authoring.settings import ProjectSettings

_DEFAULT: Final = ("dbt",)


class ContainerCommand(msgspec.Struct, frozen=True):
    """
    How dbt is called.

    :param cmds: replaces the image's ENTRYPOINT; empty to keep it
    :param leading: the words before dbt's arguments
    """

    cmds: list[str]
    leading: list[str]


def container_command(settings: ProjectSettings) -> ContainerCommand:
    """
    Return the command of the container.

    :raises ArgumentError: when `cmds` is not a list of words, does not run dbt, or cannot run it more than once
    """
    words = dbt_words(settings.pod.get("cmds"))
    steps = []
    if settings.options["deps"]:
        _check_can_be_called_twice(words, "deps", settings.options["deps"])
        arguments = deps_arguments(
            project_dir=settings.options["project_dir"], profiles_dir=profiles_dir_of(settings.options)
        )
        steps.append(f"{shlex.join([*words, *arguments])} || exit")
    if settings.options["freshness"] == "before":
        _check_can_be_called_twice(words, "freshness", settings.options["freshness"])
        steps.append(_FRESHNESS.replace("DBT", shlex.join(words)))
    artifacts = checked("artifacts", settings.options["artifacts"])
    if settings.options["state"] is not None:
        _check_can_be_called_twice(words, "state", settings.options["state"])
        steps = [BEGINNING, STATE, *steps]
    elif artifacts is not None:
        steps = [BEGINNING, *steps]
    if artifacts is not None:
        _check_can_be_called_twice(words, "artifacts", artifacts.to)
        end = sending(words, artifacts.names, project_dir=settings.options["project_dir"])
        words = _in_shell(words, steps, end)
    elif steps:
        words = _in_shell(words, steps)
    return ContainerCommand([], words) if settings.options["keep_entrypoint"] else ContainerCommand(words, [])


def profiles_dir_of(options: ProjectOptions) -> str | None:
    """Return the directory of profiles.yml in the container, unless it is in the project."""
    return PROFILES_DIR if options["profile"] is not None else options["profiles_dir"]


def dbt_words(cmds: Any) -> list[str]:
    """
    Return the command that calls dbt; empty if the image's ENTRYPOINT is dbt.

    :raises ArgumentError: when it is not a list of words, does not name dbt, or contains dbt options that change its log
    """
    if cmds is None:
        return list(_DEFAULT)
    if not isinstance(cmds, list | tuple) or not all(isinstance(word, str) for word in cmds):
        raise ArgumentError(
            "cmds", cmds, 'the command that runs dbt, as a list: ["dbt"] or ["uv", "run", "dbt"]'
        )
    if cmds and not any("dbt" in word for word in cmds):
        raise ArgumentError(
            "cmds",
            cmds,
            'a command that runs dbt, such as ["uv", "run", "dbt"]: dbt\'s arguments are appended to it. To run something'
            " before dbt, use keep_entrypoint=True or init_containers",
        )
    called = max((number for number, word in enumerate(cmds, 1) if "dbt" in word), default=0)
    check_flags("cmds", cmds, cmds[called:])
    return list(cmds)


def _check_can_be_called_twice(words: Sequence[str], argument: str, value: object) -> None:
    if not words:
        raise ArgumentError(
            argument, value, "cmds with the command that runs dbt: an ENTRYPOINT is called only once"
        )


def _in_shell(words: Sequence[str], steps: Sequence[str], end: str | None = None) -> list[str]:
    """
    Make a shell call dbt after other steps in the same container; what these write is in the project's directory.

    The script contains only what the DAG's author wrote, each word quoted; dbt's arguments are passed as arguments. The
    last command replaces the shell, so that signals reach dbt.

    :param end: calls dbt instead, and handles signals itself
    """
    script = "\n".join([*steps, f'exec {shlex.join(words)} "$@"' if end is None else end])
    return ["/bin/sh", "-c", script, words[-1]]


# When the first argument is a number, so many arguments after it are a check of sources, and the rest, less what reads from
# those that are stale, is the build. Without a number there is one command only, which runs as usual.
#
# The check is a background job, since a shell heeds a signal only while it waits. Its log goes on at once and is kept: dbt
# writes one record for each source, and no text within a record can look like its fields, since JSON escapes quotes. It ends
# with 1 when a source is stale; when there is none, or with anything else, dbt itself has failed, and nothing is built.
_FRESHNESS: Final = r"""
case "$1" in
'' | *[!0-9]*) ;;
*)
    count=$1
    shift
    notes=$(mktemp -d) || exit
    trap 'exit 130' INT TERM
    {
        (
            turned=0
            while [ "$turned" -lt "$count" ]; do
                set -- "$@" "$1"
                shift
                turned=$((turned + 1))
            done
            while [ "$#" -gt "$count" ]; do shift; done
            exec DBT "$@"
        )
        echo "$?" > "$notes/code"
    } | tee "$notes/log" &
    wait "$!"
    code=$(cat "$notes/code")
    stale=$(sed -n '/"name": *"LogFreshnessResult"/{
        /"status": *"\(runtime \)\{0,1\}error"/s/.*"unique_id": *"source\.\([A-Za-z0-9_.$#-]*\)".*/source:\1+/p
    }' "$notes/log")
    rm -r "$notes"
    shift "$count"
    case "$code:$stale" in
    0:) ;;
    [01]:?*) set -f; set -- "$@" --exclude $stale ;;
    *) exit "$code" ;;
    esac
    ;;
esac
""".strip()
