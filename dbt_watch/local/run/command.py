"""`dbt-watch run`: one's own DAG, run once on a real Airflow and without a cluster. Called by `dbt_watch.cli`."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from dbt_watch.core.command import criteria
from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.following.exit_status import exit_status
from dbt_watch.local.following.options import add_options
from dbt_watch.local.following.progress import view_for
from dbt_watch.local.following.report import coloured, make_report, render
from dbt_watch.local.following.run_to_the_end import FollowedRun, address_of, keep
from dbt_watch.local.following.workspace import temporary_workspace
from dbt_watch.local.localkube import Mount
from dbt_watch.local.run.connections import taken_over
from dbt_watch.local.run.environment import RunEnvironment, load
from dbt_watch.local.run.failures import Failures, failures_of, shown
from dbt_watch.local.run.objects import CONFIG_MAP, SECRET, objects
from dbt_watch.local.run.preparation import PreparationError, UserInput, chosen_dag, images_for
from dbt_watch.local.run.pyproject import nearest_pyproject
from dbt_watch.local.run.stand_ins import stand_ins

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dbt_watch.local.airflow.deployment import LocalAirflow
    from dbt_watch.local.following.observation import Observation
    from dbt_watch.local.following.progress import View
    from dbt_watch.local.following.report import RunReport
    from dbt_watch.local.run.asked import AskedDag, AskedDags
    from dbt_watch.local.run.connections import TakenOver

DESCRIPTION: Final = """\
Run a DAG of yours once on this machine: on a real Airflow, and with pods that
are processes. Neither a cluster nor Docker is needed. --image, or the table
[tool.dbt_watch] of the nearest pyproject.toml above the DAG file, says which dbt
project and which virtual environment stand in for each image.

Everything that it starts is stopped when it ends, also after Ctrl-C.

Exit status: 0 if the run succeeded, 1 if it failed, 2 if it could not run.
"""
EXAMPLE: Final = "dbt-watch run dags/shop.py --image registry.example/shop-dbt:1.4=dbt/shop,venvs/dbt"

RUN_TIMEOUT_S: Final = 3600.0
"""How long the run may take by default: it is any DAG, with any project."""

RUN_FAILED: Final = 1
_WIDTH: Final = 200


class _Request(NamedTuple):
    """What is asked for on the command line and in the pyproject.toml."""

    path: Path
    given: UserInput
    conf: dict[str, Any]
    params: dict[str, Any]
    select: tuple[str, ...]


class _Outcome(NamedTuple):
    run: FollowedRun
    observation: Observation
    report: RunReport
    failures: Failures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `dbt-watch run`."""
    parser.add_argument("file", metavar="FILE", help="the DAG file, or a folder of DAG files")
    parser.add_argument("--dag-id", metavar="DAG_ID", help="the DAG, if there are several")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=PROJECT[,VENV]",
        help="an image that pods use, the dbt project in it, and the virtual environment with its dbt (default: the one whose"
        " dbt is on PATH, or the one that runs this); NAME=,VENV for an image without a project; may be repeated",
    )
    parser.add_argument(
        "--share",
        action="append",
        default=[],
        metavar="TARGET=PATH",
        help="make a file or directory of this machine visible at the absolute path TARGET in all containers, which write to"
        " the original; may be repeated",
    )
    for option, what in ((SECRET, "a Secret"), (CONFIG_MAP, "a config map")):
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar="NAME:KEY=VALUE",
            help=f"a key of {what}, in every namespace; =@FILE for what a file holds; may be repeated",
        )
    parser.add_argument("--conf", metavar="JSON", help="the run's configuration, a JSON object")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the DAG, as JSON or else as text; wins over --conf; may be repeated",
    )
    parser.add_argument(
        "--select",
        nargs="+",
        action="extend",
        metavar="SPEC",
        help="of the nodes that the DAG's projects select, build only these, in dbt's selection syntax; the others are skipped",
    )
    add_options(parser, run_timeout=RUN_TIMEOUT_S)
    parser.add_argument(
        "--ui",
        action="store_true",
        help="open Airflow's web interface (where there is a desktop), and print its login; implies --keep",
    )


def run(args: argparse.Namespace) -> int:
    """
    Run a DAG.

    :returns: 0 when the run succeeded, 1 when it failed, 2 when it could not run, 128 + n after signal n
    """
    return exit_status("dbt-watch run", lambda: _run(args), explained=(PreparationError,))


def _run(args: argparse.Namespace) -> int:
    request = _request(args)
    as_json = args.format == "json"
    progress = sys.stderr if as_json else sys.stdout
    taken = taken_over(os.environ)
    with temporary_workspace("dbt-watch-run-") as workspace:
        with view_for(progress) as view:
            view.step(f"loading {request.path.name}")
            asked = load(request.path, workspace, taken, request.select)
        dag = _dag(asked, request, args.dag_id)
        images = images_for(dag, request.given)
        for line in _notes(request, asked, taken):
            print(line, file=progress)
        with RunEnvironment(
            dag, request.path, images=images, given=request.given, taken=taken, select=request.select
        ) as environment:
            with view_for(progress) as view:
                environment.set_up(workspace, view.step, timeout=args.timeout.start)
                if args.ui:
                    _open(environment.airflow)
                outcome = _follow(environment, dag, request, view, args.timeout.run)
            # Where there is no terminal, lines need not fit one.
            console = Console(file=progress, width=None if progress.isatty() else _WIDTH, highlight=False)
            _show(outcome, console)
            if args.keep or args.ui:
                keep(environment.airflow, console)
    if as_json:
        sys.stdout.write(json.dumps(_as_json(outcome)) + "\n")
    return 0 if outcome.report.run_state == "success" else RUN_FAILED


