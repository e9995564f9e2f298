"""
What a run of one project takes by the number of its pods: one, a few, or one for each node, beside the bare pod and the peer.

Usage: python tests/bench/bench_pods.py [--ways one-pod pod-per-node] [--runs N] [--json FILE]. The example project, built by a
real dbt in a Postgres, on an Airflow with Postgres and Airflow's own defaults, its pods on localkube. The floor is `dbt build` in a
KubernetesPodOperator. Of some runs of each way the median counts, after one that is thrown away.

The tail lasts from the end of the last dbt to that of the run. CPU seconds are those of all of Airflow's components and of its
database. `pods_report.py` makes a table and a chart of it; `nox -s bench -- pods` runs it all.

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
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_bench import HERE, AirflowBench, airflow_bench, cpu_seconds_of_tree
from bench_scale import DEFAULTS, PARSE_TIMEOUT_S, RUN, SETTLE_S, rounded
from harness import dags_in
from pods_report import tables
from warehouses import in_postgres

from dbt_watch.local.airflow.rest import parse_time
from dbt_watch.local.localkube import Image, LocalKube

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from warehouses import StartWarehouse, Warehouse

    Beside = Callable[[Path, Mapping[str, str]], AbstractContextManager[Mapping[str, str]]]

EXAMPLE = HERE.parents[1] / "examples/jaffle_shop"
IMAGE = "jaffle-shop:bench"
# The same as it comes from a repository: dbt has to parse it first.
UNPARSED = "jaffle-shop:unparsed"
LIMIT_S = 400.0
# Ways of this library, and those of the peer.
OURS = ("bare-pod", "one-pod", "three-producers", "pod-per-node")
PEERS = ("cosmos-watcher", "cosmos-kubernetes")


@dataclass
class Row:
    """What a run took in one way; times in seconds."""

    way: str
    runs: int
    load: float
    run: float
    fastest: float
    slowest: float
    pods: int
    worker_starts: int
    tail: float
    cpu: float


class Pods:
    """
    Measures runs on one Airflow.

    :param bench: the Airflow
    :param warehouse: what dbt builds in
    :param manifest: of the project
    """

    def __init__(self, bench: AirflowBench, warehouse: Warehouse, manifest: Path) -> None:
        self._bench = bench
        self._warehouse = warehouse
        self._manifest = manifest
        self._count = 0
        self._dag_id = ""

    def measure(self, way: str, sensors: str = "auto") -> Row:
        """
        Run the project once, and return what that took.

        :param way: how many pods it has
        :param sensors: what runs the tasks of its nodes, as the argument of the decorator
        """
        self._count += 1
        dag_id = self._dag_id = f"{way.replace('-', '_')}_{self._count}"
        image = UNPARSED if way == "fresh-pod" else IMAGE
        what = {
            "way": way, "dag_id": dag_id, "manifest": str(self._manifest), "image": image, "sensors": sensors,
        }  # fmt: skip
        airflow = self._bench.airflow
        self._warehouse.empty()
        with dags_in(airflow, HERE / "load/pods_dags.py", env={"PODS_CASE": json.dumps(what)}):
            airflow.wait_for_dag(dag_id, timeout=PARSE_TIMEOUT_S)
            time.sleep(SETTLE_S)
            load, before, earlier = os.getloadavg()[0], self._cpu(), len(airflow.task_starts())
            airflow.client.trigger_dag(dag_id)
            has_ended = self._bench.until(lambda: self._state(dag_id) in {"success", "failed"}, LIMIT_S, 0.5)
            if not has_ended or self._state(dag_id) != "success":
                raise RuntimeError(f"{dag_id} is {self._state(dag_id)}\n{self._bench.failures(dag_id)}")
            cpu = self._cpu() - before
            ((_, began, ended),) = self._bench.rows(RUN, dag_id)
            pods = [pod for pod in self._bench.kube.pods() if pod.labels.get("dag_id") == dag_id]
            ends = [(pod.finished_at or pod.deleted_at).timestamp() for pod in pods]
            last = max(ends, default=ended)  # a server makes none
            return Row(
                way=way, runs=1, load=load, run=ended - began, fastest=ended - began, slowest=ended - began, pods=len(pods),
                worker_starts=len(airflow.task_starts()) - earlier, tail=ended - last, cpu=cpu,
            )  # fmt: skip

    def late(self) -> list[float]:
        """
        Return how many seconds after the models, seeds and snapshots of the run that was measured last Airflow knew of their ends.

        The end that a task shows may be earlier: through the executor it is that of its node.
        """
        return [known - node for node, known in self._ends()]

    def built(self) -> float:
        """Return after how many seconds of the run that was measured last dbt had built its last model, seed or snapshot."""
        ((_, began, _),) = self._bench.rows(RUN, self._dag_id)
        return max(node for node, _ in self._ends()) - began

    def _ends(self) -> list[tuple[float, float]]:
        """Return when each of these nodes ended as dbt tells it, and when the row of its task was last written."""
        client, dag_id = self._bench.airflow.client, self._dag_id
        written = (
            "select run_id, task_id, extract(epoch from updated_at) from task_instance where dag_id = %s"
        )
        found = []
        for run_id, task_id, known in self._bench.rows(written, dag_id):
            told = client.xcom(dag_id, run_id, task_id)
            if isinstance(told, dict) and told.get("finished_at"):
                found.append((parse_time(told["finished_at"]).timestamp(), float(known)))
        return found

    def _state(self, dag_id: str) -> str | None:
        ((state, *_),) = self._bench.rows(RUN, dag_id) or ((None,),)
        return None if state is None else str(state)

    def _cpu(self) -> float:
        names = ("scheduler", "triggerer", "api-server", "dag-processor", "database")
        return sum(cpu_seconds_of_tree(self._bench.component(name)) for name in names)


def median(rows: list[Row]) -> Row:
    """Return a row with the medians of some runs of one way."""
    values = {name: [asdict(row)[name] for row in rows] for name in asdict(rows[0])}
    merged = {name: found[0] if name == "way" else statistics.median(found) for name, found in values.items()}
    counts = {name: round(merged[name]) for name in ("pods", "worker_starts")}
    return Row(
        **{
            **merged,
            **counts,
            "runs": len(rows),
            "fastest": min(values["run"]),
            "slowest": max(values["run"]),
        }
    )


@contextlib.contextmanager
def nothing(shop: Path, env: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Start nothing."""
    yield {}


