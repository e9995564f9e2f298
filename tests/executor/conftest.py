"""Airflow's execution API and a producer, scripted."""

import pytest
from scripted_api import SECRET, Api, Producer

from dbt_watch.airflow.compat import HAS_WORKLOAD_TOKENS

# What these tests import is not there before Airflow 3.3.
collect_ignore_glob = [] if HAS_WORKLOAD_TOKENS else ["test_*.py"]


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", SECRET)
    monkeypatch.setenv("AIRFLOW__EXECUTION_API__JWT_AUDIENCE", "urn:airflow.apache.org:task")
    return Api()


@pytest.fixture
def producer(api):
    return Producer(api)
