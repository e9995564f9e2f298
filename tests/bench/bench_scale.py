"""
What a task for each node costs, by the number of nodes and the way in which their sensors start.

Usage: python tests/bench/bench_scale.py [--ways eager lineage] [--sizes 30 360] [--seconds 0.3 5] [--threads 8 16] [--json FILE].
A run of one project on an Airflow with Postgres and Airflow's own defaults, its pod on localkube. Half of the sensors stand for
a model each, half for the two tests of one. The pod writes the log that dbt would write (`load/scripted_dbt.py`): three seconds
until it has loaded the project, then its nodes, which take so many seconds each, on so many threads, along the lineage. No node
fails. The floor is the KubernetesPodOperator alone with the same pod.

The delay of a sensor lasts from the end of its nodes to the moment at which Airflow's database has its final state; the tail,
from the end of dbt to that of the last sensor. CPU seconds are those of the whole run. A run that has not ended within
`--limit` seconds is cut off, and what it has reached by then is reported. With `--json`, rows are added to those in the file, or
take the place of the same ones; `scale_report.py` makes tables and charts of it. `nox -s bench -- scale` runs it all.

The peer, astronomer-cosmos, is measured where it is installed, and nothing else there: it has a part in every component.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import psutil
from airflow_bench import HERE, AirflowBench, airflow_bench, cpu_seconds, cpu_seconds_of_tree
from harness import dags_in
from scale_report import tables
from scripted_plan import write_project

from dbt_watch.local.airflow.waiting import CannotRun
from dbt_watch.local.localkube import Image, LocalKube, Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

IMAGE = "scripted-dbt:bench"
SIZES = (30, 100, 180, 200, 360, 500, 1_000, 3_000)
SECONDS, THREADS = (0.3, 5.0), (8, 16)
LIMIT_S = 600.0
DBT_STARTUP_S = 3.0
PARSE_TIMEOUT_S = 300.0
SETTLE_S = 5.0
# More than one run, of which the median counts, up to so many sensors.
REPEATED_UP_TO = 100

# The local Airflow of the demo saves time where it can; these are Airflow's own defaults again.
DEFAULTS = {
    "CORE__PARALLELISM": "32",
    "CORE__DAGBAG_IMPORT_TIMEOUT": "30",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    "SCHEDULER__USE_JOB_SCHEDULE": "True",
    "DAG_PROCESSOR__PARSING_PROCESSES": "2",
    "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "50",
}

LIGHT = {"DBT_WATCH__LIGHT_TRIGGERER": "True"}
WITH_EXECUTOR = {"CORE__EXECUTOR": "LocalExecutor,dbt_watch.NodeExecutor"}


@dataclass(frozen=True)
class Way:
    """
    A way in which sensors start.

    :param name: its name; "pod" and "cosmos" have DAGs of their own
    :param sensors: this argument of `dbt_k8s_project`
    :param settings: of Airflow, by the rest of the names of their environment variables
    :param dag: more arguments of the DAG
    :param at_most: the largest number of sensors that is measured
    :param project: more arguments of `dbt_k8s_project`
    """

    name: str
    sensors: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    dag: Mapping[str, Any] = field(default_factory=dict)
    at_most: int = 10_000
    project: Mapping[str, Any] = field(default_factory=dict)


WAYS = {
    way.name: way
    for way in (
        Way("pod"),
        Way("eager", "eager"),
        Way("lineage", "lineage"),
        Way("light-eager", "eager", LIGHT),
        Way("executor", "executor", WITH_EXECUTOR, {"max_active_tasks": 10_000}),
        Way("cosmos", at_most=360),
    )
}


class Case(NamedTuple):
    """A project and its pace."""

    sensors: int
    seconds: float
    threads: int


WARM_UP = Case(6, 0.3, 8)


@dataclass
class Row:
    """What the run of one case took in one way; times in seconds."""

    way: str
    sensors: int
    seconds: float
    threads: int
    runs: int
    load: float
    done: int
    cut_off: str
    run: float
    dbt: float
    delay_p50: float | None
    delay_p95: float | None
    delay_max: float | None
    tail: float | None
    wrong: int
    cpu_supervisor: float
    cpu_runner: float
    cpu_scheduler: float
    cpu_workers: float
    cpu_api_server: float
    cpu_dag_processor: float
    cpu_database: float
    blocked: float
    heartbeats_skipped: int
    megabytes: float
    worker_starts: int
    requests: int

    @property
    def case(self) -> tuple[Any, ...]:
        """What tells rows apart."""
        return self.way, self.sensors, self.seconds, self.threads


# An executor may tell Airflow when dbt ended, so the end of a task is not when Airflow learnt of it. This tells.
NOTE_ENDS = """
    create table scale_ends (dag_id text, task_id text, at timestamptz);
    create function scale_note() returns trigger language plpgsql as $$
    begin
        insert into scale_ends values (new.dag_id, new.task_id, clock_timestamp());
        return null;
    end $$;
    create trigger scale_note after update of state on task_instance for each row
    when (new.state is distinct from old.state
        and new.state in ('success', 'failed', 'skipped', 'upstream_failed', 'removed'))
    execute function scale_note();