@contextlib.contextmanager
def pods(
    beside: Beside = nothing,
    defaults: Mapping[str, str] = DEFAULTS,
    warehouse: StartWarehouse = in_postgres,
) -> Iterator[Pods]:
    """
    Start an Airflow, a cluster and a warehouse.

    :param beside: starts more, given the project's directory and the environment of its dbt; what it yields is added to the
        environment of Airflow
    :param defaults: settings of Airflow, without `AIRFLOW__`
    :param warehouse: starts what dbt builds in
    """
    with tempfile.TemporaryDirectory(prefix="dbt-watch-pods-") as directory:
        shop, unparsed, dags = (Path(directory, name) for name in ("jaffle_shop", "unparsed", "dags"))
        shutil.copytree(EXAMPLE, shop, ignore=shutil.ignore_patterns("target", "logs"))
        dags.mkdir()
        with warehouse(shop) as place:
            shutil.copytree(shop, unparsed)
            command = [str(Path(sys.executable).with_name("dbt")), "parse", "--profiles-dir", "."]
            env = {**os.environ, **place.env}
            subprocess.run(command, cwd=shop, env=env, check=True, stdout=subprocess.DEVNULL)
            workdir = "/usr/app/jaffle_shop"
            images = {
                name: Image(
                    venv=sys.prefix, mounts={workdir: copy, **place.mounts}, workdir=workdir, env=place.env
                )
                for name, copy in ((IMAGE, shop), (UNPARSED, unparsed))
            }
            settings = {f"AIRFLOW__{name}": value for name, value in defaults.items()}
            settings["DBT_WATCH_CACHE_DIR"] = str(Path(directory, "cache"))
            with (
                beside(shop, place.env) as more,
                LocalKube(images=images) as kube,
                airflow_bench(dags, kube, {**settings, **more}) as bench,
            ):
                yield Pods(bench, place, shop / "target/manifest.json")


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    packages = (
        "apache-airflow-core",
        "apache-airflow-providers-cncf-kubernetes",
        "dbt-core",
        "dbt-postgres",
        "astronomer-cosmos",
    )
    found = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main() -> None:
    here = PEERS if importlib.util.find_spec("cosmos") is not None else OURS
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=(*OURS, *PEERS), default=(*OURS, *PEERS))
    parser.add_argument("--runs", type=int, default=3, help="of each way")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the rows to those in this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {"versions": {}, "rows": []}
    if options.json and options.json.exists():
        figures = json.loads(options.json.read_text())
    figures["versions"] |= versions()
    wanted = [way for way in options.ways if way in here]
    with pods() as running:
        for way in wanted:
            running.measure(way)  # the first of each loads what the others have in memory
            row = median([running.measure(way) for _ in range(options.runs)])
            kept = [other for other in figures["rows"] if other["way"] != way]
            figures["rows"] = [*kept, rounded(row)]
            print(json.dumps(rounded(row)), file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(tables(figures))


if __name__ == "__main__":
    main()
