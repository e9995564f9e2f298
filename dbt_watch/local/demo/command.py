"""`dbt-watch demo`: the example project, run once on a real Airflow and without a cluster. Called by `dbt_watch.cli`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console

from dbt_watch.local.demo.environment import DemoEnvironment, ServerEnvironment
from dbt_watch.local.following.exit_status import exit_status
from dbt_watch.local.following.options import add_options
from dbt_watch.local.following.progress import view_for
from dbt_watch.local.following.report import make_report, render
from dbt_watch.local.following.run_to_the_end import FollowedRun, excerpt, failed_by_itself, keep

if TYPE_CHECKING:
    import argparse

    from dbt_watch.local.following.progress import View
    from dbt_watch.local.following.report import RunReport

DESCRIPTION: Final = """\
Build an example dbt project once: in one pod, with one Airflow task for each
dbt node.

It starts a real Airflow and a Kubernetes API on 127.0.0.1, whose pod runs as a
process of this machine, and removes both at the end. Neither a cluster nor
Docker is needed. With --server, a dbt server runs dbt instead of the pod.

Exit status: 0 if the run succeeded, 1 if it failed, 2 if it could not run.
"""
EXAMPLE: Final = "dbt-watch demo --fail --keep"

BROKEN_MODEL: Final = "orders"
"""The model that `--fail` breaks: models depend on it, and it on others."""

PRODUCER: Final = "build.dbt_build"
"""The task that runs dbt."""

RUN_TIMEOUT_S: Final = 300.0
"""How long the run may take by default: the example takes less than a minute."""

RUN_FAILED: Final = 1
_WIDTH: Final = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `dbt-watch demo`."""
    parser.add_argument(
        "--fail",
        action="store_true",
        help=f"break the model `{BROKEN_MODEL}`, to see what a failure looks like",
    )
    parser.add_argument(
        "--server",
        action="store_true",
        help="build the project with a dbt server instead of a pod (needs dbt-watch[server])",
    )
    add_options(parser, run_timeout=RUN_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """
    Run the demo.

    :returns: 0 when the run succeeded, 1 when it failed, 2 when it could not run, 128 + n after signal n
    """
    return exit_status("dbt-watch demo", lambda: _demo(args))


def _demo(args: argparse.Namespace) -> int:
    as_json = args.format == "json"
    progress = sys.stderr if as_json else sys.stdout
    with ServerEnvironment() if args.server else DemoEnvironment() as environment:
        with view_for(progress) as view:
            environment.set_up(view.step, timeout=args.timeout.start)
            report, failures = _run_once(environment, view, args)
        # Where there is no terminal, lines need not fit one.
        console = Console(file=progress, width=None if progress.isatty() else _WIDTH)
        console.print(render(report))
        for failure in failures:
            print(failure, file=progress)
        if args.keep:
            keep(environment.airflow, console)
    if as_json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
    return 0 if report.run_state == "success" else RUN_FAILED


def _run_once(
    environment: DemoEnvironment, view: View, args: argparse.Namespace
) -> tuple[RunReport, list[str]]:
    """Run the DAG; return the report and an excerpt of the log of each task that failed on its own account."""
    airflow = environment.airflow
    run = FollowedRun(airflow, environment.dag_id, {"break_model": BROKEN_MODEL} if args.fail else {})
    observation = run.follow(view, timeout=args.timeout.run)
    report = make_report(
        observation,
        producers=[PRODUCER],
        wall_s=run.wall_s,
        dbt_s=environment.dbt_seconds(),
        pods=len(environment.pods()),
        starts=airflow.task_starts(),
    )
    failed = [task for task in observation.tasks if failed_by_itself(task)]
    return report, [excerpt(task.instance.task_id, run.end_of_log(task)) for task in failed]
