"""What is put right beside the workers: what they left, what has no ticket, what is old; and what a worker does that is cut off."""

import time

import pytest
import sqlalchemy as sa
from serving import command, wait_for

from dbt_watch.server.database import INVOCATIONS
from dbt_watch.server.files import files_of
from dbt_watch.server.invocations.store import InvocationStore
from dbt_watch.server.queue import TicketQueue
from dbt_watch.server.worker import runner
from dbt_watch.server.worker.hosts import WorkerIdentity
from dbt_watch.server.worker.processes import host_id, is_alive
from dbt_watch.server.worker.runner import Runner
from dbt_watch.server.worker.sweep import Sweep

DEAD = str(WorkerIdentity(host_id(), 2**22 - 1, 1.0))


@pytest.fixture
def queue(desk):
    return TicketQueue(desk.settings)


@pytest.fixture
def sweep(desk, queue):
    return Sweep(desk.settings, desk.store, desk.database, queue)


def test_what_ended_long_ago_is_removed_with_its_files_and_nothing_else_is(desk, sweep):
    for task_id in ("old", "new"):
        desk.run(task_id, say="hello")
    desk.post(command(), "waiting")
    long_ago = time.time() - desk.settings.keep_days * 86_400 - 60
    with desk.database.writing() as connection:
        of = INVOCATIONS.c.task_id
        connection.execute(INVOCATIONS.update().where(of == "old").values(ended_at=long_ago))
        connection.execute(INVOCATIONS.update().where(of == "waiting").values(created_at=long_ago))
    directories = {
        task_id: files_of(desk.settings.state_dir, task_id).directory for task_id in ("old", "new")
    }
    sweep()
    assert [desk.store.get(task_id) is not None for task_id in ("old", "new", "waiting")] == [
        False,
        True,
        True,
    ]
    assert [directories[task_id].exists() for task_id in ("old", "new")] == [False, True]


def test_work_that_has_no_ticket_gets_one(desk, sweep, queue):
    sweep()
    assert queue.size() == 0
    desk.post(command(), "one")
    queue.huey.storage.flush_queue()
    sweep()
    assert queue.size() == 1
    sweep()
    assert queue.size() == 1


def test_what_a_dead_worker_had_not_begun_waits_again_but_not_for_ever(desk, sweep):
    desk.post(command(), "one")
    states = []
    for _ in range(3):
        assert desk.store.claim(DEAD) is not None
        sweep()
        states.append(desk.store.get("one").state.value)
    assert states == ["PENDING", "PENDING", "INTERNAL_ERROR"]
    assert desk.store.get("one").exc_type == "WorkerLost"


def test_a_client_hears_of_an_invocation_that_is_lost(desk_with, monkeypatch):
    desk, heard = desk_with(callbacks={"hosts": ["airflow.example"]}), []
    monkeypatch.setattr("dbt_watch.server.worker.sweep.call_back", lambda *call: heard.append(call))
    desk.post(command(), "one", callback_url="https://airflow.example/done")
    desk.store.claim(DEAD)
    desk.store.begin("one", DEAD)
    Sweep(desk.settings, desk.store, desk.database, TicketQueue(desk.settings))()
    wait_for(lambda: heard)
    assert heard == [("https://airflow.example/done", "one", "INTERNAL_ERROR")]


def test_a_server_is_ready_when_a_host_has_workers(desk, sweep):
    assert desk.client.get("/readyz").status_code == 503
    sweep()
    assert desk.client.get("/readyz").json() == {"status": "ok", "workers": desk.settings.workers}


class CutOffStore(InvocationStore):
    """A database that is gone as soon as dbt runs."""

    def heartbeat(self, task_id, owner):
        raise sa.exc.OperationalError("", {}, Exception())


def test_a_worker_that_cannot_say_that_it_lives_ends_its_dbt(desk, monkeypatch):
    """Before another host may take the invocation for lost, and start the next dbt of the same target."""
    for name, seconds in (("_LOOK", 0.05), ("_BEAT", 0.1), ("FENCE_S", 0.5)):
        monkeypatch.setattr(runner, name, seconds)
    desk.post(command(sleep=60), "one")
    began = time.monotonic()
    Runner(desk.settings, CutOffStore(desk.database), lambda: False).work()
    assert time.monotonic() - began < 50
    found = desk.store.get("one")
    assert found.state.value == "STARTED"
    assert not is_alive(found.pid, found.pid_started)
