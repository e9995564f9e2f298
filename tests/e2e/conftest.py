"""One cluster and one run of each case for all end-to-end tests."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import duckdb
import httpx
import pytest
from example_runs import (  # noqa: F401 - these are fixtures
    example_cluster,
    lake,
    metered_database,
    run_of_example,
    shop,
    shop_login,
    shop_with_packages,
    told,
)
from harness import DATABASE, Run, dags_in
from kubernetes import client, config
from runs_ahead import RunsAhead

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER
from dbt_watch.exceptions import DbtWatchError
from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = "jaffle-shop:tests"
# What README's example asks for.
README_IMAGE = "registry.example/shop-dbt:1.4"
README_PROJECT_DIR = "/usr/app/shop"
README_NAMESPACE = "dbt"
# The first are those that tests go on to clear.
CASES = (
    "cleared", "broken", "crossed", "jaffle_shop", "quiet", "noisy", "killed", "unpullable", "held_back", "retried",
    "broken_for_good", "lineage", "bound", "narrow", "narrow_producer",
)  # fmt: skip
# The database of these outlives their pods.
LASTING = ("cleared", "crossed", "x_cleared", "dag_test")
# What a container prints and what dbt's environment says of its log is for code that no version of Airflow has a part in: with
# each, `tests/producers` tries it without an Airflow that runs.
ON_THE_NEWEST = {"quiet", "noisy"}
AHEAD = pytest.StashKey()
# Where a task may fail without a word in its own log.
COMPONENTS = ("scheduler", "triggerer", "api-server")
# In characters, of each log that is shown with a test that failed.
LOG_SHOWN = 4_000


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


def pytest_runtest_setup(item):
    """Begin what may go on beside a test."""
    if (ahead := item.config.stash.get(AHEAD, None)) is not None:
        ahead.go_on()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show with a test that failed the logs of its run's failed tasks, and of Airflow; of CI nothing is left but its output."""
    report = yield
    run = call.excinfo.traceback[-1].locals.get("run") if report.when == "call" and report.failed else None
    if isinstance(run, Run):
        # An Airflow that does not answer is no reason for pytest to end.
        with contextlib.suppress(DbtWatchError, httpx.HTTPError):
            for task_id in run.with_state("failed"):
                report.sections.append((f"log of {task_id}", run.log(task_id)[-LOG_SHOWN:]))
                for name in COMPONENTS:
                    told = told_by(run.airflow.component_log(name), run.run_id, task_id)
                    report.sections.append((f"the {name} about {task_id}", told[-LOG_SHOWN:]))
    return report


def told_by(log, *words):
    """Return the lines of a log in which all of some words are."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(line for line in lines if all(word in line for word in words))


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory):
    """What the pods of the local cluster share, as /warehouse."""
    return tmp_path_factory.mktemp("warehouse")


@pytest.fixture(scope="session")
def cluster(project, warm_dbt, pytestconfig, warehouse):
    """The local cluster; None when the tests run on a real one."""
    if pytestconfig.getoption("--kubeconfig"):
        yield None
        return

    def image(mounts=()):
        shared = {"/usr/app/jaffle_shop": project, "/warehouse": Mount(warehouse, shared=True)}
        return Image(
            venv=sys.prefix, mounts={**warm_dbt, **shared, **dict(mounts)}, workdir="/usr/app/jaffle_shop"
        )

    images = {IMAGE: image()}
    for case in LASTING:
        database = warehouse / f"{case}.duckdb"
        duckdb.connect(str(database)).close()
        images[f"{IMAGE}-{case}"] = image({DATABASE: Mount(database, shared=True)})
    of_readme = Image(
        venv=sys.prefix,
        mounts={README_PROJECT_DIR: project},
        workdir=README_PROJECT_DIR,
        env={"JAFFLE_SHOP_DB": "/tmp/shop.duckdb"},  # noqa: S108 - in the pod
    )
    with LocalKube({**images, README_IMAGE: of_readme}, namespaces=[README_NAMESPACE]) as kube:
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
def cases(cluster):
    """The cases that run on this Airflow."""
    cases = [case for case in CASES if STARTS_FROM_TRIGGER or case not in ON_THE_NEWEST]
    return [case for case in cases if cluster is not None or case not in LASTING]


@pytest.fixture(scope="session")
def dags(airflow, environment, cluster, cases, readme_dag, tmp_path_factory):
    """The DAGs of these tests, in the folder of the Airflow."""
    files = [ROOT / "examples/jaffle_shop_dag.py"]
    alone = {HERE / "dags/cases.py": ({*cases} - {"jaffle_shop"}) | {"marked"}}
    if cluster is not None:
        readme = tmp_path_factory.mktemp("readme")
        readme_dag(readme)
        files.append(readme / "shop.py")
        # Before the file that reads it is there: that is not loaded again for an hour.
        shutil.copytree(readme / "dbt", Path(airflow.env["AIRFLOW__CORE__DAGS_FOLDER"]) / "dbt")
    airflow.client.create_pool("narrow", 2, include_deferred=True)
    with dags_in(airflow, *files, env=environment, modules=HERE, alone=alone):
        yield


@pytest.fixture(scope="session")
def ahead(airflow, pytestconfig):
    """The runs that are begun before a test asks for them."""
    pytestconfig.stash[AHEAD] = RunsAhead(airflow)
    yield pytestconfig.stash[AHEAD]
    del pytestconfig.stash[AHEAD]


@pytest.fixture(scope="session")
def run_of(ahead, dags, cases, cluster, request):
    """Return the finished run of a case."""
    # README's; before Airflow 3.3 `test_dag_test` runs it.
    of_readme = ["shop"] if cluster is not None and STARTS_FROM_TRIGGER else []
    for case in cases + of_readme:
        ahead.add(case, case)
    ahead.go_on()
    asked_for = {name for item in request.session.items for name in item.fixturenames}
    if cluster is not None and "run_of_example" in asked_for:
        request.getfixturevalue("run_of_example")
    return ahead.get
