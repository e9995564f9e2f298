"""Projects over several pods: the examples as they stand, on a real Airflow, with a real dbt and a Postgres."""

import contextlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import psycopg2
import pytest
from example_runs import WARNING
from harness import Run, dags_in

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER
from dbt_watch.local.localkube import Image, LocalKube, Mount

ROOT = Path(__file__).parents[2]
PROFILE = """
jaffle_shop:
  target: dev
  outputs:
    dev:
      type: postgres
      host: "{{ env_var('WAREHOUSE_HOST') }}"
      port: 5432
      user: postgres
      password: ""
      dbname: "{{ env_var('WAREHOUSE', 'warehouse') }}"
      schema: shop
      threads: 4
"""
# For each example: a model that fails once, and one that fails for good.
CONF = {
    "isolated": {"break_once": "orders", "break_model": "daily_revenue"},
    "pod_per_node": {"break_once": "stg_orders", "break_model": "stg_payments"},
    "between": {"break_once": "stg_orders", "break_model": "customers"},
}
pytestmark = [
    pytest.mark.newest,
    pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="what differs between versions, other tests show"),
]


@pytest.fixture(scope="module")
def split_shop(postgres, parse, tmp_path_factory):
    directory = tmp_path_factory.mktemp("split") / "jaffle_shop"
    shutil.copytree(ROOT / "examples/jaffle_shop", directory, ignore=shutil.ignore_patterns("target", "logs"))
    (directory / "profiles.yml").write_text(PROFILE)
    (directory / "tests/dear_payments.sql").write_text(WARNING)
    # Postgres gives a sum a scale of its own, by which the unit test of this model would fail.
    orders = directory / "models/marts/orders.sql"
    orders.write_text(
        orders.read_text().replace(
            "coalesce(paid.amount, 0)", "cast(coalesce(paid.amount, 0) as decimal(10, 2))"
        )
    )
    return parse(directory, WAREHOUSE_HOST=postgres)


@pytest.fixture(scope="module")
def split_cluster(split_shop, warm_dbt, postgres):
    """Return a cluster with an image for each example, which has a database of its own."""
    connection = psycopg2.connect(host=postgres, user="postgres", dbname="postgres")
    connection.autocommit = True
    for name in CONF:
        connection.cursor().execute(f"create database {name}")
        # Of two dbts that make it at the same moment, Postgres refuses one.
        with contextlib.closing(psycopg2.connect(host=postgres, user="postgres", dbname=name)) as database:
            database.autocommit = True
            database.cursor().execute("create schema shop")
    connection.close()
    mounts = {**warm_dbt, "/usr/app/jaffle_shop": split_shop, postgres: Mount(Path(postgres), shared=True)}
    images = {
        f"jaffle-shop:{name}": Image(
            venv=sys.prefix,
            mounts=mounts,
            workdir="/usr/app/jaffle_shop",
            env={"WAREHOUSE_HOST": postgres, "WAREHOUSE": name},
        )
        for name in CONF
    }
    with LocalKube(images) as kube:
        yield kube


