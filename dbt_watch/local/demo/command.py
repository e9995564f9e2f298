"""`dbt-watch demo`: the example project, run once on a real Airflow and without a cluster. Called by `dbt_watch.cli`."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Final

import httpx
from rich.console import Console

from dbt_watch.exceptions import DbtWatchError
from dbt_watch.local.airflow.processes import Interrupted, interrupts_raised
from dbt_watch.local.airflow.waiting import wait_for
from dbt_watch.local.demo.environment import DemoEnvironment, ServerEnvironment
from dbt_watch.local.demo.observation import Observer
from dbt_watch.local.demo.progress import view_for
from dbt_watch.local.demo.report import make_report, render

if TYPE_CHECKING:
    import argparse

    from dbt_watch.local.demo.observation import Observation, Task
    from dbt_watch.local.demo.progress import View
    from dbt_watch.local.demo.report import RunReport

DESCRIPTION: Final = """\
Build an example dbt project once: in one pod, with one Airflow task for each
dbt node.

It starts a real Airflow and a Kubernetes API on 127.0.0.1, whose pod runs as a
process of this machine, and removes both at the end. Neither a cluster nor
Docker is needed. With --server, a server of dbt takes the place of the pod.

Exit status: 0 if the run succeeded, 1 if it failed, 2 if it could not run.
"""
EXAMPLE: Final = "dbt-watch demo --fail --keep"

BROKEN_MODEL: Final = "orders"
"""The model that `--fail` breaks: models depend on it, and it on others."""

PRODUCER: Final = "build.dbt_build"
"""The task that runs dbt."""

RUN_FAILED: Final = 1
CANNOT_RUN: Final = 2
# A look costs the api-server about 0.1 s, and it shares the machine with the run.
_POLL_S: Final = 0.8
_GROUP: Final = re.compile(r"^::group::.*?^::endgroup::$", re.MULTILINE | re.DOTALL)
_LOG_LINES: Final = 20
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
        help="have a server of dbt build the project instead of a pod (needs dbt-watch[server])",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave Airflow running until Ctrl-C, and print the address and login of its web interface",
    )
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="table (the default), or json: one JSON object as the last line of stdout, with progress on stderr",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long Airflow may take to start, and the run to end (default: 300 each)",
    )


def run(args: argparse.Namespace) -> int:
    """
    Run the demo.

    :returns: 0 when the run succeeded, 1 when it failed, 2 when it could not run, 128 + n after signal n
    """
    try:
        with interrupts_raised():
            return _demo(args)
    except Interrupted as interrupt:
        _complain("interrupted; everything it started has been ended")
        return 128 + interrupt.signum
    except (DbtWatchError, httpx.HTTPError, OSError) as error:
        _complain(f"could not run: {error}")
        return CANNOT_RUN


def _demo(args: argparse.Namespace) -> int:
    as_json = args.format == "json"
    progress = sys.stderr if as_json else sys.stdout
    with ServerEnvironment() if args.server else DemoEnvironment() as environment:
        with view_for(progress) as view:
            environment.set_up(view.step, timeout=args.timeout)
            report, failures = _run_once(environment, view, args)
        # Where there is no terminal, lines need not fit one.
        console = Console(file=progress, width=None if progress.isatty() else _WIDTH)
        console.print(render(report))
        for failure in failures:
            print(failure, file=progress)
        if args.keep:
            _keep(environment, progress=console)
    if as_json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
    return 0 if report.run_state == "success" else RUN_FAILED


def _run_once(
    environment: DemoEnvironment, view: View, args: argparse.Namespace
) -> tuple[RunReport, list[str]]:
    """Run the DAG; return the report and an excerpt of the log of each task that failed on its own account."""
    airflow = environment.airflow
    started = time.monotonic()
    run_id = airflow.client.trigger_dag(
        environment.dag_id, {"break_model": BROKEN_MODEL} if args.fail else {}
    )
    observer = Observer(airflow.client, environment.dag_id, run_id)
    view.step("the run begins")

    def final_observation() -> Observation | None:
        airflow.check()
        observation = observer.look()
        view.show(observation)
        return observation if observation.is_final else None

    observation = wait_for(
        final_observation, args.timeout, lambda: _unfinished(observer.look()), pause=_POLL_S
    )
    report = make_report(
        observation,
        producer_task_id=PRODUCER,
        wall_s=time.monotonic() - started,
        dbt_s=environment.dbt_seconds(),
        pods=len(environment.pods()),
        starts=airflow.task_starts(),
    )
    failures = [_excerpt(environment, run_id, task) for task in observation.tasks if _failed_by_itself(task)]
    return report, failures


def _complain(why: str) -> None:
    sys.stderr.write(f"dbt-watch demo: {why}\n")


def _unfinished(observation: Observation) -> str:
    states = {task.instance.task_id: task.instance.state for task in observation.tasks if not task.is_final}
    told = ", ".join(f"{task_id} is {state or 'not started'}" for task_id, state in states.items())
    return f"the run has not ended ({told})"


def _failed_by_itself(task: Task) -> bool:
    """Whether a task failed, and not only because something before it did."""
    was_skipped = bool(task.nodes) and all(node.status == "skipped" for node in task.nodes)
    return task.instance.state == "failed" and not was_skipped


def _excerpt(environment: DemoEnvironment, run_id: str, task: Task) -> str:
    instance = task.instance
    log = environment.airflow.client.task_log(
        environment.dag_id, run_id, instance.task_id, instance.try_number, instance.map_index
    )
    # What Airflow itself has to say stands in groups, which its web interface folds.
    lines = [line for line in _GROUP.sub("", log).splitlines() if line.strip()]
    return f"\n{instance.task_id} failed; the end of its log:\n  " + "\n  ".join(lines[-_LOG_LINES:])


def _keep(environment: DemoEnvironment, *, progress: Console) -> None:
    """Leave Airflow to the user until an interrupt, which is the way to end it."""
    airflow = environment.airflow
    progress.print(
        f"\nAirflow: {airflow.url}   user {airflow.login.username}   password {airflow.login.password}\n"
        "Ctrl-C ends it.",
        highlight=False,
    )
    try:
        while True:
            airflow.check()
            time.sleep(1)
    except Interrupted:
        progress.print("ending Airflow")
