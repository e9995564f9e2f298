"""
A project of any size, run again and again without a database behind it: to size an Airflow, and to see that nothing grows.

Usage: python tests/bench/simulate.py [--sensors N] [--seconds S] [--threads N] [--runs N] [--way light-eager] [--json].
`nox -s simulate` runs it. As in `bench_scale`: an Airflow with Postgres and Airflow's own defaults, a pod on localkube that writes the
log that dbt would write. One DAG is run again and again, and after each run is told how long it took, and what there is by then: memory
of the triggerer, rows of Airflow's tables of triggers and of XComs, pods of the cluster.

It ends with 1 when something has been left behind: a trigger or a pod after a run, a task that is no success, more XComs than
the first run has left for each, or a triggerer whose memory has grown in the second half of the runs by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_bench import HERE
from bench_scale import DBT_STARTUP_S, IMAGE, PARSE_TIMEOUT_S, WAYS, Scale, rounded_values, scale
from harness import dags_in
from scripted_plan import write_project

if TYPE_CHECKING:
    import psutil

TIMES = """
    select extract(epoch from start_date)::float, extract(epoch from end_date)::float from dag_run where run_id = %s
"""
SOAKED = ("eager", "lineage", "light-eager", "executor")
GROWTH = 1.1


@dataclass
class Soaked:
    """
    What there is after a run.

    :param run: seconds
    :param tail: from the end of dbt to that of the last task, in seconds
    :param wrong: tasks that are no success
    :param megabytes: memory of the triggerer
    :param triggers: rows of Airflow's table
    :param xcoms: likewise, for each run so far
    :param pods: those that are left in the cluster
    """

    number: int
    run: float
    tail: float
    wrong: int
    megabytes: float
    triggers: int
    xcoms: float
    pods: int


class Simulation(Scale):
    """Runs of one DAG on one Airflow."""

    dag_id = "simulated"

    def soak(self, sensors: int, seconds: float, threads: int, runs: int, limit: float) -> list[Soaked]:
        """
        Run a project again and again.

        :param sensors: how many tasks of nodes it has
        :param seconds: that a node takes
        :param threads: of dbt
        :param runs: how often
        :param limit: seconds that a run may take
        """
        manifest, plan = write_project(self._shared, sensors)
        pace = {"plan": plan.name, "seconds": seconds, "threads": threads, "startup": DBT_STARTUP_S}
        (self._shared / "pace.json").write_text(json.dumps(pace))
        what = {
            "way": self._way.name, "sensors": self._way.sensors, "dag": self._way.dag, "dag_id": self.dag_id,
            "project": self._way.project, "manifest": str(manifest), "image": IMAGE,
        }  # fmt: skip
        airflow = self._bench.airflow
        found = []
        with dags_in(airflow, HERE / "load/scale_dags.py", env={"SCALE_CASE": json.dumps(what)}):
            airflow.wait_for_dag(self.dag_id, timeout=PARSE_TIMEOUT_S)
            for number in range(1, runs + 1):
                (self._shared / "ends").unlink(missing_ok=True)
                run_id = airflow.client.trigger_dag(self.dag_id)
                if not self._bench.until(lambda run=run_id: self._has_ended(run), limit, pause=0.5):
                    raise RuntimeError(f"run {number} has not ended within {limit:.0f} s")
                found.append(self._soaked(number, run_id))
                print(json.dumps(rounded_values(asdict(found[-1]))), file=sys.stderr, flush=True)
        return found

    def _has_ended(self, run_id: str) -> bool:
        rows = self._bench.rows("select state from dag_run where run_id = %s", run_id)
        return bool(rows) and rows[0][0] in {"success", "failed"}

    def _soaked(self, number: int, run_id: str) -> Soaked:
        time.sleep(3)  # what ends with the run, such as a hub and its pod, is a moment behind it
        rows = self._bench.rows
        ((began, ended),) = rows(TIMES, run_id)
        query = "select count(*) from task_instance where run_id = %s and state is distinct from 'success'"
        ((wrong,),) = rows(query, run_id)
        ((triggers,),), ((xcoms,),) = rows("select count(*) from trigger"), rows("select count(*) from xcom")
        triggerer = self._bench.component("triggerer")
        memory = sum(
            process.memory_info().rss
            for process in (triggerer, *triggerer.children(recursive=True))
            if is_there(process)
        )
        pods = [pod for pod in self._bench.kube.pods() if pod.deleted_at is None]
        return Soaked(
            number=number, run=ended - began, tail=ended - self._ends()["dbt"], wrong=wrong, megabytes=memory / 1e6,
            triggers=triggers, xcoms=xcoms / number, pods=len(pods),
        )  # fmt: skip


def is_there(process: psutil.Process) -> bool:
    """Whether a process has not ended meanwhile."""
    return bool(process.is_running())


def complaints(runs: list[Soaked]) -> list[str]:
    """Return what has grown, or was left behind, in words."""
    found = []
    for run in runs:
        for name, value in (("wrong tasks", run.wrong), ("triggers", run.triggers), ("pods", run.pods)):
            if value:
                found.append(f"run {run.number} has left {value} {name}")
        if run.xcoms > runs[0].xcoms * GROWTH:
            found.append(
                f"{run.xcoms:.0f} XComs for each run after run {run.number}, {runs[0].xcoms:.0f} after the first"
            )
    half = runs[len(runs) // 2 :]
    if half[-1].megabytes > half[0].megabytes * GROWTH:
        found.append(f"the triggerer has grown from {half[0].megabytes:.0f} to {half[-1].megabytes:.0f} MB")
    return found


def table(runs: list[Soaked]) -> str:
    """Return the runs as a table."""
    head = f"{'run':>4} {'seconds':>8} {'tail':>6} {'wrong':>6} {'triggerer MB':>13} {'triggers':>9} {'XComs a run':>12} {'pods':>5}"
    lines = [
        f"{run.number:4} {run.run:8.1f} {run.tail:6.1f} {run.wrong:6} {run.megabytes:13.0f} {run.triggers:9} {run.xcoms:12.0f} {run.pods:5}"
        for run in runs
    ]
    return "\n".join([head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sensors", type=int, default=200, help="tasks of nodes in the project")
    parser.add_argument("--seconds", type=float, default=0.3, help="that a node takes")
    parser.add_argument("--threads", type=int, default=8, help="of dbt")
    parser.add_argument("--runs", type=int, default=20, help="how often the project is run")
    parser.add_argument("--way", choices=SOAKED, default="light-eager", help="how the tasks of nodes start")
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds that one run may take")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    with scale(WAYS[options.way], Simulation) as simulation:
        runs = simulation.soak(options.sensors, options.seconds, options.threads, options.runs, options.limit)
    figures: list[dict[str, Any]] = [rounded_values(asdict(run)) for run in runs]
    print(json.dumps(figures, indent=1) if options.json else table(runs))
    found = complaints(runs)
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
