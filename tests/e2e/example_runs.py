"""The examples of the documentation: their projects, their cluster and their runs. `conftest.py` has these fixtures for all tests."""

import base64
import contextlib
import json
import shutil
import sys
from pathlib import Path

import psycopg2
import pytest
from harness import dags_in
from kubernetes import client, config

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER
from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = "jaffle-shop:examples"
WITH_ENTRYPOINT = "jaffle-shop:entrypoint"
WITH_SOURCES = "landed-shop:examples"
WITH_POSTGRES = "jaffle-shop:postgres"
WITH_MICROBATCH = "metered-shop:examples"
# In the order in which the tests ask for them.
EXAMPLE_RUNS = (
    "regions", "one_region_fails", "values", "values of a part", "watchers", "watchers with a failure", "told",
    "one_node", "tests", "twice", "container", "pods", "profile", "freshness", "landed_late", "operations", "artifacts", "nightly", "fresher", "assets", "assets with a failure",
)  # fmt: skip
# What an older Airflow may do otherwise: it maps tasks, calls back, ends tasks that are left out, and is told of assets. The rest is dbt's and
# the cluster's, and runs on the newest alone.
ON_EACH = {"regions", "one_region_fails", "values of a part", "told", "assets", "assets with a failure"}
CONF = {
    "watchers with a failure": {"break_model": "orders"},
    "values of a part": {"only": "raw_orders+"},
    "assets with a failure": {"break_model": "customers"},
}
EXAMPLES = (
    "regions",
    "values",
    "watchers",
    "one_node",
    "tests",
    "container",
    "freshness",
    "artifacts",
    "slim_ci",
    "fresher",
    "assets",
    "microbatch",
    "operations",
)
WARNING = """
{{ config(severity='warn') }}
select * from {{ ref('stg_payments') }} where amount > 1
"""
# For one seed, which is built alone in one of the tests.
SETTINGS = """
seeds:
  jaffle_shop:
    raw_payments:
      +meta:
        dbt_watch:
          {pool: warehouse, priority: 7, image: "%s", resources: {requests: {memory: 64Mi}}}
"""
# As a distroless image: what stands in the place of its shell cannot be run.
WITHOUT_SHELL = "jaffle-shop:without-shell"
POD_TEMPLATE = """
apiVersion: v1
kind: Pod
metadata:
  labels: {{team: shop}}
spec:
  containers:
    - name: base
      image: {image}
"""
PROFILE = """
jaffle_shop:
  target: dev
  outputs:
    dev: {type: duckdb, path: /data/jaffle_shop.duckdb, threads: 2}
"""


@pytest.fixture(scope="session")
def shop(project, parse, tmp_path_factory):
    """The example project, with a test that warns, and settings of a node."""
    directory = tmp_path_factory.mktemp("shop") / "jaffle_shop"
    shutil.copytree(project, directory)
    (directory / "tests/dear_payments.sql").write_text(WARNING)
    with (directory / "dbt_project.yml").open("a") as file:
        file.write(SETTINGS % WITHOUT_SHELL)
    return parse(directory)


@pytest.fixture(scope="session")
def shop_with_packages(shop, tmp_path_factory):
    """The same with a package that has to be installed, and without a profile."""
    directory = tmp_path_factory.mktemp("packages") / "jaffle_shop"
    shutil.copytree(shop, directory)
    package = directory / "helpers"
    package.mkdir()
    (package / "dbt_project.yml").write_text("name: helpers\nversion: 1.0.0\nconfig-version: 2\n")
    (directory / "packages.yml").write_text("packages: [{local: helpers}]\n")
    (directory / "profiles.yml").unlink()
    return directory


# The role of the shop in the warehouse, which asks for its password as it asks no other.
SHOP_LOGIN, SHOP_PASSWORD = "shop_dbt", "m4rk-password-of-the-shop"
WAREHOUSE = "warehouse"


@pytest.fixture(scope="session")
def shop_login(postgres):
    """Make that role."""
    with contextlib.closing(psycopg2.connect(host=postgres, user="postgres", dbname=WAREHOUSE)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"create role {SHOP_LOGIN} login password '{SHOP_PASSWORD}'")
        cursor.execute(f"grant create on database {WAREHOUSE} to {SHOP_LOGIN}")
        cursor.execute("show hba_file")
        file = Path(cursor.fetchone()[0])
        file.write_text(f"local {WAREHOUSE} {SHOP_LOGIN} scram-sha-256\n{file.read_text()}")
        cursor.execute("select pg_reload_conf()")
    return {"host": postgres, "login": SHOP_LOGIN, "password": SHOP_PASSWORD, "schema": WAREHOUSE}


