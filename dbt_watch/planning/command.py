"""
`dbt-watch plan`: which pods, tasks and commands a project will give, and why. Called by `dbt_watch.cli`.

Exit status: 0; 2 when there is no plan to be had.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from dbt_watch.core.log.task_log import MAX_LINE_CHARS
from dbt_watch.core.text import printable
from dbt_watch.exceptions import ArgumentError, DbtWatchError
from dbt_watch.planning.loading import plan_of_dag_file, plan_of_manifest
from dbt_watch.planning.tree import COLUMNS, tree_of
from dbt_watch.rendering.plan import TESTS

if TYPE_CHECKING:
    import argparse

    from dbt_watch.rendering.project_plan import ProjectPlan

DESCRIPTION: Final = """\
Show what a project under @dbt_k8s_project will run, before anything runs: its
pods in the order in which they can start, the nodes and tasks of each, its
command, image and resources, and why there is more than one pod. For a project
under @dbt_api_project, show the invocations to be posted to the server.

The DAG file is run as Airflow's DAG processor runs it, without a database.
With --manifest no DAG file is needed: try a selection or --isolate.
Values of environment variables and of dbt's vars are never shown.

Exit status: 0; 2 if the file, the project or an option is invalid.
"""
EXAMPLE: Final = 'dbt-watch plan --manifest target/manifest.json --isolate "tag:heavy" --svg plan.svg'

CANNOT_PLAN: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="the DAG file")
    parser.add_argument("--dag", metavar="DAG_ID", help="the project's DAG, if the file has several")
    parser.add_argument(
        "--project", metavar="GROUP_ID", help="the project's task group, if the DAG has several"
    )
    parser.add_argument(
        "--manifest", metavar="FILE", help="path or URL of a manifest.json, instead of a DAG file"
    )
    for name, what in (("select", "nodes to build (default: all)"), ("exclude", "nodes to leave out")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            metavar="SPEC",
            help=f"with --manifest: {what}, in dbt's selection syntax",
        )
    parser.add_argument(
        "--selector", metavar="NAME", help="with --manifest: a selector of the project's selectors.yml"
    )
    parser.add_argument(
        "--tests",
        choices=TESTS,
        help=f"with --manifest: where tests show (default: {TESTS[0]})",
    )
    parser.add_argument(
        "--isolate",
        action="append",
        metavar="SPEC",
        help='with --manifest: nodes that each get a pod of their own, "*" for all; may be given several times',
    )
    parser.add_argument("--image", metavar="IMAGE", help="with --manifest: the image of the pods")
    parser.add_argument(
        "--format",
        choices=("tree", "json"),
        default="tree",
        help="tree (the default), or json: one JSON object",
    )
    parser.add_argument(
        "--all", action="store_true", help="show all pods, all names and whole commands in the tree"
    )
    parser.add_argument(
        "--svg",
        metavar="FILE",
        help="also draw the pods and what they wait for into a file; needs dbt-watch[plan]",
    )


def run(args: argparse.Namespace) -> int:
    """
    Print a plan.

    :param args: what `add_arguments` has asked for
    :returns: the exit status
    """
    try:
        plan = _plan(args)
        if args.svg is not None:
            # Only here, since it needs a library that comes with an extra.
            from dbt_watch.planning.drawing import drawing_of  # noqa: PLC0415

            Path(args.svg).write_text(drawing_of(plan), encoding="utf-8")
    except ArgumentError as error:
        return _cannot(_as_option(error))
    except (DbtWatchError, OSError) as error:
        return _cannot(str(error))
    if args.format == "json":
        sys.stdout.write(f"{json.dumps(plan.to_dict())}\n")
        return 0
    console = Console(highlight=False, markup=False)
    # Where there is no terminal, whose width would tell, lines are as long as they are anywhere.
    console.width = min(console.width, COLUMNS) if console.is_terminal else COLUMNS
    console.print(tree_of(plan, everything=args.all))
    return 0


def _plan(args: argparse.Namespace) -> ProjectPlan:
    if (args.file is None) == (args.manifest is None):
        raise ArgumentError("FILE", args.file, "either a DAG file or --manifest")
    of_a_manifest = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    if args.manifest is not None:
        if args.dag is not None or args.project is not None:
            name = "--dag" if args.dag is not None else "--project"
            raise ArgumentError(name, args.dag or args.project, "a DAG file, not --manifest")
        isolate = of_a_manifest.pop("isolate", [])
        image = of_a_manifest.pop("image", None)
        return plan_of_manifest(args.manifest, image=image, isolate=isolate, warn=_say, **of_a_manifest)
    for name, value in of_a_manifest.items():
        raise ArgumentError(f"--{name}", value, "--manifest as well; a DAG file contains this setting")
    return plan_of_dag_file(Path(args.file), dag_id=args.dag, group_id=args.project, warn=_say)


_OPTIONS: Final = ("select", "exclude", "selector", "tests", "isolate", "image")


def _as_option(error: ArgumentError) -> str:
    """Return the message of an error with the name of the option, which is what the user has typed."""
    name = error.argument
    option = f"--{name}" if name in {*_OPTIONS, "manifest"} else name
    return " ".join(str(error).splitlines()).replace(f"{name}=", f"{option}=", 1)


def _cannot(why: str) -> int:
    _say(why)
    return CANNOT_PLAN


def _say(text: str) -> None:
    sys.stderr.write(f"dbt-watch plan: {printable(text, MAX_LINE_CHARS)}\n")
