"""What a scheduler imports for the tasks that are forked from it; each time in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from dbt_watch.executor import ahead

SCHEDULER = "import airflow.jobs.scheduler_job_runner"
FORKING = "import multiprocessing; multiprocessing.set_start_method('fork')"
SPAWNING = "import multiprocessing; multiprocessing.set_start_method('spawn')"
BOTH = "LocalExecutor,dbt_watch.NodeExecutor"
# The tasks of this one are no forks of the scheduler.
REMOTE = "airflow.executors.base_executor.BaseExecutor,dbt_watch.NodeExecutor"
PROGRAM = """
{before}
from airflow.executors.executor_loader import ExecutorLoader
ExecutorLoader.init_executors()

import json, sys
imported = set(sys.modules)

from datetime import datetime
from airflow.sdk import DAG
from dbt_watch import dbt_api_project, dbt_k8s_project

with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)):
    @dbt_k8s_project(manifest="{manifest}", image="shop:1")
    def in_a_pod(): ...

    @dbt_api_project(manifest="{manifest}")
    def on_a_server(): ...

    in_a_pod(), on_a_server()

print(json.dumps([sorted(imported), sorted(set(sys.modules) - imported)]))
"""


@pytest.fixture
def modules(project, tmp_path):
    """Return a function that tells what an Airflow component has imported with its executors, and what a DAG file then imports."""
    manifest = project / "target/manifest.json"

    def modules(executors, *before):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(before="\n".join(before), manifest=manifest)],
            env={
                **os.environ,
                "AIRFLOW__CORE__EXECUTOR": executors,
                "DBT_WATCH_CACHE_DIR": str(tmp_path),
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=480,
        )
        imported, more = json.loads(done.stdout.splitlines()[-1])
        return ours(imported), ours(more)

    return modules


def ours(names):
    return {name for name in names if name.startswith(("dbt_watch.", "kubernetes", "httpx"))}


RUN_BY_TASKS = {
    "dbt_watch.producers.api.client",
    "dbt_watch.producers.pods.trigger",
    "dbt_watch.sensors.operator",
    "kubernetes.client",
    "httpx",
}


def test_a_scheduler_with_a_local_executor_leaves_its_tasks_nothing_to_import(modules):
    imported, more = modules(BOTH, FORKING, SCHEDULER)
    assert more == set()
    assert imported >= RUN_BY_TASKS
    # Of the 1,600 modules of the client, as in a task.
    assert sum(name.startswith("kubernetes") for name in imported) < 150


@pytest.mark.parametrize(
    ("executors", "before"),
    [
        pytest.param(BOTH, [FORKING], id="the api-server"),
        pytest.param(BOTH, [SPAWNING, SCHEDULER], id="workers are no forks"),
        pytest.param(REMOTE, [FORKING, SCHEDULER], id="tasks run elsewhere"),
    ],
)
def test_who_forks_no_tasks_imports_nothing_for_them(modules, executors, before):
    imported, more = modules(executors, *before)
    assert not {name for name in imported if name.startswith(("dbt_watch.producers.", "kubernetes"))}
    assert "dbt_watch.producers.pods.operator" in more


def test_what_cannot_be_imported_is_left_to_the_tasks(monkeypatch):
    there = ahead.import_module
    asked = []

    def import_module(name):
        asked.append(name)
        if name.startswith("dbt_watch.producers.pods."):
            raise ImportError("no provider for Kubernetes")
        return there(name)

    monkeypatch.setattr(ahead, "import_module", import_module)
    ahead.import_for_tasks()
    assert asked.index("dbt_watch.producers.pods.operator") < asked.index("dbt_watch.sensors.operator")