@pytest.fixture(scope="session")
def metered_database(tmp_path_factory):
    """Where the example with a microbatch model builds, run after run."""
    return tmp_path_factory.mktemp("metered") / "metered_shop.duckdb"


@pytest.fixture(scope="session")
def example_cluster(
    cluster,
    warm_dbt,
    shop,
    shop_with_packages,
    landed_shop,
    metered_shop,
    metered_database,
    postgres,
    tmp_path_factory,
):
    if cluster is None:
        pytest.skip("the examples bring images that a cluster of your own has not")

    def image(directory, mounts=(), **more):
        place = f"/usr/app/{directory.name}"
        mounts = {**warm_dbt, place: directory, **dict(mounts)}
        return Image(venv=sys.prefix, mounts=mounts, workdir=place, **more)

    no_shell = tmp_path_factory.mktemp("no_shell") / "sh"
    no_shell.touch()
    warehouse = Mount(tmp_path_factory.mktemp("warehouse"), shared=True)
    start = ["/bin/sh", "-c", 'echo "fetched the secrets"; exec "$@"', "entrypoint"]
    images = {
        IMAGE: image(shop),
        WITH_ENTRYPOINT: image(shop_with_packages, entrypoint=start),
        WITHOUT_SHELL: image(shop, {"/bin/sh": Mount(no_shell, shared=True)}),
        WITH_SOURCES: image(landed_shop, {"/warehouse": warehouse}),
        WITH_MICROBATCH: image(metered_shop, {"/warehouse": Mount(metered_database.parent, shared=True)}),
        WITH_POSTGRES: image(shop, {postgres: Mount(Path(postgres), shared=True)}),
    }
    with LocalKube(images) as kube:
        core = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
        profile = {"profiles.yml": base64.b64encode(PROFILE.encode()).decode()}
        secret = client.V1Secret(metadata=client.V1ObjectMeta(name="dbt-profile"), data=profile)
        core.create_namespaced_secret("default", secret)
        yield kube


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """What the callbacks of the examples have written."""
    path = tmp_path_factory.mktemp("told") / "told.txt"
    path.touch()

    def told():
        return set(path.read_text().splitlines())

    told.path = path
    return told


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """Where the examples keep artifacts."""
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="session")
def run_of_example(
    airflow, ahead, example_cluster, shop, landed_shop, metered_shop, told, lake, shop_login, tmp_path_factory
):
    """Return the finished run of an example."""
    template = tmp_path_factory.mktemp("template") / "pod.yaml"
    template.write_text(POD_TEMPLATE.format(image=WITHOUT_SHELL))
    airflow.client.create_pool("warehouse", slots=4)
    airflow.client.create_connection("warehouse", "postgres", **shop_login)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(example_cluster.kubeconfig)}}
    environment = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "JAFFLE_SHOP_MANIFEST": str(shop / "target/manifest.json"),
        "JAFFLE_SHOP_IMAGE": IMAGE,
        "LANDED_SHOP_MANIFEST": str(landed_shop / "target/manifest.json"),
        "LANDED_SHOP_IMAGE": WITH_SOURCES,
        "METERED_SHOP_MANIFEST": str(metered_shop / "target/manifest.json"),
        "METERED_SHOP_IMAGE": WITH_MICROBATCH,
        "JAFFLE_SHOP_NAMESPACE": "default",
        "TOLD": str(told.path),
        "JAFFLE_SHOP_LAKE": f"file://{lake}",
        "POD_TEMPLATE": str(template),
    }
    files = [ROOT / f"examples/{name}_dag.py" for name in EXAMPLES if name != "container"]
    files += [HERE / "landed_dags/landed_late.py", HERE / "dags/authoring_cases.py"]
    container, profile = (ROOT / f"examples/{name}_dag.py" for name in ("container", "profile"))
    names = [name for name in EXAMPLE_RUNS if STARTS_FROM_TRIGGER or name in ON_EACH]

    def get(name):
        if name not in names:
            pytest.skip("this example runs on the newest Airflow alone")
        return ahead.get(name)

    with (
        dags_in(airflow, *files, env=environment),
        dags_in(airflow, container, env={**environment, "JAFFLE_SHOP_IMAGE": WITH_ENTRYPOINT}),
        dags_in(airflow, profile, env={**environment, "JAFFLE_SHOP_IMAGE": WITH_POSTGRES}),
    ):
        for name in names:
            ahead.add(name, name.split()[0], CONF.get(name))
        yield get
