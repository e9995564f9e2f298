"""Where a secret can be read after a build that has failed with it, and where it cannot."""

from __future__ import annotations

import base64
import json
import sqlite3

import pytest
from kubernetes import client, config

from dbt_watch.local.localkube.environment import expand

# A DAG with each runs in a real Airflow, on a machine that may be slow.
pytestmark = pytest.mark.timeout(1800)

MARKS = {name: f"m4rk-{name}-7f3a9c" for name in ("secret", "vars", "env", "plain", "profile")}


@pytest.fixture(scope="module")
def outcomes(kube, run_dags):
    api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
    secret = {"metadata": {"name": "warehouse"}, "stringData": {"password": MARKS["secret"]}}
    api.create_namespaced_secret("dbt", secret)
    api.api_client.close()
    kubeconfigs = dict.fromkeys(("in_secret", "not_started", "in_vars", "in_profile"), kube.kubeconfig)
    variables = {"AIRFLOW_VAR_FIRST": MARKS["vars"], "AIRFLOW_VAR_SECOND": MARKS["env"]}
    warehouse = {"conn_type": "duckdb", "password": MARKS["profile"]}
    variables["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(warehouse)
    return run_dags("secret", kubeconfigs, MARK_PLAIN=MARKS["plain"], **variables)


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
    assert 'Cannot open file "*****"' in outcomes["in_profile"].log
    assert "not found" in outcomes["not_started"].log
    assert "dbt ended with exit code" in outcomes["in_vars"].log


def test_the_journal_and_the_rendered_fields_are_among_what_is_looked_through(stored):
    assert "journal_0000" in stored["xcom"]
    assert "raw_customers" in stored["xcom"]
    assert "shop.dbt_build" in stored["rendered_task_instance_fields"]


@pytest.mark.parametrize("mark", ["secret", "profile"])
def test_a_kubernetes_secret_is_nowhere_in_airflow_even_where_it_is_made_of_a_connection(
    outcomes, stored, mark
):
    for text in (MARKS[mark], base64.b64encode(MARKS[mark].encode()).decode()):
        assert not tables_with(stored, text)
        assert not [dag_id for dag_id, outcome in outcomes.items() if text in outcome.log]


def test_a_kubernetes_secret_is_not_in_the_pod_that_airflow_asks_for(outcomes, recorder):
    pods = json.dumps(recorder.pods)
    assert "DBT_ENV_SECRET_PASSWORD" in pods
    assert "DBT_ENV_SECRET_PROFILE_PATH" in pods
    assert not [mark for mark in ("secret", "profile") if MARKS[mark] in pods]


@pytest.mark.parametrize("mark", ["vars", "env"])
def test_what_stands_under_the_name_of_a_secret_is_nowhere_in_airflow(outcomes, stored, mark):
    assert not tables_with(stored, MARKS[mark])
    assert not [dag_id for dag_id, outcome in outcomes.items() if MARKS[mark] in outcome.log]


def test_the_error_that_names_them_is_told_without_them(outcomes, stored):
    assert "/nowhere/***/***/warehouse.duckdb" in outcomes["in_vars"].log
    assert "/nowhere/***/***/warehouse.duckdb" in stored["xcom"]


def test_no_log_and_no_journal_tells_other_variables(outcomes, stored):
    assert not [dag_id for dag_id, outcome in outcomes.items() if MARKS["plain"] in outcome.log]
    assert "xcom" not in tables_with(stored, MARKS["plain"])


def test_variables_are_in_no_argument_of_a_pod(recorder):
    arguments = [
        argument
        for pod in recorder.pods
        for container in pod["spec"]["containers"]
        for argument in (*container.get("command", []), *container.get("args", []))
    ]
    assert "$(DBT_WATCH_VARS)" in arguments
    assert not [argument for argument in arguments for mark in MARKS.values() if mark in argument]


def test_other_variables_are_where_the_documentation_says(stored):
    """The DAG, the rendered fields of a task and the spec of a pod: docs/security.md."""
    assert tables_with(stored, MARKS["plain"]) == {"rendered_task_instance_fields", "serialized_dag"}


def test_no_value_makes_kubernetes_put_a_variable_into_those_of_dbt(recorder):
    variables = {"PLAIN": MARKS["plain"]}
    given = [
        json.loads(expand(item["value"], variables))
        for pod in recorder.pods
        for item in pod["spec"]["containers"][0].get("env", [])
        if item["name"] == "DBT_WATCH_VARS"
    ]
    # Other builds may have been recorded too.
    assert {values["reference"] for values in given if "reference" in values} == {"$(PLAIN)"}
