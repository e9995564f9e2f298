"""
What the DAG file of a large project costs each of Airflow's processes that loads it.

Usage: python tests/bench/bench_parse.py [--models N]. CPU seconds, memory and modules of a process that is forked, as
Airflow does, from one that has Airflow's own modules; beside them those for a DAG of as many empty operators, and on a worker
of one. Each model has two tests, and the graph is read from the cache. Medians of five. `nox -s bench` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import airflow.dag_processing.processor  # noqa: F401 - what the parent of each such process has loaded
import psutil
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
from airflow.serialization.serialized_objects import DagSerialization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNS: Final = 5
EMPTY: Final = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("shop", schedule=None):
    for number in range({tasks}):
        EmptyOperator(task_id=f"task_{{number}}")
"""
PROJECT: Final = """
from airflow.sdk import DAG
from dbt_watch import dbt_k8s_project

with DAG("shop", schedule=None):

    @dbt_k8s_project(manifest="manifest.json", image="shop:1")
    def build(): ...

    build()
"""
EAGER: Final = "import kubernetes.client, kubernetes_asyncio.client\n"
PROVIDER: Final = "airflow.providers.cncf.kubernetes.operators.pod"

Cost = tuple[float, float, int]


def main() -> int:
    """Print a table: with ten models, with a thousand, and with as many as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=5_000)
    models = parser.parse_args().models
    print(f"{'models':>7}  {'process':<44} {'CPU s':>6} {'MB':>6} {'modules':>8}")
    for count in sorted({10, 1_000, models}):
        with tempfile.TemporaryDirectory() as directory:
            for name, (seconds, megabytes, modules) in rows(Path(directory), count):
                print(f"{count:>7}  {name:<44} {seconds:>6.3f} {megabytes:>6.1f} {modules:>8.0f}", flush=True)
    return 0


def rows(directory: Path, models: int) -> Iterator[tuple[str, Cost]]:
    """Yield each kind of process with what it costs."""
    os.environ["DBT_WATCH_CACHE_DIR"] = str(directory)
    in_a_fork(write_manifest, directory / "manifest.json", models)
    files = {
        "project": PROJECT,
        "eager": EAGER + PROJECT,
        "empty": EMPTY.format(tasks=2 * models + 1),
        "one": EMPTY.format(tasks=1),
    }
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)

    def cost(name: str, task_id: str | None = None, loaded: str = "") -> Cost:
        return measure(directory / f"{name}.py", task_id, loaded)

    cost("project")  # fills the cache
    yield "dag processor, as many empty operators", cost("empty")
    yield "dag processor", cost("project")
    yield "dag processor, all of Kubernetes' clients", cost("eager")
    yield "dag processor, the provider loaded before", cost("project", loaded=PROVIDER)
    yield "worker, an empty operator", cost("one", "task_0")
    yield "worker, a sensor", cost("project", "build.model_1")
    yield "worker, the producer", cost("project", "build.dbt_build")
    yield "worker, the producer, all of the clients", cost("eager", "build.dbt_build")


def write_manifest(path: Path, models: int) -> None:
    """Write the manifest of so many models."""
    from bench_graph import manifest_of  # noqa: PLC0415 - it loads modules of ours

    path.write_text(json.dumps(manifest_of(models)))


def measure(file: Path, task_id: str | None, loaded: str) -> Cost:
    """
    Return CPU seconds, MB and modules that a process needs to load a file; the median of each.

    :param file: of a DAG
    :param task_id: the task that a worker is to run; None for the dag processor, which serializes the DAG
    :param loaded: a module that its parent has loaded
    """
    found = [in_a_fork(in_parent, str(file), task_id, loaded) for _ in range(RUNS)]
    seconds, megabytes, modules = (statistics.median(column) for column in zip(*found, strict=True))
    return seconds, megabytes, modules


def in_a_fork(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, so that nothing of it stays."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def in_parent(file: str, task_id: str | None, loaded: str) -> Cost:
    """Fork the process that loads the file, as Airflow's supervisors do."""
    if loaded:
        importlib.import_module(loaded)
    gc.freeze()  # as the dag processor does
    ours, theirs = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        with contextlib.redirect_stdout(sys.stderr):
            theirs.send(load(file, task_id))
        os._exit(0)
    os.waitpid(pid, 0)
    found: Cost = ours.recv()
    return found


def load(file: str, task_id: str | None) -> Cost:
    """Load a file as Airflow does, and tell what it took."""
    process = psutil.Process()
    memory, modules, cpu = process.memory_full_info().uss, len(sys.modules), time.process_time()
    with _airflow_parsing_context_manager(dag_id="shop" if task_id else None, task_id=task_id):
        bag = BundleDagBag(
            dag_folder=file,
            bundle_path=Path(file).parent,
            bundle_name="bench",
            load_op_links=False,
            safe_mode=task_id is None,
        )
    if bag.import_errors:
        raise RuntimeError(bag.import_errors)
    dag = bag.dags["shop"]
    if task_id is None:
        DagSerialization.to_dict(dag)
    elif task_id not in dag.task_dict:
        raise RuntimeError(task_id)
    seconds = time.process_time() - cpu
    return seconds, (process.memory_full_info().uss - memory) / 1e6, len(sys.modules) - modules


if __name__ == "__main__":
    raise SystemExit(main())
