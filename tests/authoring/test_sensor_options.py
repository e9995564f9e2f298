"""Where the tasks of nodes run when they need a worker is set apart from where dbt's own task does."""

from datetime import datetime
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from kubernetes.client import models as k8s

from dbt_watch import PodSettings
from dbt_watch.airflow.compat import HAS_WORKLOAD_TOKENS, STARTS_FROM_TRIGGER
from dbt_watch.exceptions import ArgumentError
from dbt_watch.sensors.operator import NODE_EXECUTOR

PLACE = {
    "executor": "LocalExecutor",
    "queue": "small",
    "pool": "sensors",
    "executor_config": {"pod_template_file": "/opt/airflow/templates/small.yaml"},
}


def place_of(task):
    return {name: getattr(task, name) for name in PLACE}


def test_sensors_have_a_place_of_their_own(dag, decorate):
    @decorate(
        sensor_options=PLACE,
        isolate={"stg_orders": PodSettings(queue="heavy", executor_config={"a": 1})},
        executor="KubernetesExecutor",
        queue="dbt",
        pool="pods",
        executor_config={"b": 2},
    )
    def build(): ...

    build()
    assert place_of(dag.task_dict["build.orders"]) == PLACE
    assert place_of(dag.task_dict["build.orders.test"]) == PLACE
    assert place_of(dag.task_dict["build.stg_orders.test"]) == PLACE
    assert place_of(dag.task_dict["build.dbt_build"]) == {
        "executor": "KubernetesExecutor", "queue": "dbt", "pool": "pods", "executor_config": {"b": 2},
    }  # fmt: skip
    isolated = dag.task_dict["build.stg_orders"]
    assert (isolated.queue, isolated.pool, isolated.executor_config) == ("heavy", "pods", {"a": 1})


def test_without_options_sensors_have_the_place_of_any_task(decorate):
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), default_args={"queue": "all"}) as dag:

        @decorate(queue="dbt")
        def build(): ...

        @decorate(group_id="apart", sensor_options={"queue": "small"})
        def apart(): ...

        build()
        apart()
    assert (dag.task_dict["build.dbt_build"].queue, dag.task_dict["build.orders"].queue) == ("dbt", "all")
    assert (dag.task_dict["apart.dbt_build"].queue, dag.task_dict["apart.orders"].queue) == ("all", "small")


def test_a_sensor_takes_no_slot_of_its_pool_either_way(dag, decorate):
    @decorate(sensor_options={"pool": "sensors"})
    def build(): ...

    build()
    assert dag.task_dict["build.orders"].pool_slots == 0


def test_an_executor_for_workers_does_not_bring_sensors_to_workers(dag, decorate):
    @decorate(sensor_options={"executor": "LocalExecutor"})
    def build(): ...

    build()
    assert dag.task_dict["build.orders"].start_from_trigger is STARTS_FROM_TRIGGER


@pytest.mark.skipif(not HAS_WORKLOAD_TOKENS, reason="the executor needs Airflow 3.3")
def test_an_executor_that_is_asked_for_comes_before_the_one_for_sensors(decorate, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor,KubernetesExecutor,dbt_watch.NodeExecutor")
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=64) as dag:

        @decorate(sensor_options={"executor": "KubernetesExecutor"})
        def build(): ...

        @decorate(group_id="beside", sensor_options={"executor_config": {"a": 1}})
        def beside(): ...

        build()
        beside()
    assert dag.task_dict["build.orders"].executor == "KubernetesExecutor"
    sensor = dag.task_dict["beside.orders"]
    assert sensor.executor == NODE_EXECUTOR
    assert sensor.executor_config["a"] == 1
    assert NODE_EXECUTOR in sensor.executor_config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "small",
            r"sensor_options='small': expected a dict with any of executor, queue, pool, executor_config",
        ),
        ({"que": "small"}, r"sensor_options\['que'\]='small': .*did you mean queue\?"),
        ({"queue": 7}, r"sensor_options\['queue'\]=7: expected text"),
        ({"pool": ""}, r"sensor_options\['pool'\]='': expected text"),
        ({"executor_config": []}, r"sensor_options\['executor_config'\]=\[\]: expected a dict"),
        (
            {"executor_config": {"pod_override": {"spec": {}}}},
            r"\['pod_override'\]=\{'spec': \{\}\}: expected a V1Pod",
        ),
    ],
)
def test_what_is_wrong_is_said_while_the_dag_is_parsed(dag, decorate, options, words):
    with pytest.raises(ArgumentError, match=words):
        decorate(sensor_options=options)


def test_an_executor_cannot_be_named_twice(dag, decorate):
    with pytest.raises(
        ArgumentError, match=r"""sensor_options\['executor'\]='LocalExecutor': expected to be left out"""
    ):
        decorate(sensors="executor", sensor_options={"executor": "LocalExecutor"})


@pytest.mark.parametrize("override", [k8s.V1Pod(), SimpleNamespace()])
def test_a_pod_override_is_one_of_kubernetes_own(dag, decorate, override):
    options = {"executor_config": {"pod_override": override}}
    if isinstance(override, k8s.V1Pod):
        decorate(sensor_options=options)
    else:
        with pytest.raises(ArgumentError, match="V1Pod"):
            decorate(sensor_options=options)
