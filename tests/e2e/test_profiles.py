"""The example that signs in to a real Postgres as an Airflow connection says."""

import base64
import contextlib

import psycopg2
import pytest
from example_runs import SHOP_LOGIN, SHOP_PASSWORD, WAREHOUSE
from harness import until
from kubernetes import client, config
from psycopg2 import sql

PRODUCER = "build.dbt_build"
MADE_OF = "The profile was made from connection warehouse"
TEXTS = (SHOP_PASSWORD, base64.b64encode(SHOP_PASSWORD.encode()).decode())


@pytest.fixture(scope="session")
def run(run_of_example):
    return run_of_example("profile")


@pytest.fixture
def ask(postgres):
    """Return a function that asks one of the databases as their superuser."""

    def ask(database, query):
        with contextlib.closing(
            psycopg2.connect(host=postgres, user="postgres", dbname=database)
        ) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return cursor.fetchall()

    return ask


def test_a_project_builds_with_the_login_of_a_connection(run, ask):
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    owners = ask(WAREHOUSE, "select tablename, tableowner from pg_tables where schemaname = 'shop'")
    assert dict(owners)["customers"] == SHOP_LOGIN
    assert set(dict(owners).values()) == {SHOP_LOGIN}


def test_the_postgres_asks_for_the_password(run, postgres):
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host=postgres, user=SHOP_LOGIN, password="another", dbname=WAREHOUSE)  # noqa: S106 - as said


def test_another_command_of_the_project_has_the_login_too(run):
    assert run.xcom("show")["status"] == "success"
    run.wait_for_log("show", MADE_OF)


def test_the_secrets_have_gone_with_the_pods(run, example_cluster):
    names = {run.xcom(task_id, "pod_name") for task_id in (PRODUCER, "show")}
    until(
        lambda: all(pod.deleted_at for pod in example_cluster.pods() if pod.name in names),
        "the pods are gone",
    )
    api = client.CoreV1Api(config.new_client_from_config(str(example_cluster.kubeconfig)))

    def left():
        found = {item.metadata.name for item in api.list_namespaced_secret("default").items}
        return {name for name in found if name.startswith("dbt-profile-")}

    until(lambda: not left(), lambda: f"these are left: {left()}")


def test_the_password_is_in_no_log(run):
    for task_id in run.states:
        log = run.log(task_id)
        assert not [text for text in TEXTS if text in log], task_id
    run.wait_for_log(PRODUCER, MADE_OF)


def test_the_password_is_nowhere_in_the_database_of_airflow(run, ask):
    """The connection itself lies there encrypted, and so do the arguments of triggers."""
    tables = [
        name for (name,) in ask("airflow", "select tablename from pg_tables where schemaname = 'public'")
    ]
    assert {"connection", "xcom", "rendered_task_instance_fields", "serialized_dag"} <= set(tables)
    for table in tables:
        for text in TEXTS:
            query = sql.SQL("select count(*) from {} as entry where entry::text like {}").format(
                sql.Identifier(table), sql.Literal(f"%{text}%")
            )
            assert ask("airflow", query) == [(0,)], table
