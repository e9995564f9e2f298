"""How a DAG is changed so that `dag.test()` need not wait: in this process, and without running it."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG, TriggerRule

from dbt_watch import dbt_k8s_project
from dbt_watch.airflow.dag_test import connect, hurry, run_sensors_last

MANIFEST = Path(__file__).parents[1] / "lineage/recordings/manifest.json"


@pytest.fixture
def dag():
    with DAG("shop", schedule=None) as dag:

        @dbt_k8s_project(
            manifest=str(MANIFEST), image="shop", retries=2, retry_delay=600, kubernetes_conn_id="far_away"
        )
        def build(): ...

        build()
    return dag


def test_the_tasks_of_nodes_run_when_their_producer_is_done(dag):
    run_sensors_last(dag)
    producer = dag.task_dict["build.dbt_build"]
    sensor = dag.task_dict["build.orders"]
    assert sensor.trigger_rule == TriggerRule.ALL_DONE
    assert producer.task_id in sensor.upstream_task_ids
    assert not any(task.startswith("build.") for task in producer.upstream_task_ids)
    # It is a graph still.
    assert [task.task_id for task in dag.topological_sort()].index(producer.task_id) == 0


def test_retries_come_at_once(dag):
    hurry(dag.tasks)
    producer = dag.task_dict["build.dbt_build"]
    assert (producer.retries, producer.retry_delay) == (2, timedelta(0))


def test_each_connection_of_its_pods_leads_to_one_cluster_unless_it_is_set(dag, monkeypatch):
    environment = {}
    monkeypatch.setattr(os, "environ", environment)
    connect(dag.tasks, "here")
    assert environment == {"AIRFLOW_CONN_FAR_AWAY": "here"}
    environment["AIRFLOW_CONN_FAR_AWAY"] = "there"
    connect(dag.tasks, "here")
    assert environment == {"AIRFLOW_CONN_FAR_AWAY": "there"}
