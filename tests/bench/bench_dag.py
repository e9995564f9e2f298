"""
What a DAG of a large project costs to build and to store.

Usage: python tests/bench/bench_dag.py [--models N]. CPU seconds of this process, the median of five, beside those of as
many of Airflow's own empty operators with the same edges in the same run: less than that no tool can take. Each model has
two tests. `nox -s bench` runs it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup
from airflow.serialization.serialized_objects import DagSerialization
from bench_graph import manifest_of

from dbt_watch import dbt_k8s_project
from dbt_watch.producers.pods.operator import producer_class

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5


def main() -> int:
    """Print a table: once with a thousand models, once with as many as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=5_000)
    models = parser.parse_args().models
    producer_class()  # the import of Kubernetes is not what is measured
    print(f"{'models':>7} {'tasks':>7} {'build s':>8} {'floor s':>8} {'ratio':>6} {'ms/task':>8} {'MB':>6}")
    for count in sorted({1_000, models}):
        print(row(count))
    return 0


def row(models: int) -> str:
    """Measure one size."""
    with tempfile.TemporaryDirectory() as directory:
        manifest = Path(directory) / "manifest.json"
        manifest.write_text(json.dumps(manifest_of(models)))
        dag = build(manifest)
        seconds = median(lambda: build(manifest))
    floor = median(lambda: build_floor(dag))
    size = len(json.dumps(DagSerialization.to_dict(dag))) / 1e6
    tasks = len(dag.tasks)
    return (
        f"{models:>7} {tasks:>7} {seconds:>8.2f} {floor:>8.2f} {seconds / floor:>6.2f}"
        f" {1000 * seconds / tasks:>8.3f} {size:>6.2f}"
    )


def build(manifest: Path) -> DAG:
    """Build the DAG of a project; its graph is read from the cache, as in any parse but the first."""
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)) as dag:

        @dbt_k8s_project(manifest=manifest, image="shop:1")
        def build() -> None: ...

        build()
    return dag


def build_floor(like: DAG) -> None:
    """Build a DAG with as many empty operators and the same edges."""
    with (
        DAG("floor", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)),
        TaskGroup("build") as group,
    ):
        made = {}
        for task in like.tasks:
            made[task.task_id] = EmptyOperator(task_id=task.task_id.removeprefix(f"{group.group_id}."))
        for task in like.tasks:
            for upstream in task.upstream_task_ids:
                made[task.task_id].upstream_task_ids.add(upstream)
                made[upstream].downstream_task_ids.add(task.task_id)


def median(action: Callable[[], object]) -> float:
    """Return the median CPU seconds of a few runs."""
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
