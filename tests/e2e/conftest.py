"""One Airflow, one cluster and one run of each case for all end-to-end tests."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
from kubernetes import client, config

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = "jaffle-shop:tests"
# What README's example asks for.
README_IMAGE = "registry.example/shop-dbt:1.4"
README_PROJECT_DIR = "/usr/app/shop"
README_NAMESPACE = "dbt"
# In seconds; ten runs go on side by side, on a machine that may be slow.
RUN_TIMEOUT = 600
# In characters, of a task whose test has failed.
LOG_SHOWN = 4_000


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the logs of a run's failed tasks with the test that failed; of CI nothing is left but its output."""
    report = yield
    if report.when == "call" and report.failed:
        run = call.excinfo.traceback[-1].locals.get("run")
        for task_id, state in getattr(run, "states", {}).items():
            if state == "failed":
                report.sections.append((f"log of {task_id}", run.log(task_id)[-LOG_SHOWN:]))
    return report


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory):
    """What the pods of the local cluster share, as /warehouse."""
    return tmp_path_factory.mktemp("warehouse")


@pytest.fixture(scope="session")
def cluster(project, pytestconfig, warehouse):
    """The local cluster; None when the tests run on a real one."""
    if pytestconfig.getoption("--kubeconfig"):
        yield None
        return
    image = Image(
        venv=sys.prefix,
        mounts={"/usr/app/jaffle_shop": project, "/warehouse": Mount(warehouse, shared=True)},
        workdir="/usr/app/jaffle_shop",
    )
    of_readme = Image(
        venv=sys.prefix,
        mounts={README_PROJECT_DIR: project},
        workdir=README_PROJECT_DIR,
        env={"JAFFLE_SHOP_DB": "/tmp/shop.duckdb"},  # noqa: S108 - in the pod
    )
    with LocalKube({IMAGE: image, README_IMAGE: of_readme}, namespaces=[README_NAMESPACE]) as kube:
        yield kube


@pytest.fixture(scope="session")
def kubeconfig(cluster, pytestconfig):
    return cluster.kubeconfig if cluster else pytestconfig.getoption("--kubeconfig").resolve()


@pytest.fixture(scope="session")
def kubernetes(kubeconfig):
    """The official client."""
    return client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))


@pytest.fixture(scope="session")
def environment(project, kubeconfig, pytestconfig):
    """What the DAG files and their tasks read from their environment."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}}
    return {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "JAFFLE_SHOP_MANIFEST": str(project / "target/manifest.json"),
        "JAFFLE_SHOP_IMAGE": pytestconfig.getoption("--image") or IMAGE,
        "JAFFLE_SHOP_NAMESPACE": pytestconfig.getoption("--namespace"),
    }


@pytest.fixture(scope="session")
def airflow(environment, cluster, readme_dag, tmp_path_factory):
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(HERE / "dags/cases.py", dags)
    shutil.copy(HERE / "gated.py", dags)
    shutil.copy(ROOT / "examples/jaffle_shop_dag.py", dags)
    if cluster is not None:
        readme_dag(dags)
    with LocalAirflow(dags, env=environment) as running:
        running.client.create_pool("narrow", 2, include_deferred=True)
        yield running


class Run:
    """A finished run of a DAG, as a test looks at it."""

    def __init__(self, airflow, dag_id, run_id):
        self.airflow = airflow
        self.dag_id = dag_id
        self.run_id = run_id
        self.reread()

    def reread(self):
        """Wait for the end, and look at what has become of the tasks."""
        self.state = self.airflow.wait_for_run(self.dag_id, self.run_id, RUN_TIMEOUT)
        self.tasks = {
            item.task_id: item for item in self.airflow.client.task_instances(self.dag_id, self.run_id)
        }
        return self

    def cleared(self, **which):
        """Clear tasks as a person does, and give the run when it has ended again."""
        self.airflow.client.clear_tasks(self.dag_id, self.run_id, **which)
        return Run(self.airflow, self.dag_id, self.run_id)

    def failed(self):
        return {task_id for task_id, item in self.tasks.items() if item.state == "failed"}

    @property
    def states(self):
        return {task_id: item.state for task_id, item in self.tasks.items()}

    def states_of(self, state):
        return {task_id.removeprefix("shop.") for task_id, found in self.states.items() if found == state}

    def sensors(self):
        return {task_id: item for task_id, item in self.tasks.items() if item.operator == "DbtNodeSensor"}

    def log(self, task_id, attempt=1, *, until=""):
        """Return a task's log; the triggerer writes it a moment after the task has ended, so wait for some words."""
        deadline = time.monotonic() + 30
        while True:
            text = self.airflow.client.task_log(self.dag_id, self.run_id, task_id, attempt)
            if until in text or time.monotonic() > deadline:
                return text
            time.sleep(0.3)

    def xcom(self, task_id, key="return_value"):
        return self.airflow.client.xcom(self.dag_id, self.run_id, task_id, key)


@pytest.fixture(scope="session")
def run_of(airflow, cluster):
    """Return the finished run of a case. All cases are started at once, the first time that one is asked for."""
    started = {}
    finished = {}
    cases = (
        "jaffle_shop", "quiet", "broken", "noisy", "killed", "unpullable", "held_back", "retried", "cleared", "lineage",
        "bound", "crossed", "narrow", "narrow_producer",
    )  # fmt: skip
    if cluster is not None:
        cases += ("shop",)  # README's

    def get(dag_id):
        if not started:
            for case in cases:
                airflow.wait_for_dag(case)
                started[case] = airflow.trigger_dag(case)
        if dag_id not in finished:
            finished[dag_id] = Run(airflow, dag_id, started[dag_id])
        return finished[dag_id]

    return get