"""
SENSORS = """
    select task.task_id, task.id::text, task.state, extract(epoch from max(scale_ends.at))::float
    from task_instance task left join scale_ends using (dag_id, task_id)
    where task.dag_id = %s and task.task_id like '%%model_%%' group by 1, 2, 3
"""
RUN = """
    select state, extract(epoch from start_date)::float, extract(epoch from coalesce(end_date, now()))::float
    from dag_run where dag_id = %s
"""
BLOCKED = re.compile(rb"async thread was blocked for ([\d.]+) seconds")
DEADLOCKED = b"event loop appears deadlocked"
REQUEST = re.compile(rb"[ =]/execution/")
WRONG = frozenset({"failed", "skipped", "upstream_failed", "removed"})


class Scale:
    """
    Measures runs on one Airflow.

    :param bench: the Airflow
    :param way: how sensors start there
    :param shared: what the pods have as /load
    """

    def __init__(self, bench: AirflowBench, way: Way, shared: Path) -> None:
        self._bench = bench
        self._way = way
        self._shared = shared
        self._count = 0
        bench.rows(NOTE_ENDS)

    def measure(self, case: Case, limit: float) -> Row:
        """
        Run a case, and return what it took.

        :param limit: seconds after which it is cut off
        """
        self._count += 1
        dag_id = f"{self._way.name}_{case.sensors}_{self._count}"
        manifest, plan = write_project(self._shared, case.sensors)
        pace = {"plan": plan.name, "seconds": case.seconds, "threads": case.threads, "startup": DBT_STARTUP_S}
        (self._shared / "pace.json").write_text(json.dumps(pace))
        (self._shared / "ends").unlink(missing_ok=True)
        what = {
            "way": self._way.name,
            "sensors": self._way.sensors,
            "dag": self._way.dag,
            "project": self._way.project,
            "dag_id": dag_id,
            "manifest": str(manifest),
            "image": IMAGE,
        }
        airflow = self._bench.airflow
        with dags_in(airflow, HERE / "load/scale_dags.py", env={"SCALE_CASE": json.dumps(what)}):
            airflow.wait_for_dag(dag_id, timeout=PARSE_TIMEOUT_S)
            time.sleep(SETTLE_S)
            load = os.getloadavg()[0]
            logs = {name: Log(airflow.component_log(name)) for name in ("api-server", "triggerer")}
            before, earlier, memory = self._cpu(), len(airflow.task_starts()), [0]
            airflow.client.trigger_dag(dag_id)
            why = self._end(dag_id, limit, memory)
            if not why and self._state(dag_id) != "success":
                print(self._bench.failures(dag_id), file=sys.stderr)
            try:
                after = self._cpu()
            except psutil.NoSuchProcess:  # a component has ended, which cuts the run off
                after = before
            cpu = {f"cpu_{name}": seconds - before[name] for name, seconds in after.items()}
            starts = airflow.task_starts()[earlier:]
            return self._row(
                case, dag_id, logs, starts, load=load, megabytes=max(memory) / 1e6, cut_off=why, **cpu
            )

    def _end(self, dag_id: str, limit: float, memory: list[int]) -> str:
        """Wait for the end of a run, and return why it was cut off; nothing when it was not."""

        def has_ended() -> bool:
            triggerer = self._bench.component("triggerer")
            processes = (triggerer, *triggerer.children(recursive=True))
            with contextlib.suppress(psutil.NoSuchProcess):
                memory.append(sum(process.memory_info().rss for process in processes))
            return self._state(dag_id) in {"success", "failed"}

        try:
            return "" if self._bench.until(has_ended, limit, pause=0.5) else f"after {limit:.0f} s"
        except CannotRun as error:
            return str(error).partition("\n")[0]

    def _state(self, dag_id: str) -> str | None:
        ((state, *_),) = self._bench.rows(RUN, dag_id) or ((None,),)
        return state

    def _cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each component so far."""
        component = self._bench.component
        triggerer, scheduler = component("triggerer"), component("scheduler")
        alone = cpu_seconds(scheduler)
        return {
            "supervisor": cpu_seconds(triggerer),
            "runner": cpu_seconds(*triggerer.children(recursive=True)),
            "scheduler": alone,
            "workers": cpu_seconds_of_tree(scheduler) - alone,
            "api_server": cpu_seconds_of_tree(component("api-server")),
            "dag_processor": cpu_seconds_of_tree(component("dag-processor")),
            "database": cpu_seconds_of_tree(component("database")),
        }

    def _row(
        self, case: Case, dag_id: str, logs: Mapping[str, Log], starts: Iterable[str], **known: Any
    ) -> Row:
        ends = self._ends()
        sensors = [] if self._way.name == "pod" else self._bench.rows(SENSORS, dag_id)
        ((_, began, ended),) = self._bench.rows(RUN, dag_id)
        done = {task_id: at for task_id, _, state, at in sensors if state == "success"}
        delays = sorted(
            at - ends[node_of(task_id)] for task_id, at in done.items() if node_of(task_id) in ends
        )
        if known["cut_off"]:
            wrong = sum(state in WRONG for _, _, state, _ in sensors)
        else:
            wrong = len(sensors) - len(done)
        ids = {ti_id for _, ti_id, *_ in sensors}
        api, triggerer = (logs[name].new() for name in ("api-server", "triggerer"))
        return Row(
            way=self._way.name, **case._asdict(), **known, runs=1, done=len(done),
            wrong=wrong + len(done) - len(delays),  # a sensor that succeeded before its nodes is wrong
            run=ended - began, dbt=ends["dbt"] - began,
            delay_p50=quantile(delays, 0.5), delay_p95=quantile(delays, 0.95), delay_max=quantile(delays, 1.0),
            tail=max(done.values()) - ends["dbt"] if done else None,
            blocked=max(map(float, BLOCKED.findall(triggerer)), default=0.0),
            heartbeats_skipped=triggerer.count(DEADLOCKED),
            worker_starts=sum(found in ids for found in starts), requests=len(REQUEST.findall(api)),
        )  # fmt: skip

    def _ends(self) -> dict[str, float]:
        """Return the ends of models and of their tests, and of dbt, as the pod has noted them."""
        ends: dict[str, float] = {}
        with contextlib.suppress(FileNotFoundError):  # cut off before dbt ran
            for line in (self._shared / "ends").read_text().splitlines():
                unique_id, _, at = line.partition(" ")
                for name in (node_of(unique_id), "dbt"):
                    ends[name] = max(ends.get(name, 0.0), float(at))
        return ends or {"dbt": time.time()}