def _request(args: argparse.Namespace) -> _Request:
    """
    Check what can be checked before anything starts.

    :raises ArgumentError: for the first thing that is wrong
    """
    path = Path(args.file)
    if not path.exists():
        raise ArgumentError("FILE", args.file, "an existing DAG file or folder of DAG files")
    path = path.resolve()
    pyproject = nearest_pyproject(path)
    given = UserInput(
        stand_ins=stand_ins(args.image, pyproject),
        secrets=objects(SECRET, args.secret, "secrets", pyproject),
        config_maps=objects(CONFIG_MAP, args.config_map, "config_maps", pyproject),
        shares=dict(_share(text) for text in args.share),
        near=pyproject.directory,
    )
    select = criteria("--select", args.select)
    if args.select is not None and not select:
        raise ArgumentError("--select", " ".join(args.select), "a selection in dbt's syntax")
    return _Request(path, given, _conf(args.conf), dict(_param(text) for text in args.param), select)


def _dag(asked: AskedDags, request: _Request, dag_id: str | None) -> AskedDag:
    """Return the DAG that is to run, which takes what the run is given; :raises ArgumentError: when it does not."""
    dag = chosen_dag(asked, request.path, dag_id)
    if dag.select_error:
        raise PreparationError(f"--{dag.select_error}")
    for name in request.params:
        if name not in dag.params:
            known = ", ".join(dag.params) or "none"
            raise ArgumentError("--param", name, f"a parameter of {dag.dag_id}: {known}", known=dag.params)
    if request.select and not any(task.runs_dbt for task in dag.tasks):
        raise ArgumentError("--select", " ".join(request.select), f"{dag.dag_id} to build a dbt project")
    return dag


def _follow(
    environment: RunEnvironment, dag: AskedDag, request: _Request, view: View, timeout: float
) -> _Outcome:
    builders = [task.task_id for task in dag.tasks if task.runs_dbt]
    followed = FollowedRun(environment.airflow, dag.dag_id, {**request.conf, **request.params}, builders)
    observation = followed.follow(view, timeout=timeout, check=environment.check)
    report = make_report(
        observation,
        producers=builders,
        wall_s=followed.wall_s,
        dbt_s=environment.dbt_seconds(),
        pods=len(environment.kube.pods()),
        starts=environment.airflow.task_starts(),
    )
    failures = Failures()
    if report.run_state != "success":
        groups = sorted({task.group for task in dag.tasks if task.group})
        failures = failures_of(followed, observation, groups, builders)
    return _Outcome(followed, observation, report, failures)


def _show(outcome: _Outcome, console: Console) -> None:
    console.print(render(outcome.report))
    others = [task for task in outcome.observation.tasks if not task.nodes]
    if others:
        table = Table("other task", "state")
        for task in others:
            table.add_row(task.instance.task_id, coloured(task.instance.state))
        console.print(table)
    for part in shown(outcome.failures):
        console.print(part, markup=False)


def _as_json(outcome: _Outcome) -> dict[str, Any]:
    told = outcome.report.to_json()
    tasks = {task.instance.task_id: task.instance.state for task in outcome.observation.tasks}
    return {
        "dag_id": outcome.run.dag_id,
        "run_id": outcome.run.run_id,
        **told,
        "tasks": tasks,
        "failures": outcome.failures.to_json(),
    }


def _notes(request: _Request, asked: AskedDags, taken: TakenOver) -> Sequence[str]:
    """Return what a user may wonder about later: what stands for what, and what was not taken."""
    notes = [
        f"skipped, because it cannot be imported: {file}: {trace.rstrip().splitlines()[-1]}"
        for file, trace in asked.errors.items()
    ]
    notes += [
        f"{one.image}: {one.project or 'no dbt project'}, with {one.venv}"
        for one in request.given.stand_ins.values()
    ]
    if taken.variables:
        notes.append(f"taken from the environment: {', '.join(sorted(taken.variables))}")
    if taken.clusters:
        notes.append(f"point to localkube: {', '.join(sorted(taken.clusters))}")
    if taken.left_out:
        notes.append(f"not taken from the environment: {', '.join(taken.left_out)}")
    return notes


def _open(airflow: LocalAirflow) -> None:
    _say(address_of(airflow))
    # Without a desktop it would be a browser in this terminal, and that until somebody leaves it.
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(airflow.url)


def _conf(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        conf = json.loads(text)
    except ValueError:
        conf = None
    if not isinstance(conf, dict):
        raise ArgumentError("--conf", text, "a JSON object")
    return conf


def _param(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise ArgumentError("--param", text, "NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _share(text: str) -> tuple[str, Mount]:
    target, separator, path = text.partition("=")
    if not (
        separator and path and target.startswith("/") and target != "/" and ".." not in target.split("/")
    ):
        raise ArgumentError("--share", text, "TARGET=PATH, with an absolute path inside the container")
    if not Path(path).exists():
        raise ArgumentError("--share", path, "a file or directory that exists")
    return target, Mount(Path(path).resolve(), shared=True)


def _say(text: str) -> None:
    sys.stderr.write(f"dbt-watch run: {text}\n")
