"""A Kubernetes API that lets in whom Google and AWS know, stand-ins for these, and an Airflow that knows both as connections."""

import contextlib
import json
import os
import re
import secrets
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from harness import PATIENCE, Run, dags_in, until

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = "jaffle-shop:clouds"
# The examples, whose producers wait in the triggerer, and the same on workers.
EXAMPLES = ("gke", "eks")
ON_WORKERS = ("gke_on_worker", "eks_on_worker")
WARNING = """
{{ config(severity='warn') }}
select * from {{ ref('stg_payments') }} where amount > 1
"""
# Is built as soon as there is a file beside the database.
LATE = """
{{ config(materialized='table') }}
select * from read_csv('{{ env_var("JAFFLE_SHOP_DB") }}.landed', header = false)
"""


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def shop(project, parse, tmp_path_factory):
    """The example project, with a test that warns and a model that cannot be built yet."""
    directory = tmp_path_factory.mktemp("shop") / "jaffle_shop"
    shutil.copytree(project, directory, ignore=shutil.ignore_patterns("target"))
    (directory / "tests/dear_payments.sql").write_text(WARNING)
    (directory / "models/late.sql").write_text(LATE)
    return parse(directory)


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory):
    return tmp_path_factory.mktemp("warehouse")


@pytest.fixture(scope="session")
def kube(shop, warehouse):
    mounts = {"/usr/app/jaffle_shop": shop, "/warehouse": Mount(warehouse, shared=True)}
    with LocalKube(
        {IMAGE: Image(venv=sys.prefix, mounts=mounts, workdir="/usr/app/jaffle_shop")}, namespaces=["dbt"]
    ) as kube:
        yield kube


@pytest.fixture(scope="session")
def role():
    """The rules of the Role of docs/security.md that Airflow's workers need."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
    documents = [yaml.safe_load(block) for block in blocks]
    return next(document["rules"] for document in documents if document["metadata"]["name"] == "dbt-watch")


@pytest.fixture(scope="session")
def google(kube, role, tmp_path_factory):
    from google_cloud import GoogleCloud  # noqa: PLC0415 - where the providers are not installed, nothing asks for it

    with GoogleCloud(kube.url, kube.authority, tmp_path_factory.mktemp("google")) as google:
        kube.accept_tokens(google.review, role, namespace="dbt")
        yield google


@pytest.fixture(scope="session")
def amazon(kube, role):
    from amazon import Amazon  # noqa: PLC0415 - likewise

    with Amazon(kube.url, kube.authority) as amazon:
        kube.accept_tokens(amazon.review, role, namespace="dbt")
        yield amazon


@pytest.fixture(scope="session")
def airflow(postgres, google, amazon, tmp_path_factory):
    from local_postgres import airflow_on  # noqa: PLC0415 - it takes a while

    env = {
        **airflow_on(postgres),
        **google.environment,
        **amazon.environment,
        "AIRFLOW__CORE__PARALLELISM": "6",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        # The kubeconfig of EksPodOperator starts a Python by its version.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    with LocalAirflow(
        tmp_path_factory.mktemp("dags"), env=env, keep_home=bool(os.environ.get("KEEP_AIRFLOW"))
    ) as airflow:
        connect(airflow, "google_cloud_default", "google_cloud_platform", extra=google.connection)
        connect(airflow, "aws_default", "aws", **amazon.connection)
        yield airflow


def connect(airflow, name, kind, extra=None, **fields):
    """Make a connection in Airflow's database, as a person does."""
    body = {"connection_id": name, "conn_type": kind, "extra": json.dumps(extra or {}), **fields}
    airflow.client._answer("POST", "connections", json=body)


@pytest.fixture(scope="session")
def dags(airflow, shop):
    """The examples, and DAGs of these tests, in the folder of the Airflow."""
    environment = {"JAFFLE_SHOP_MANIFEST": str(shop / "target/manifest.json"), "JAFFLE_SHOP_IMAGE": IMAGE}
    with contextlib.ExitStack() as stack:
        cases = HERE / "dags/cloud_cases.py"
        stack.enter_context(dags_in(airflow, cases, env=environment, modules=ROOT / "tests/e2e"))
        for name in EXAMPLES:
            own = {**environment, "JAFFLE_SHOP_DB": f"/warehouse/{name}.duckdb"}
            stack.enter_context(dags_in(airflow, ROOT / f"examples/{name}_dag.py", env=own))
        yield


@pytest.fixture(scope="session")
def run_of(airflow, dags, warehouse):
    """Return the finished run of a DAG, in which something lands between the first attempt and the second."""
    runs = {name: Run.start(airflow, name, {"break_model": "orders"}) for name in EXAMPLES}
    runs.update({name: Run.start(airflow, name) for name in ON_WORKERS})
    waiting = {*runs}

    def have_landed():
        for name in [*waiting]:
            if runs[name].states["build.dbt_build"] == "up_for_retry":
                (warehouse / f"{name}.duckdb.landed").write_text("here it is")
                waiting.remove(name)
        return not waiting

    until(have_landed, lambda: f"no second attempt of {waiting}", patience=2 * PATIENCE)
    for run in runs.values():
        run.end()
    return runs.__getitem__


class Held:
    """
    A run that has built its seed, and goes on when it is let go.

    :param gate: the file that does so
    """

    def __init__(self, run, gate):
        self.run = run.when("build.raw_orders", "success")
        self._gate = gate

    def let_go(self):
        self._gate.touch()
        return self.run.ended()


@pytest.fixture
def hold(airflow, dags, warehouse):
    """Return a function that starts runs which are held back."""

    def hold(*dag_ids):
        gates = {dag_id: warehouse / f"{dag_id}-{secrets.token_hex(4)}" for dag_id in dag_ids}
        runs = {dag_id: Run.start(airflow, dag_id, {"gate": gate.name}) for dag_id, gate in gates.items()}
        return [Held(runs[dag_id], gate) for dag_id, gate in gates.items()]

    return hold