class Log:
    """What is written to a log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin = path.stat().st_size

    def new(self) -> bytes:
        """Return it."""
        with self._path.open("rb") as log:
            log.seek(self._begin)
            return log.read()


def node_of(name: str) -> str:
    """Return one name for the model, or for its tests, of a unique_id or a task, whoever has made the task."""
    found = re.search(r"model_(\d+)", name)
    assert found, name
    is_test = "test" in name.replace(found[0], "")
    return f"{'tests of ' if is_test else ''}{found[0]}"


def quantile(values: list[float], share: float) -> float | None:
    """Return a quantile of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def median(rows: list[Row]) -> Row:
    """Return a row with the medians of some runs of the same; of what should not happen, the most."""
    values = {name: [asdict(row)[name] for row in rows] for name in asdict(rows[0])}
    merged = {
        name: statistics.median(found) if all(isinstance(value, float) for value in found) else found[0]
        for name, found in values.items()
    }
    for name in ("wrong", "heartbeats_skipped", "blocked", "worker_starts", "requests"):
        merged[name] = max(values[name])
    return Row(**{**merged, "runs": len(rows)})


def measured(way: Way, cases: Iterable[Case], runs: int, limit: float) -> Iterator[Row]:
    """Measure cases; on an Airflow of this way, and on a new one after a run that was cut off."""
    remaining = list(cases)
    while remaining:
        with scale(way) as running:
            running.measure(WARM_UP, limit)
            is_cut_off = False
            while remaining and not is_cut_off:
                case, rows = remaining.pop(0), []
                while not is_cut_off and len(rows) < (runs if case.sensors <= REPEATED_UP_TO else 1):
                    rows.append(running.measure(case, limit))
                    print(json.dumps(rounded(rows[-1])), file=sys.stderr, flush=True)
                    is_cut_off = bool(rows[-1].cut_off)
                yield median(rows)