@pytest.fixture(scope="module")
def split_runs(airflow, split_shop, split_cluster):
    """Return the finished run of an example; all of them go on side by side."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(split_cluster.kubeconfig)}}
    environment = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "JAFFLE_SHOP_MANIFEST": str(split_shop / "target/manifest.json"),
        "JAFFLE_SHOP_NAMESPACE": "default",
    }
    with contextlib.ExitStack() as dags:
        for name in CONF:
            file = ROOT / f"examples/{name}_dag.py"
            dags.enter_context(
                dags_in(airflow, file, env={**environment, "JAFFLE_SHOP_IMAGE": f"jaffle-shop:{name}"})
            )
        runs = {name: Run.start(airflow, name, conf) for name, conf in CONF.items()}
        yield lambda name: runs[name].ended()


@pytest.fixture
def built(postgres):
    """Return what a query finds in the database of an example."""

    def built(name, query):
        connection = psycopg2.connect(host=postgres, user="postgres", dbname=name)
        try:
            cursor = connection.cursor()
            cursor.execute(query)
            return cursor.fetchall()
        finally:
            connection.close()

    return built


def states(run, *names):
    return {name: run.states[f"build.{name}"] for name in names}


def pods_of(kube, name):
    """Return the tasks that pods of an example were made for, as often as one was."""
    pods = [pod for pod in kube.pods() if pod.labels.get("dag_id") == name]
    return Counter(pod.labels["task_id"].removeprefix("build.") for pod in pods)


def test_isolated_nodes_are_built_in_pods_of_their_own(split_runs, split_cluster):
    run = split_runs("isolated")
    assert run.state == "failed"
    assert states(run, "dbt_build", "stg_orders", "order_status_history") == dict.fromkeys(
        ("dbt_build", "stg_orders", "order_status_history"), "success"
    )
    # The second producer runs the tests of several nodes, one of which is isolated.
    assert pods_of(split_cluster, "isolated") == {
        "dbt_build": 1, "dbt_build_2": 1, "orders": 2, "customers": 1, "daily_revenue": 2,
    }  # fmt: skip


def test_an_isolated_node_that_fails_once_is_tried_again_alone(split_runs):
    run = split_runs("isolated")
    assert states(run, "orders", "orders.test", "orders.unit_test") == dict.fromkeys(
        ("orders", "orders.test", "orders.unit_test"), "success"
    )
    assert run.tasks["build.orders"].try_number == 2
    assert run.tasks["build.dbt_build"].try_number == 1


def test_an_isolated_node_that_fails_for_good_leaves_the_others_alone(split_runs):
    run = split_runs("isolated")
    assert states(run, "daily_revenue", "daily_revenue.test") == {
        "daily_revenue": "failed", "daily_revenue.test": "failed",
    }  # fmt: skip
    assert states(run, "customers", "customers.test") == {"customers": "success", "customers.test": "success"}
    assert "order_totl" in run.log("build.daily_revenue", 2, until="order_totl")
    words = "not built: upstream `daily_revenue` failed"
    assert words in run.log("build.daily_revenue.test", until=words)


def test_the_result_of_an_isolated_node_is_in_xcom_as_a_sensor_would_leave_it(split_runs):
    run = split_runs("isolated")
    assert (run.xcom("build.orders")["status"], run.xcom("build.orders")["attempt"]) == ("success", 2)
    assert run.xcom("build.daily_revenue")["status"] == "error"


def test_a_pod_per_node_goes_along_the_lineage_and_tests_run_with_their_node(split_runs, split_cluster):
    run = split_runs("pod_per_node")
    assert pods_of(split_cluster, "pod_per_node") == {
        "raw_orders": 1, "raw_payments": 1, "stg_orders": 2, "stg_payments": 2,
    }  # fmt: skip
    assert run.tasks["build.stg_orders"].try_number == 2
    assert states(run, "raw_orders", "stg_orders", "stg_orders.test") == dict.fromkeys(
        ("raw_orders", "stg_orders", "stg_orders.test"), "success"
    )


def test_what_depends_on_a_failed_node_gets_no_pod_and_says_why(split_runs, split_cluster):
    run = split_runs("pod_per_node")
    names = ("stg_payments", "stg_payments.test", "orders", "orders.test", "orders.unit_test")
    assert states(run, *names) == dict.fromkeys(names, "failed")
    assert "orders" not in pods_of(split_cluster, "pod_per_node")
    words = "upstream `stg_payments` failed"
    assert words in run.log("build.orders", until=words)
    assert f"not built: {words}" in run.log("build.orders.test", until=f"not built: {words}")
    assert run.xcom("build.orders")["skipped_because"] == ["model.jaffle_shop.stg_payments"]


def test_a_warning_is_a_success_with_the_warning_in_the_log(split_runs):
    for name in ("isolated", "between"):
        run = split_runs(name)
        assert run.states["build.stg_payments.test"] == "success"
        words = "dear_payments: warn"
        assert words in run.log("build.stg_payments.test", until=words)


def test_a_function_between_two_models_runs_between_two_pods(split_runs, split_cluster, built):
    run = split_runs("between")
    assert states(run, "dbt_build", "name_batch", "dbt_build_2", "orders", "daily_revenue") == dict.fromkeys(
        ("dbt_build", "name_batch", "dbt_build_2", "orders", "daily_revenue"), "success"
    )
    assert run.states["approve"] == "success"
    assert pods_of(split_cluster, "between") == {"dbt_build": 2, "dbt_build_2": 1, "dbt_build_3": 2}
    assert states(run, "dbt_build_3", "customers", "customers.test") == dict.fromkeys(
        ("dbt_build_3", "customers", "customers.test"), "failed"
    )
    # It came into the models by way of a variable.
    assert ("scored-7",) in built("between", "select distinct batch from shop.orders")
