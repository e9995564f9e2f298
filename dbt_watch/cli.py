"""
The command `dbt-watch`: a table of sub-commands, each with its module, which is imported only when it is called.

The module of a sub-command has `DESCRIPTION` and `EXAMPLE` for its help, `add_arguments(parser)`, and `run(args) -> int`,
which returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Protocol, cast

from dbt_watch.core.extras import installation_of
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    class _Command(Protocol):
        DESCRIPTION: str
        EXAMPLE: str

        @staticmethod
        def add_arguments(parser: argparse.ArgumentParser) -> None: ...

        @staticmethod
        def run(args: argparse.Namespace) -> int: ...


COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": (
        "dbt_watch.local.demo.command",
        "build an example dbt project on a real Airflow, without a cluster",
    ),
    "init": (
        "dbt_watch.scaffold.command",
        "write the first DAG for a dbt project, its Dockerfile and a CI workflow",
    ),
    "localkube": (
        "dbt_watch.local.localkube.command",
        "serve a Kubernetes API whose pods are processes on this machine",
    ),
    "ls": ("dbt_watch.core.commands.ls", "list the dbt nodes that a selection matches, from a manifest.json"),
    "migrate": (
        "dbt_watch.migration.command",
        "rewrite a DAG file that uses astronomer-cosmos for this library",
    ),
    "plan": (
        "dbt_watch.planning.command",
        "show which pods, tasks and commands a project will have, and why",
    ),
    "replay": ("dbt_watch.core.commands.replay", "show what happened to each dbt node, from a dbt log"),
    "report": (
        "dbt_watch.reporting.command",
        "show how a dbt run ended and why, and where the time went",
    ),
    "run": (
        "dbt_watch.local.run.command",
        "run one of your DAGs on a real Airflow, without a cluster",
    ),
    "server": ("dbt_watch.server.command", "run dbt invocations that clients post over HTTP"),
}
"""The sub-commands: name -> (module, description)."""

CANNOT_RUN: Final = 2
"""The exit status when a command could not run; argparse uses it for invalid arguments too."""

INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as in shells: 128 + SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a sub-command and return the exit status.

    :param argv: the arguments after the program's name; by default those of the process
    """
    try:
        return _main(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return INTERRUPTED


def _main(arguments: list[str]) -> int:
    args = _parser().parse_args(arguments[:1])
    module, _ = COMMANDS[args.command]
    try:
        command = cast("_Command", importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("dbt_watch"):
            raise
        return _cannot_run(f"{error.name} is not installed; it comes with `{installation_of(error.name)}`")
    parser = argparse.ArgumentParser(
        prog=f"dbt-watch {args.command}",
        description=command.DESCRIPTION,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args(arguments[1:]))
    except ArgumentError as error:
        return _cannot_run(str(error))
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does; there is nobody left to tell.
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {purpose}" for name, (_, purpose) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dbt-watch",
        description="Run dbt projects in Kubernetes pods from Apache Airflow, with one task for each dbt node.",
        epilog=f"commands:\n{table}\n\n`dbt-watch COMMAND --help` describes a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dbt-watch {version('dbt-watch')}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    return parser


def _cannot_run(why: str) -> int:
    sys.stderr.write(f"dbt-watch: {why}\n")
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
