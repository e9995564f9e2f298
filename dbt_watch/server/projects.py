"""
The projects that a server may run: which one a request means, and how its dbt is called.

`app` asks which project is meant and whether a command may run there; `worker.runner` asks for dbt's arguments and environment.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbt_watch.core.flags import LOG_ENVIRONMENT
from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.dbt_commands import CheckedCommand, check_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbt_watch.server.settings import ServedProjectSettings, Settings

DEFAULT_TARGET: Final = "default"
"""What stands for the profile's own target, where the settings of a project list none."""

TASK_ID_VARIABLE: Final = "DBT_WATCH_TASK_ID"
"""Tells which invocation a process of dbt belongs to."""

# What dbt gets of the server's environment; the rest may hold the server's own secrets.
_INHERITED: Final = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "LD_LIBRARY_PATH",
)  # fmt: skip


@dataclass(frozen=True)
class ServedProject:
    """
    A project with its name.

    :ivar settings: what the operator says of it
    :ivar target_root: where what dbt keeps between its runs is, by target
    """

    name: str
    settings: ServedProjectSettings
    target_root: Path

    @property
    def directory(self) -> Path:
        """Where its `dbt_project.yml` is."""
        return self.settings.directory

    @property
    def profiles_dir(self) -> Path:
        """Where its `profiles.yml` is."""
        return self.settings.profiles_dir or self.directory

    @property
    def default_target(self) -> str:
        """The target of a command that names none."""
        return self.settings.targets[0] if self.settings.targets else DEFAULT_TARGET

    def checked(self, command: Sequence[str]) -> tuple[CheckedCommand, str]:
        """
        Return a command that may run here, and its target.

        :raises ArgumentError: naming what is wrong
        """
        roots = {"--project-dir": str(self.directory), "--profiles-dir": str(self.profiles_dir)}
        checked = check_command(command, roots=roots, contains=self.contains)
        if checked.name not in self.settings.commands:
            raise ArgumentError(
                "command",
                checked.name,
                f"a command that the project {self.name} allows",
                known=self.settings.commands,
            )
        if checked.target is not None and checked.target not in self.settings.targets:
            raise ArgumentError(
                "command", f"--target {checked.target}", f"a target of the project {self.name}"
            )
        return checked, checked.target or self.default_target

    def contains(self, path: str) -> bool:
        """Return whether a path leads into the project's directory, links and `..` followed."""
        root = Path(os.path.realpath(self.directory))
        return Path(os.path.realpath(root / path)).is_relative_to(root)

    def target_path(self, target: str) -> Path:
        """Return where dbt keeps what it made of the project for a target: its partial parse, its last results."""
        return self.target_root / self.name / target

    def arguments(self, words: Sequence[str], target: str, log_level: str) -> list[str]:
        """
        Return the command line that runs a checked command.

        :param words: `CheckedCommand.words()`
        :raises ArgumentError: when there is no such dbt
        """
        arguments = [
            self.executable(), "--log-format", "json", "--log-level", log_level, "--log-level-file", "none",
            "--no-use-colors", *words,
        ]  # fmt: skip
        return arguments if target == DEFAULT_TARGET else [*arguments, "--target", target]

    def executable(self) -> str:
        """
        Return the path of the project's dbt.

        :raises ArgumentError: when there is none
        """
        # Beside the server's own Python first: its directory is not on PATH unless the environment is activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        found = shutil.which(self.settings.dbt, path=path)
        if found is None:
            raise ArgumentError(f"projects.{self.name}.dbt", self.settings.dbt, "a dbt executable")
        return found

    def secret_environment(self) -> dict[str, str]:
        """Return the variables that come from the server's environment."""
        return {name: os.environ[name] for name in self.settings.env_from if name in os.environ}

    def environment(self, task_id: str, target: str) -> dict[str, str]:
        """Return the whole environment of a dbt."""
        return {
            **self.common_environment(),
            "DBT_TARGET_PATH": str(self.target_path(target)),
            "DBT_LOG_PATH": str(self.target_path(target) / "logs"),
            TASK_ID_VARIABLE: task_id,
        }

    def common_environment(self) -> dict[str, str]:
        """Return what is the same in the environment of each dbt."""
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            **self.settings.env,
            **self.secret_environment(),
            **LOG_ENVIRONMENT,
            "PYTHONUNBUFFERED": "1",
            "DBT_PROJECT_DIR": str(self.directory),
            "DBT_PROFILES_DIR": str(self.profiles_dir),
        }


def served_projects(settings: Settings) -> dict[str, ServedProject]:
    """Return the projects of a server by their names."""
    root = settings.state_dir / "targets"
    return {name: ServedProject(name, project, root) for name, project in settings.projects.items()}


def find_project(
    projects: dict[str, ServedProject], allowed: Iterable[str], asked: str | None
) -> ServedProject:
    """
    Return the project that a request means.

    :param allowed: the names of those that its sender may use
    :param asked: a name or a directory; None means the only one
    :raises ArgumentError: when there is none
    """
    mine = {name: projects[name] for name in sorted(allowed) if name in projects}
    if asked is None:
        if len(mine) == 1:
            return next(iter(mine.values()))
        raise ArgumentError("project_dir", None, "the name of a project", known=mine)
    if asked in mine:
        return mine[asked]
    for project in mine.values():
        if os.path.normpath(asked) == str(project.directory):
            return project
    raise ArgumentError("project_dir", asked, "the name of a project, or its directory", known=mine)
