"""
What many projects at once cost one triggerer of a real Airflow: requests, CPU, delay, and lost sensors.

Usage: python tests/bench/bench_load.py [--projects 10x40 50x40 ...] [--seconds S] [--deferred] [--json]: ten of 40 nodes each at
once, then ten of 80, then fifty of 40. An Airflow with Postgres as its database and one triggerer, the pods on localkube. Fifty
real dbt would need the whole machine for themselves, and what dbt costs is not the question: each pod writes a log that dbt
would write (`load/paced_dbt.py`), of models that end one after the other at even distances; one in ten fails. All pods begin
when everything waits for them, that is, when the last producer runs and the last sensor is with the triggerer.

A request is a query of Airflow's database for a hub (the next page of a journal, the state of a producer), as Postgres logs
it, counted while all projects run. A sensor is lost when it did not end as its node did. `nox -s bench` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_bench import AirflowBench, airflow_bench, cpu_seconds
from bench_graph import manifest_of
from bench_hubs import table
from bench_log import info_log

from dbt_watch.core.results import NodeInfo
from dbt_watch.local.localkube import Image, LocalKube, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
IMAGE = "paced-dbt:bench"
PRODUCER = "shop.dbt_build"
SHAPES = ((10, 40), (10, 80), (50, 40))
SENSORS_AT_MOST = 10_000
START_TIMEOUT_S, END_TIMEOUT_S = 600, 400
BROKEN_EVERY = 10

HEAD = (
    "| projects | nodes each | producers | sensors | all waiting after, s | requests per second | per project |"
    " triggerer, share of a CPU | median delay, s | longest, s | lost |"
)
# What Airflow makes of the two things that a hub asks for, as the log has it.
HUB_QUERY = re.compile(
    rb"^\tWHERE (?:xcom\.key = 'journal_|task_instance\.dag_id = '\w+' AND task_instance\.task_id IN \('shop\.dbt_build'\))",
    re.MULTILINE,
)

SENSORS = """
    select task.task_id, task.state, task.end_date, xcom.value
    from task_instance task left join xcom on xcom.key = 'return_value'
        and (xcom.dag_id, xcom.run_id, xcom.task_id) = (task.dag_id, task.run_id, task.task_id)
    where task.dag_id = %s and task.run_id = any(%s) and task.task_id <> %s
"""
WITH_THE_TRIGGERER = """
    select count(*) from task_instance task join trigger on trigger.id = task.trigger_id
    where task.dag_id = %s and task.run_id = any(%s) and trigger.triggerer_id is not null and task.state = 'deferred'
"""

ENDED = """
    select count(*) from dag_run where dag_id = %s and run_id = any(%s) and state in ('success', 'failed')
"""
STATES = "select dag_id, task_id like '%dbt_build', state, count(*) from task_instance group by 1, 2, 3"


@dataclass
class Row:
    """What one shape of load took; times in seconds."""

    projects: int
    nodes: int
    producer: str
    sensors: int
    all_waiting_after: float
    requests_per_s: float
    per_project_per_s: float
    triggerer_cpu: float
    median_delay: float
    longest_delay: float
    lost: int


class Load:
    """
    An Airflow on which projects run at the same time.

    :param bench: with the DAGs of `load`
    :param directory: what the pods have as /load
    """

    def __init__(self, bench: AirflowBench, directory: Path) -> None:
        self._bench = bench
        self._directory = directory
        self._queries = bench.data_directory / "log"

    def measure(self, projects: int, nodes: int, seconds: float, *, deferred: bool) -> Row:
        """Run so many projects at once, and give what it took."""
        dag_id = f"load_{nodes}" + ("_deferred" if deferred else "")
        gate = self._directory / str(nodes) / "gate"
        gate.unlink(missing_ok=True)
        kube, rows = self._bench.kube, self._bench.rows
        earlier, begun = len(kube.pods()), time.monotonic()
        runs = [self._bench.airflow.trigger_dag(dag_id) for _ in range(projects)]
        waiting = projects * (nodes + deferred)
        self._until(
            lambda: (
                rows(WITH_THE_TRIGGERER, dag_id, runs)[0][0] >= waiting
                and sum(pod.phase == "Running" for pod in kube.pods()[earlier:]) >= projects
            ),
            START_TIMEOUT_S,
        )
        all_waiting_after = time.monotonic() - begun
        cpu, logged, at = self._cpu(), self._queries.stat().st_size, time.monotonic()
        partial = gate.with_suffix(".partial")
        partial.write_text(str(seconds))
        partial.rename(gate)
        time.sleep(seconds)
        elapsed = time.monotonic() - at
        cpu, requests = self._cpu() - cpu, self._requests(logged)
        self._until(lambda: rows(ENDED, dag_id, runs)[0][0] >= projects, END_TIMEOUT_S)
        sensors = rows(SENSORS, dag_id, runs, PRODUCER)
        delays = sorted(delay for delay in map(delay_of, sensors) if delay is not None)
        return Row(
            projects, nodes, "deferred" if deferred else "on a worker", len(sensors), round(all_waiting_after),
            round(requests / elapsed), round(requests / elapsed / projects, 1), round(cpu / elapsed, 2),
            round(delays[len(delays) // 2], 1), round(delays[-1], 1), projects * nodes - len(delays),
        )  # fmt: skip

    def _until(self, condition: Callable[[], object], timeout: float) -> None:
        if not self._bench.until(condition, timeout):
            raise SystemExit(f"not as far as it should be after {timeout:.0f} s: {self._bench.rows(STATES)}")

    def _cpu(self) -> float:
        """Return the CPU seconds of the triggerer, its process for the triggers included."""
        triggerer = self._bench.component("triggerer")
        return cpu_seconds(triggerer, *triggerer.children(recursive=True))

    def _requests(self, since: int) -> int:
        with self._queries.open("rb") as log:
            log.seek(since)
            return len(HUB_QUERY.findall(log.read()))


def delay_of(sensor: tuple[Any, ...]) -> float | None:
    """Return the seconds from a node's end to that of its task; None when the task did not end as its node did."""
    from datetime import datetime  # noqa: PLC0415

    task_id, state, ended, value = sensor
    while isinstance(value, str):  # what a trigger leaves is encoded more than once
        value = json.loads(value)
    number = int(task_id.rpartition("_")[2])
    right = ("failed", "error") if is_broken(number) else ("success", "success")
    if value is None or (state, value["status"]) != right or value["name"] != f"model_{number}":
        return None
    finished = datetime.fromisoformat(value["finished_at"].replace("Z", "+00:00"))
    return float((ended - finished).total_seconds())


