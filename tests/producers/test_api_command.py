"""The task that has a server run a command which is no build: what it posts, follows, aborts, and how it ends."""

import uuid
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk import Connection
from api_pace import hurry
from api_server import StandInServer
from dbt_words import BEGINNING

from dbt_watch.airflow.execution import executing
from dbt_watch.exceptions import DbtRunFailed, InvocationLost
from dbt_watch.producers.api import client as http
from dbt_watch.producers.api.command_operator import DbtApiCommandOperator

LOG = f"{BEGINNING}\n"


@pytest.fixture
def server(monkeypatch):
    hurry(monkeypatch)
    with StandInServer() as server:
        connection = Connection(conn_id="dbt_api", conn_type="http", host=server.url)
        monkeypatch.setattr(http.BaseHook, "get_connection", classmethod(lambda *_: connection))
        yield server


def operator():
    command = {"words": ["run-operation", "grant"], "args": {"role": "reader"}, "target": "prod"}
    return DbtApiCommandOperator(task_id="grant", command=command, project_dir="shop")


def run(attempt=1):
    made = operator()
    ti = SimpleNamespace(
        id=uuid.uuid4(), dag_id="shop", task_id="grant", run_id="run", try_number=attempt, max_tries=2, map_index=-1,
        task=SimpleNamespace(retries=2),
    )  # fmt: skip
    with executing(made):
        return made.execute(
            {"ti": ti, "dag_run": SimpleNamespace(start_date=datetime(2026, 1, 1, tzinfo=timezone.utc))}
        )


def test_it_posts_the_command_and_returns_what_dbt_has_told(server):
    server.on_post = lambda invocation: invocation.update(state="SUCCESS", exit_code=0, log=LOG)
    assert run() == {
        "command": "run-operation grant",
        "status": "success",
        "seconds": None,
        "message": None,
        "nodes": {},
    }
    body = server.only["body"]
    assert body["project_dir"] == "shop"
    assert body["command"][-6:] == [
        "run-operation",
        "grant",
        "--args",
        '{"role": "reader"}',
        "--target",
        "prod",
    ]


def test_a_command_that_fails_fails_the_task(server):
    server.on_post = lambda invocation: invocation.update(
        state="FAILURE", exit_code=2, log=f"{LOG}no such macro\n"
    )
    with pytest.raises(DbtRunFailed, match="dbt ended with exit code 2: no such macro"):
        run()


def test_one_that_is_aborted_is_lost(server):
    server.on_post = lambda invocation: invocation.update(state="ABORTED", log=LOG)
    with pytest.raises(InvocationLost, match="the invocation was aborted"):
        run()


def test_a_later_attempt_follows_what_an_earlier_one_has_left_running(server):
    server.on_post = lambda invocation: invocation.update(state="FAILURE", exit_code=1, log=LOG)
    with pytest.raises(DbtRunFailed):
        run()
    server.only["state"] = "STARTED"
    told = server.told

    def ends_when_it_is_looked_at(invocation):
        found = dict(told(invocation))
        invocation.update(state="SUCCESS", exit_code=0)
        return found

    server.told = ends_when_it_is_looked_at
    assert run(attempt=2)["status"] == "success"
    assert len(server.invocations) == 1


def test_a_task_that_is_stopped_aborts_it(server):
    made = operator()
    made._connection = SimpleNamespace()
    made._invocation_id = "i"
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "abort_now", lambda _, task_id, within: asked.append(task_id))
        made.on_kill()
        made.on_kill()
    assert asked == ["i"]
