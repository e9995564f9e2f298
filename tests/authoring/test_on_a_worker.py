"""What a DAG file makes and loads where one task alone will run; each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

DAG_FILE = """
from datetime import datetime
from airflow.sdk import dag
from dbt_watch import dbt_k8s_project

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def shop():
    @dbt_k8s_project(manifest="target/manifest.json", image="shop:1")
    def build(): ...

    build()

made = shop()
"""
# Whatever decodes a manifest from here on fails.
NO_MANIFEST = "import dbt_watch.core.manifest.load as load; load.decode_manifest = None\n"
TOLD = """
import json, sys
print(json.dumps([sorted(made.task_ids), sorted(sys.modules)]))
"""


@pytest.fixture
def load(project, tmp_path):
    """Return a function that loads the DAG file for a task, and tells what it has made and loaded."""
    file = project / "shop.py"
    env = {**os.environ, "DBT_WATCH_CACHE_DIR": str(tmp_path)}

    def load(task_id=None, before=""):
        file.write_text(before + DAG_FILE + TOLD)
        context = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "shop", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": task_id}
        done = subprocess.run(
            [sys.executable, str(file)],
            env={**env, **(context if task_id else {})},
            capture_output=True,
            text=True,
            check=True,
            timeout=480,
        )
        tasks, modules = json.loads(done.stdout.splitlines()[-1])
        return tasks, modules

    return load


def those_in(modules, *packages):
    return {name for name in modules if name.startswith(tuple(f"{package}." for package in packages))}


def test_a_sensor_is_made_alone_and_needs_neither_kubernetes_nor_the_manifest_itself(load):
    of_producers = (
        "kubernetes",
        "kubernetes_asyncio",
        "airflow.providers.cncf.kubernetes.operators",
        "dbt_watch.producers",
    )
    tasks, modules = load()
    assert len(tasks) > 10
    assert all(those_in(modules, package) for package in of_producers)
    tasks, modules = load("build.orders", before=NO_MANIFEST)
    assert tasks == ["build.orders"]
    assert not those_in(modules, *of_producers, "dbt")


def test_the_producer_is_made_alone_and_loads_little_of_kubernetes(load):
    tasks, modules = load("build.dbt_build")
    assert tasks == ["build.dbt_build"]
    assert len(those_in(modules, "kubernetes", "kubernetes_asyncio")) < 150


def test_a_whole_dag_loads_little_of_kubernetes_unless_its_file_does(load):
    _, modules = load()
    assert len(those_in(modules, "kubernetes", "kubernetes_asyncio")) < 150
    _, modules = load(before="from kubernetes.client import models\n")
    assert len(those_in(modules, "kubernetes")) > 700
