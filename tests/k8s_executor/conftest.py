"""
The Airflow under the KubernetesExecutor, its cluster and its DAGs; and the tables that `nox -s k8s_executor` prints.

Without `--k8s-executor` only what is not marked so runs: one run of the example project.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import time
from pathlib import Path

import psycopg2
import pytest
from deployment import DBT_NAMESPACE, WORKER_NAMESPACE, dbt_image, deployed
from harness import Run, until
from local_postgres import airflow_on

from dbt_watch.local.localkube import Mount

HERE = Path(__file__).parent
SHOP_IMAGE, STEADY_IMAGE = "registry.example/shop-dbt:1.4", "registry.example/steady-dbt:1"
WIDE_IMAGE = "registry.example/wide-{}-dbt:1"
HAS_PEER = importlib.util.find_spec("cosmos") is not None
# As Airflow has it by default: no pod is struck, and one that is slow to start is not to be taken for one that never does.
WITHOUT_FAULTS = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "300",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "600",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "120",
}
# In seconds, until no pod of a run that has ended is left.
GONE = 240
FIGURES = pytest.StashKey()


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


def pytest_configure(config):
    config.stash[FIGURES] = {"counts": [], "faults": []}


@pytest.fixture(scope="package")
def counts(pytestconfig):
    """The rows of the table of pods."""
    return pytestconfig.stash[FIGURES]["counts"]


@pytest.fixture(scope="package")
def struck(pytestconfig):
    """The rows of the table of faults."""
    return pytestconfig.stash[FIGURES]["faults"]


@pytest.fixture(scope="package")
def new_database(postgres):
    """Return a function that makes a database for an Airflow, and returns the variables by which it finds it."""

    def make(name):
        connected = psycopg2.connect(host=postgres, user="postgres", dbname="warehouse")
        with contextlib.closing(connected) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database {name}")
        found = airflow_on(postgres)
        return {key: value.replace("/airflow?", f"/{name}?") for key, value in found.items()}

    return make


def is_asked_for(request, file):
    """Return whether long tests of a file are to run: dbt takes minutes to parse what they need."""
    chosen = any(item.path.name == file for item in request.session.items)
    return chosen and request.config.getoption("--k8s-executor")


@pytest.fixture(scope="package")
def wide(parse, postgres, tmp_path_factory, request):
    """Projects of many models, by their number: those that tests ask for."""
    if not is_asked_for(request, "test_worker_pods.py"):
        return {}
    asked = (getattr(item, "callspec", None) for item in request.session.items)
    widths = {call.params["width"] for call in asked if call is not None and "width" in call.params}
    return {
        width: parse(wide_project(tmp_path_factory.mktemp("wide") / f"wide_{width}", width, postgres))
        for width in sorted(widths)
    }


def wide_project(directory, width, postgres):
    (directory / "models").mkdir(parents=True)
    (directory / "dbt_project.yml").write_text(
        "name: wide\nversion: '1.0'\nprofile: wide\nmodels: {+materialized: view}\n"
    )
    # Pods for each node need a database that they share.
    warehouse = {"type": "postgres", "host": postgres, "port": 5432, "user": "postgres", "password": ""}
    warehouse |= {"dbname": "warehouse", "schema": "wide", "threads": 4}
    dev = {"type": "duckdb", "path": "/tmp/wide.duckdb", "threads": 4}  # noqa: S108 - in the pod
    outputs = {"dev": dev, "warehouse": warehouse}
    profile = {"wide": {"target": "dev", "outputs": outputs}}
    (directory / "profiles.yml").write_text(json.dumps(profile))
    for number in range(width):
        # A lineage as deep as the logarithm of its size.
        parents = sorted({number // 2, number // 3} - {number})
        tables = ", ".join(f"{{{{ ref('m{parent}') }}}} as p{parent}" for parent in parents)
        (directory / f"models/m{number}.sql").write_text(
            f"select 1 as id{f' from {tables}' if tables else ''}\n"  # noqa: S608 - names of our own
        )
    return directory


@pytest.fixture(scope="package")
def steady(postgres, parse, tmp_path_factory, request):
    """The project of the fault tests, which builds in a Postgres; None where no test asks for it."""
    if not is_asked_for(request, "test_faults.py"):
        return None
    directory = tmp_path_factory.mktemp("project") / "steady"
    shutil.copytree(HERE.parent / "faults/project", directory)
    return parse(directory, STEADY_HOST=postgres, DBT_SEND_ANONYMOUS_USAGE_STATS="false")


@pytest.fixture(scope="package")
def gates(tmp_path_factory):
    """The directory of files that dbt waits for."""
    return tmp_path_factory.mktemp("gates")


@pytest.fixture(scope="package")
def dags(project, wide, steady, tmp_path_factory):
    """The folder of the DAG files, with the manifests beside them."""
    folder = tmp_path_factory.mktemp("dags")
    for file in (HERE / "dags").glob("*.py"):
        shutil.copy(file, folder)
    for directory in filter(None, (project, *wide.values(), steady)):
        (folder / directory.name / "target").mkdir(parents=True)
        shutil.copy(directory / "target/manifest.json", folder / directory.name / "target")
    if not HAS_PEER or 50 not in wide:
        (folder / "peer.py").unlink()
    if steady is None:
        (folder / "steady.py").unlink()
    return folder


@pytest.fixture(scope="package")
def images(project, wide, steady, gates, postgres):
    found = {SHOP_IMAGE: dbt_image(project)}
    # A socket works only where the directory itself is mounted, not a copy of it.
    socket = {postgres: Mount(postgres, shared=True)}
    found |= {WIDE_IMAGE.format(width): dbt_image(directory, socket) for width, directory in wide.items()}
    if steady is not None:
        shared = {
            path: Mount(source, shared=True) for path, source in ((postgres, postgres), ("/gates", gates))
        }
        env = {"STEADY_HOST": postgres, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
        found[STEADY_IMAGE] = dbt_image(steady, shared, env)
    return found


@pytest.fixture(scope="package")
def deployment(dags, images, new_database, pytestconfig):
    keep_home = bool(os.environ.get("KEEP_AIRFLOW"))
    env = {"AIRFLOW__DBT_WATCH__LIGHT_TRIGGERER": "True"}
    if not pytestconfig.getoption("--k8s-executor"):
        env |= WITHOUT_FAULTS
    with deployed(dags, new_database("pods"), images, keep_home=keep_home, env=env) as running:
        yield running


@pytest.fixture(scope="package")
def run_of(deployment):
    """Return the finished run of a DAG, made when it is first asked for."""
    runs = {}

    def get(dag_id):
        if dag_id not in runs:
            runs[dag_id] = Run.start(deployment.airflow, dag_id).ended()
        return runs[dag_id]

    return get


@pytest.fixture(scope="package")
def gone(deployment):
    """Return a function that waits until no pod of a run is left, and fails where one stays."""

    def check(run):
        def left():
            return [
                f"{pod.namespace}/{pod.name} ({pod.phase})"
                for namespace in (WORKER_NAMESPACE, DBT_NAMESPACE)
                for pod in deployment.pods(run, namespace)
                if pod.deleted_at is None
            ]

        until(lambda: not left(), lambda: f"left behind: {left()}", GONE)

    return check


def seconds_of(pods):
    """Return for how long pods were there in all, until they had ended."""
    ends = [pod.finished_at or pod.deleted_at for pod in pods]
    return sum((end - pod.created_at).total_seconds() for pod, end in zip(pods, ends, strict=True))


@pytest.fixture(scope="package")
def count(deployment, counts, gone):
    """Return a function that notes the pods of a run in the table, and returns how many there were of each kind."""

    def note(run, way, nodes=None):
        gone(run)
        workers, pods = deployment.pods(run), deployment.pods(run, DBT_NAMESPACE)
        tasks = run.tasks.values()
        begun, ended = (
            min(item.start_date for item in tasks if item.start_date),
            max(item.end_date for item in tasks),
        )
        counts.append(
            {
                "way": way, "nodes": len(run.sensors()) if nodes is None else nodes, "worker_pods": len(workers), "dbt_pods": len(pods),
                "worker_seconds": seconds_of(workers), "dbt_seconds": seconds_of(pods),
                "run_seconds": (ended - begun).total_seconds(), "load": os.getloadavg()[0],
            }
        )  # fmt: skip
        return len(workers), len(pods)

    return note


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash[FIGURES]
    if figures["counts"]:
        terminalreporter.section("pods")
        head = f"{'way':44} {'tasks of nodes':>14} {'worker pods':>11} {'their seconds':>13} {'pods of dbt':>11} {'run':>8}"
        terminalreporter.write_line(head)
        for row in figures["counts"]:
            terminalreporter.write_line(
                f"{row['way']:44} {row['nodes']:14} {row['worker_pods']:11} {row['worker_seconds']:13.1f}"
                f" {row['dbt_pods']:11} {row['run_seconds']:6.1f} s"
            )
    if figures["faults"]:
        terminalreporter.section("faults under the KubernetesExecutor")
        head = f"{'fault':84} {'producer':11} {'result':9} {'worker pods':>11} {'pods of dbt':>11} {'at once':>7} {'left':>4}"
        terminalreporter.write_line(head)
        for row in figures["faults"]:
            terminalreporter.write_line(
                f"{row['fault']:84} {row['producer']:11} {row['result']:9} {row['worker_pods']:11} {row['dbt_pods']:11}"
                f" {row['at_once']:7} {row['left']:4}"
            )
    if (path := config.getoption("--k8s-figures")) and (figures["counts"] or figures["faults"]):
        known = json.loads(path.read_text()) if path.exists() else {}
        for table, keys in (("counts", ("way", "nodes")), ("faults", ("fault", "producer"))):
            new = {tuple(row[key] for key in keys): row for row in figures[table]}
            old = {tuple(row[key] for key in keys): row for row in known.get(table, [])}
            known[table] = [*{**old, **new}.values()]
        path.write_text(json.dumps({**known, "measured": time.strftime("%Y-%m-%d")}, indent=1) + "\n")
