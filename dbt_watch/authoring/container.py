"""
How dbt is called in the container: as the command, behind the image's ENTRYPOINT, and with `dbt deps` before it.

`authoring.factory` asks when a project is made.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.command import deps_arguments
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from dbt_watch.authoring.settings import ProjectSettings

_DEFAULT: Final = ("dbt",)


class ContainerCommand(msgspec.Struct, frozen=True):
    """
    How dbt is called.

    :param cmds: what replaces the image's ENTRYPOINT; nothing where that is kept
    :param leading: the words in front of dbt's arguments
    """

    cmds: list[str]
    leading: list[str]


def container_command(settings: ProjectSettings) -> ContainerCommand:
    """
    Give the command of the container.

    :raises ArgumentError: when `cmds` are no words, or do not run dbt
    """
    words = dbt_words(settings.pod.get("cmds"))
    if settings.deps:
        words = _after_deps(words, settings)
    return ContainerCommand([], words) if settings.keep_entrypoint else ContainerCommand(words, [])


def dbt_words(cmds: Any) -> list[str]:
    """
    Give the words by which dbt is called; none where the image's ENTRYPOINT is dbt.

    :raises ArgumentError: when these are no words, or none of them names dbt
    """
    if cmds is None:
        return list(_DEFAULT)
    if not isinstance(cmds, list | tuple) or not all(isinstance(word, str) for word in cmds):
        raise ArgumentError("cmds", cmds, 'the words that call dbt, such as ["dbt"] or ["uv", "run", "dbt"]')
    if cmds and not any("dbt" in word for word in cmds):
        raise ArgumentError(
            "cmds",
            cmds,
            'words that call dbt, such as ["uv", "run", "dbt"]: its arguments follow them, and its log is what tells of'
            " the nodes; to run something before it, keep_entrypoint=True or init_containers",
        )
    return list(cmds)


def _after_deps(words: list[str], settings: ProjectSettings) -> list[str]:
    """
    Let `dbt deps` run before, in the same container: what it installs lies in the project's directory.

    Only what the DAG's author wrote stands in the shell's line, each word quoted; dbt's arguments follow it as arguments.
    """
    if not words:
        raise ArgumentError("deps", True, "cmds that name dbt; an ENTRYPOINT is called once only")
    deps = deps_arguments(project_dir=settings.project_dir, profiles_dir=settings.profiles_dir)
    script = f'{shlex.join([*words, *deps])} && exec {shlex.join(words)} "$@"'
    return ["/bin/sh", "-c", script, words[-1]]
