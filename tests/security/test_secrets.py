"""Where a secret can be read after a build that has failed with it, and where it cannot."""

from __future__ import annotations

import json
import sqlite3

import pytest
from kubernetes import client, config

from dbt_watch.localkube.environment import expand

# A DAG with each runs in a real Airflow, on a machine that may be slow.
pytestmark = pytest.mark.timeout(900)

MARKS = {name: f"m4rk-{name}-7f3a9c" for name in ("secret", "vars", "plain")}


@pytest.fixture(scope="module")
def outcomes(kube, run_dags):
    api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
    secret = {"metadata": {"name": "warehouse"}, "stringData": {"password": MARKS["secret"]}}
    api.create_namespaced_secret("dbt", secret)
    api.api_client.close()
    kubeconfigs = dict.fromkeys(("in_secret", "not_started", "in_vars"), kube.kubeconfig)
    return run_dags("secret", kubeconfigs, MARK_VARS=MARKS["vars"], MARK_PLAIN=MARKS["plain"])


@pytest.fixture(scope="module")
def stored(outcomes, airflow_home):
    """Everything in Airflow's database, by table: XComs with the journal, rendered fields, DAGs."""
    database = sqlite3.connect(airflow_home / "airflow.db")
    database.text_factory = bytes
    tables = [
        name.decode() for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
    ]
    found = {table: repr(list(database.execute(f'SELECT * FROM "{table}"'))) for table in tables}  # noqa: S608 - its own names
    database.close()
    return found


def tables_with(stored, mark):
    return {table for table, content in stored.items() if mark in content}


def test_the_builds_failed_and_said_why(outcomes):
    assert {outcome.state for outcome in outcomes.values()} == {"failed"}
    # The error that names the password, with dbt's asterisks in its place.
    assert "/nowhere/*****" in outcomes["in_secret"].log
    assert "not found" in outcomes["not_started"].log
    assert "dbt ended with exit code 1" in outcomes["in_vars"].log


def test_the_journal_and_the_rendered_fields_are_among_what_is_looked_through(stored):
    assert "journal_0000" in stored["xcom"]
    assert "raw_customers" in stored["xcom"]
    assert "shop.dbt_build" in stored["rendered_task_instance_fields"]


def test_a_kubernetes_secret_is_nowhere_in_airflow(outcomes, stored):
    assert not tables_with(stored, MARKS["secret"])
    assert not [dag_id for dag_id, outcome in outcomes.items() if MARKS["secret"] in outcome.log]


def test_a_kubernetes_secret_is_not_in_the_pod_that_airflow_asks_for(outcomes, recorder):
    pods = json.dumps(recorder.pods)
    assert "DBT_ENV_SECRET_PASSWORD" in pods
    assert MARKS["secret"] not in pods


@pytest.mark.parametrize("mark", ["vars", "plain"])
def test_no_log_and_no_journal_tells_variables(outcomes, stored, mark):
    assert not [dag_id for dag_id, outcome in outcomes.items() if MARKS[mark] in outcome.log]
    assert "xcom" not in tables_with(stored, MARKS[mark])


def test_variables_are_where_the_documentation_says(outcomes, stored, recorder):
    """The arguments of a pod and the rendered fields of a task are no place for a secret: docs/security.md."""
    arguments = [
        container.get("args", []) for pod in recorder.pods for container in pod["spec"]["containers"]
    ]
    assert any(MARKS["vars"] in argument for line in arguments for argument in line)
    assert not any(MARKS["plain"] in argument for line in arguments for argument in line)
    for mark in ("vars", "plain"):
        assert tables_with(stored, MARKS[mark]) <= {
            "rendered_task_instance_fields",
            "serialized_dag",
            "dag_code",
        }
        assert "rendered_task_instance_fields" in tables_with(stored, MARKS[mark])


def test_no_value_makes_kubernetes_put_a_variable_into_the_arguments_of_dbt(outcomes, recorder):
    arguments = [
        argument
        for pod in recorder.pods
        for container in pod["spec"]["containers"]
        for argument in container.get("args", [])
    ]
    assert any('"reference"' in argument for argument in arguments)
    assert not any(MARKS["plain"] in expand(argument, {"PLAIN": MARKS["plain"]}) for argument in arguments)
