"""What the serialized DAG holds of a sensor: as little as it can."""

from datetime import datetime

from airflow.sdk import DAG
from airflow.serialization import serialized_objects

from dbt_watch.airflow import dag_authoring
from dbt_watch.sensors.operator import DbtNodeSensor

# Its name depends on the version of Airflow.
SERIALIZER = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG


def test_arguments_of_the_trigger_are_left_out_where_they_say_nothing(monkeypatch):
    monkeypatch.setattr(dag_authoring, "STARTS_FROM_TRIGGER", True)
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        DbtNodeSensor(task_id="orders", producer_task_id="dbt_build", unique_ids=["model.shop.orders"])
    (task,) = SERIALIZER.to_dict(dag)["dag"]["tasks"]
    # Airflow before 3.3 stores none.
    if "start_trigger_args" in task["__var"]:
        arguments = task["__var"]["start_trigger_args"]["trigger_kwargs"]["__var"]
        assert arguments.keys() == {"producer_task_id", "unique_ids", "turn"}
