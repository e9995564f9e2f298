"""A DAG to fill, and the example project to fill it with."""

from datetime import datetime

import pytest
from airflow.sdk import DAG

from dbt_watch import dbt_k8s_project


@pytest.fixture
def dag():
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), params={"full_refresh": False}) as dag:
        yield dag


@pytest.fixture
def decorate(project):
    def decorate(**overrides):
        arguments = {"manifest": project / "target/manifest.json", "image": "shop:1", **overrides}
        return dbt_k8s_project(**arguments)

    return decorate


@pytest.fixture
def serialized():
    """Serialize a DAG as Airflow does, on any supported version."""
    from airflow.serialization import serialized_objects  # noqa: PLC0415

    serializer = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
    return serializer.to_dict