def is_broken(number: int) -> bool:
    """Tell whether a model fails."""
    return number % BROKEN_EVERY == BROKEN_EVERY - 1


def write_project(directory: Path, nodes: int) -> Path:
    """Write the log of a project, and its manifest, whose place is given."""
    directory.mkdir()
    infos = {f"model.shop.model_{n}": NodeInfo(f"model_{n}", "model", "table") for n in range(nodes)}
    lines = []
    for line in info_log(infos):
        record = json.loads(line)
        info = record["data"].get("node_info")
        if record["info"]["name"] == "LogModelResult" and is_broken(
            int(info["node_name"].rpartition("_")[2])
        ):
            record["info"]["level"] = "error"
            record["data"]["status"] = info["node_status"] = "error"
        lines.append(json.dumps(record))
    (directory / "log.jsonl").write_text("\n".join(lines))
    manifest = directory / "manifest.json"
    manifest.write_text(json.dumps(manifest_of(nodes)))
    return manifest


@contextlib.contextmanager
def load(sizes: set[int]) -> Iterator[Load]:
    """Start what is needed for projects of these numbers of nodes."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbt-watch-load-")))
        shared = directory / "load"
        dags = directory / "dags"
        for path in (shared, dags):
            path.mkdir()
        shutil.copy(HERE / "load/paced_dbt.py", shared)
        shutil.copy(HERE / "load/load_dags.py", dags)
        manifests = {str(nodes): str(write_project(shared / str(nodes), nodes)) for nodes in sizes}
        image = Image(venv=sys.prefix, mounts={"/load": Mount(shared, shared=True)})
        kube = stack.enter_context(LocalKube(images={IMAGE: image}))
        environment = {
            # A worker for each producer, and room for all sensors; the defaults are 32 and 1,000.
            "AIRFLOW__CORE__PARALLELISM": "64",
            # Fifty workers that start at once load the DAG slowly; after 30 s, which is the default, each would begin anew.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(START_TIMEOUT_S),
            "AIRFLOW__TRIGGERER__CAPACITY": str(SENSORS_AT_MOST),
            "LOAD_MANIFESTS": json.dumps(manifests),
            "LOAD_IMAGE": IMAGE,
        }
        bench = stack.enter_context(airflow_bench(dags, kube, environment, logs_queries=True))
        yield Load(bench, shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--projects", nargs="+", type=shape, default=SHAPES, metavar="NxM", help="N at once, of M nodes each"
    )
    parser.add_argument("--seconds", type=float, default=240.0, help="how long each project takes")
    parser.add_argument("--deferred", action="store_true", help="follow dbt in the triggerer, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    rows = []
    with load({nodes for _, nodes in options.projects}) as running:
        for projects, nodes in options.projects:
            rows.append(asdict(running.measure(projects, nodes, options.seconds, deferred=options.deferred)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"load": rows}) if options.json else table(HEAD, rows))


def shape(text: str) -> tuple[int, int]:
    """Read a number of projects and of nodes, such as 50x40."""
    projects, _, nodes = text.partition("x")
    return int(projects), int(nodes)


if __name__ == "__main__":
    main()
