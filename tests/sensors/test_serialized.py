"""What the serialized DAG holds of a sensor: nothing that Airflow takes for granted."""

import copy
import pickle
from datetime import datetime, timedelta

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.serialization import serialized_objects

from dbt_watch.airflow import dag_authoring
from dbt_watch.sensors import operator as sensors
from dbt_watch.sensors.operator import DbtNodeSensor

# Its name depends on the version of Airflow.
SERIALIZER = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG


def serialized_sensor(**default_args):
    """Return a DAG as Airflow stores it, and the sensor in it."""
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), default_args=default_args) as dag:
        DbtNodeSensor(
            task_id="orders", producer_task_id="dbt_build", unique_ids=["model.shop.orders"], retries=0
        )
    stored = SERIALIZER.to_dict(dag)
    (task,) = stored["dag"]["tasks"]
    return stored, task["__var"]


def restored(stored):
    """Return what the scheduler knows of the only task, by name."""
    task = SERIALIZER.from_dict(stored).task_dict["orders"]
    names = {*task.get_serialized_fields(), "has_retry_policy"}
    return {name: getattr(task, name, None) for name in names}


def as_others(patch):
    """Have Airflow store sensors as it does any other operator."""
    patch.setattr(sensors, "leave_out_retry_delay", lambda task: None)
    patch.setattr(
        sensors.LeanForm, "has_retry_policy", property(lambda task: bool(getattr(task, "retry_policy", None)))
    )


@pytest.mark.parametrize("default_args", [{}, {"retry_delay": timedelta(seconds=7)}])
def test_defaults_are_left_out_and_the_scheduler_knows_them_all_the_same(monkeypatch, default_args):
    stored, task = serialized_sensor(**default_args)
    with monkeypatch.context() as patch:
        as_others(patch)
        usual, usual_task = serialized_sensor(**default_args)
    left_out = usual_task.keys() - task.keys()
    assert left_out <= {"retry_delay", "has_retry_policy"}
    assert ("retry_delay" in left_out) == (not default_args)
    assert task == {name: value for name, value in usual_task.items() if name in task}
    assert restored(stored) == restored(usual)


@pytest.mark.skipif(not hasattr(BaseOperator, "has_retry_policy"), reason="there are none before Airflow 3.3")
def test_a_retry_policy_of_the_dag_is_known():
    from airflow.sdk import ExceptionRetryPolicy  # noqa: PLC0415

    stored, task = serialized_sensor(retry_policy=ExceptionRetryPolicy(rules=[]))
    assert task["has_retry_policy"] is True
    assert restored(stored)["has_retry_policy"] is True


def test_a_delay_is_a_time_as_any_other():
    (delay,) = {serialized_delay(), timedelta(minutes=5)}
    assert (delay == 300.0, delay == 7, delay == timedelta(minutes=5), delay == "300") == (
        True,
        False,
        True,
        False,
    )
    assert timedelta(minutes=4) < delay < timedelta(minutes=6)
    assert copy.deepcopy(delay) == pickle.loads(pickle.dumps(delay)) == delay  # noqa: S301


def serialized_delay():
    return DbtNodeSensor(
        task_id="orders", producer_task_id="dbt_build", unique_ids=["model.shop.orders"]
    ).retry_delay


def test_arguments_of_the_trigger_are_left_out_where_they_say_nothing(monkeypatch):
    monkeypatch.setattr(dag_authoring, "STARTS_FROM_TRIGGER", True)
    _, task = serialized_sensor()
    if "start_trigger_args" in task:
        arguments = task["start_trigger_args"]["trigger_kwargs"]["__var"]
        assert arguments.keys() == {"producer_task_id", "unique_ids", "turn"}
