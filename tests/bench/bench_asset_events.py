"""
What one event of an asset costs Airflow, and what assets add to a DAG, without an Airflow that runs.

Usage: python tests/bench/bench_asset_events.py [--events 180] [--sensors 180]. Airflow's own registration is called as the api-server
calls it when a task ends, on a Postgres of its own: once with assets and aliases that Airflow has never seen, then with the same ones
again. And a project of so many sensors is serialized, without assets and with them. `nox -s bench -- assets` runs it too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench_graph import manifest_of
from scripted_plan import parents_of

sys.path.append(str(Path(__file__).parent.parent))
from local_postgres import airflow_on, local_postgres


def registered(events: int) -> dict[str, float]:
    """Register events as the api-server does; return the seconds and the CPU seconds of each in ms, by whether they are new."""
    from airflow.api_fastapi.execution_api.datamodels.asset import AssetProfile  # noqa: PLC0415
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415

    from dbt_watch.airflow.asset_events import as_outlets  # noqa: PLC0415
    from dbt_watch.core.assets import TrackedAssets  # noqa: PLC0415
    from dbt_watch.core.results import NodeResult  # noqa: PLC0415

    nodes = {f"model.shop.model_{number}": f'"shop"."main"."model_{number}"' for number in range(events)}
    assets = TrackedAssets("shop", nodes, "file:///warehouse/shop.duckdb")
    ti = SimpleNamespace(
        dag_id="shop", run_id="run", task_id="shop.dbt_build", map_index=-1, log=SimpleNamespace(debug=print, info=print),
        dag_run=SimpleNamespace(partition_key=None, partition_date=None),
    )  # fmt: skip
    ti.log = SimpleNamespace(**dict.fromkeys(("debug", "info", "warning"), lambda *_: None))
    figures = {}
    for name in ("new", "known"):
        results = [NodeResult(unique_id=node, status="success", invocation_id=name) for node in nodes]
        outlets = as_outlets(assets.events(results))
        profiles = [AssetProfile(**outlet) for outlet in outlets["task_outlets"]]
        began, cpu = time.perf_counter(), time.process_time()
        with create_session() as session:
            TaskInstance.register_asset_changes_in_db(ti, profiles, outlets["outlet_events"], session=session)
        figures[f"{name}_ms"] = (time.perf_counter() - began) / events * 1e3
        figures[f"{name}_cpu_ms"] = (time.process_time() - cpu) / events * 1e3
    return figures


def serialized(sensors: int, **arguments: Any) -> tuple[int, float]:
    """Return the bytes of a DAG of one project as Airflow stores it, and the CPU seconds to make it."""
    from airflow.sdk import DAG  # noqa: PLC0415
    from airflow.serialization.serialized_objects import DagSerialization  # noqa: PLC0415

    from dbt_watch import dbt_k8s_project  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as directory:
        manifest = Path(directory, "manifest.json")
        manifest.write_text(json.dumps(manifest_of(sensors // 2, parents_of)))
        best, size = float("inf"), 0
        for _ in range(3):
            began = time.process_time()
            with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
                dbt_k8s_project(manifest, image="shop:1", sensors="eager", **arguments)(build)()
            size = len(json.dumps(DagSerialization.to_dict(dag)))
            best = min(best, time.process_time() - began)
    return size, best


def build() -> None:
    """Stand for the body of a project."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=180)
    parser.add_argument("--sensors", type=int, default=180)
    parser.add_argument("--here", action="store_true", help="on the database that the environment names")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(registered(options.events)))
        return
    print(
        "| a DAG of {options.sensors} sensors | KB | parsed and serialized, CPU s |".replace(
            "{options.sensors}", str(options.sensors)
        )
    )
    print("|---|---|---|")
    for arguments in ({}, {"assets": "each"}, {"assets": "each", "assets_when": "built"}):
        size, seconds = serialized(options.sensors, **arguments)
        print(f"| `{arguments}` | {size / 1e3:.0f} | {seconds:.2f} |")
    with local_postgres("airflow") as host, tempfile.TemporaryDirectory() as home:
        env = {**os.environ, **airflow_on(host), "AIRFLOW_HOME": home}
        subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True
        )
        command = [sys.executable, __file__, "--here", "--events", str(options.events)]
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    print(
        f"an event, of {options.events}: ",
        ", ".join(f"{name} {value:.1f}" for name, value in figures.items()),
    )


if __name__ == "__main__":
    main()
