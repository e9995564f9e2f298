"""
Whole builds of the example on a real Airflow whose OpenLineage provider has a transport: on a worker and in the triggerer.

One run of `examples/lineage_dag.py`, with a model that fails, a test that fails and one that warns. `nox -s lineage` runs it.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from harness import PreloadedAirflow, Run, dags_in, until

from dbt_watch.local.localkube import Image, LocalKube

ROOT = Path(__file__).parents[2]
IMAGE = "jaffle-shop:lineage"
GROUPS = ("build", "deferred")
TESTS = {
    "late_customers.sql": "select * from {{ ref('customers') }} where customer_id < 3",
    "dear_payments.sql": "{{ config(severity='warn') }} select * from {{ ref('stg_payments') }} where amount > 1",
}
LATE, DEAR = "test.jaffle_shop.late_customers", "test.jaffle_shop.dear_payments"

pytestmark = [pytest.mark.lineage, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def shop(project, parse, tmp_path_factory):
    directory = tmp_path_factory.mktemp("lineage") / "jaffle_shop"
    shutil.copytree(project, directory)
    for name, sql in TESTS.items():
        (directory / "tests" / name).write_text(sql)
    return parse(directory, LINEAGE="1")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return tmp_path_factory.mktemp("told") / "events.jsonl"


@pytest.fixture(scope="module")
def run(shop, warm_dbt, told, tmp_path_factory):
    transport = {"type": "file", "log_file_path": str(told), "append": True}
    env = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "airflow",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    }
    place = "/usr/app/jaffle_shop"
    image = Image(venv=sys.prefix, mounts={**warm_dbt, place: shop}, workdir=place)
    folder, keep_home = tmp_path_factory.mktemp("dags"), bool(os.environ.get("KEEP_AIRFLOW"))
    with LocalKube({IMAGE: image}) as kube, PreloadedAirflow(folder, env=env, keep_home=keep_home) as airflow:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kube.kubeconfig)}}
        environment = {
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
            "JAFFLE_SHOP_MANIFEST": str(shop / "target/manifest.json"),
            "JAFFLE_SHOP_IMAGE": IMAGE,
        }
        with dags_in(airflow, ROOT / "examples/lineage_dag.py", env=environment):
            run = Run.start(airflow, "lineage", {"break_model": "daily_revenue"}).ended()
            # A triggerer sends the last of it after the task has ended.
            until(
                lambda: len(ends_of_runs(told)) == len(GROUPS), lambda: told.read_text()[-2_000:], patience=90
            )
            yield run


@pytest.fixture(scope="module")
def events(run, told):
    return [json.loads(line) for line in told.read_text().splitlines()]


def ends_of_runs(told):
    lines = told.read_text().splitlines() if told.exists() else []
    found = [event for event in map(json.loads, lines) if event["job"]["name"].startswith("dbt-run-")]
    return [event for event in found if event["eventType"] != "START"]


def of_group(events, group):
    """Return the run of the project that a task has had, and the events of its nodes."""
    ours = [event for event in events if event["producer"].startswith("urn:dbt-watch:")]
    parents = {
        event["run"]["runId"]: event["run"]["facets"]["parent"]
        for event in ours
        if event["job"]["name"].startswith("dbt-run-")
    }
    (run_id,) = [
        key for key, parent in parents.items() if parent["job"]["name"] == f"lineage.{group}.dbt_build"
    ]
    nodes = [event for event in ours if event["run"]["facets"]["parent"]["run"]["runId"] == run_id]
    return run_id, parents[run_id], nodes


@pytest.mark.parametrize("group", GROUPS)
def test_the_project_is_a_part_of_the_task_that_the_provider_has_told_of(run, events, group):
    _, parent, _ = of_group(events, group)
    (dag_run,) = {event["run"]["runId"] for event in events if event["job"]["name"] == "lineage"}
    task_runs = {
        event["run"]["runId"] for event in events if event["job"]["name"] == f"lineage.{group}.dbt_build"
    }
    assert parent["run"]["runId"] in task_runs
    assert parent["root"]["run"]["runId"] == dag_run


@pytest.mark.parametrize("group", GROUPS)
def test_each_node_that_ran_is_told_once_as_it_ended(run, events, group):
    _, _, nodes = of_group(events, group)
    assert run.states[f"{group}.dbt_build"] == "failed"
    ends = {event["job"]["name"]: event["eventType"] for event in nodes if event["eventType"] != "START"}
    started = [event["job"]["name"] for event in nodes if event["eventType"] == "START"]
    assert sorted(started) == sorted(ends)
    assert len(nodes) == 2 * len(ends)
    failed = {name for name, state in ends.items() if state == "FAIL"}
    assert failed == {"model.jaffle_shop.daily_revenue", LATE}
    assert ends[DEAR] == "COMPLETE"
    assert not any("not_null_daily_revenue_day" in name for name in ends)


@pytest.mark.parametrize("group", GROUPS)
def test_tables_columns_and_assertions_are_told(run, events, group):
    _, _, nodes = of_group(events, group)
    ends = {event["job"]["name"]: event for event in nodes if event["eventType"] != "START"}
    orders = ends["model.jaffle_shop.orders"]
    assert {item["namespace"] for item in orders["inputs"] + orders["outputs"]} == {
        "duckdb:///data/jaffle_shop.duckdb"
    }
    (output,) = orders["outputs"]
    assert output["name"] == "jaffle_shop.main.orders"
    assert "order_id" in output["facets"]["columnLineage"]["fields"]
    assert "create" in orders["job"]["facets"]["sql"]["query"]
    for name, success in (
        (LATE, False),
        (DEAR, False),
        ("test.jaffle_shop.no_cancelled_order_is_paid", True),
    ):
        (table,) = ends[name]["inputs"]
        (assertion,) = table["inputFacets"]["dataQualityAssertions"]["assertions"]
        assert assertion["success"] is success


def test_no_log_warns_of_lineage(run):
    for group in GROUPS:
        assert "OpenLineage event" not in run.log(f"{group}.dbt_build")