S = TypeVar("S", bound="Scale")


@contextlib.contextmanager
def scale(way: Way, kind: type[S] = Scale) -> Iterator[S]:  # type: ignore[assignment]
    """Start an Airflow as a way needs it, and a cluster."""
    with tempfile.TemporaryDirectory(prefix="dbt-watch-scale-") as directory:
        shared, dags = Path(directory, "load"), Path(directory, "dags")
        shared.mkdir()
        dags.mkdir()
        shutil.copy(HERE / "load/scripted_dbt.py", shared)
        image = Image(venv=sys.prefix, mounts={"/load": Mount(shared, shared=True)})
        settings = {f"AIRFLOW__{name}": value for name, value in {**DEFAULTS, **way.settings}.items()}
        settings["DBT_WATCH_CACHE_DIR"] = str(Path(directory, "cache"))
        with LocalKube(images={IMAGE: image}) as kube, airflow_bench(dags, kube, settings) as bench:
            yield kind(bench, way, shared)


def rounded(row: Any) -> dict[str, Any]:
    """Return a row for a file."""
    return rounded_values(asdict(row))


def rounded_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures with two digits behind the point."""
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in values.items()}


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    packages = ("apache-airflow-core", "apache-airflow-providers-cncf-kubernetes", "astronomer-cosmos")
    found = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main() -> None:
    peer_is_here = importlib.util.find_spec("cosmos") is not None
    here = [name for name in WAYS if (name == "cosmos") == peer_is_here]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N", help="numbers of sensors")
    parser.add_argument("--seconds", nargs="+", type=float, default=SECONDS, help="that a node takes")
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS, help="of dbt")
    parser.add_argument("--runs", type=int, default=3, help=f"of each case of up to {REPEATED_UP_TO} sensors")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which a run is cut off")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the rows to those in this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {"versions": {}, "rows": []}
    if options.json and options.json.exists():
        figures = json.loads(options.json.read_text())
    figures["versions"] |= versions()
    cases = [
        Case(size, seconds, threads)
        for seconds in options.seconds
        for threads in options.threads
        for size in options.sizes
        # Three nodes for two sensors; what takes dbt itself longer is not measured.
        if size * 1.5 * seconds / threads < options.limit
    ]
    for name in options.ways:
        if name not in here:
            continue
        way = WAYS[name]
        for row in measured(
            way, [case for case in cases if case.sensors <= way.at_most], options.runs, options.limit
        ):
            others = [Row(**other) for other in figures["rows"]]
            kept = [rounded(other) for other in others if other.case != row.case]
            figures["rows"] = [*kept, rounded(row)]
            if options.json:
                options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(tables(figures))


if __name__ == "__main__":
    main()
