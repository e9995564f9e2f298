"""Whose turn it is, and what becomes of work whose worker is gone; in SQLite and in Postgres."""

import threading
import time

import pytest
from local_postgres import local_postgres

from dbt_watch.server.database import METADATA, Database
from dbt_watch.server.invocations.records import InvocationEnd, InvocationState, NewInvocation
from dbt_watch.server.invocations.store import InvocationStore, TaskIdTaken
from dbt_watch.server.tokens import TokenStore
from dbt_watch.server.worker.hosts import LEASE_S, WorkerHosts, WorkerIdentity, is_abandoned

DONE = InvocationEnd(state=InvocationState.SUCCESS, exit_code=0)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request, tmp_path):
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'server.db'}")
    else:
        host = request.getfixturevalue("server_postgres")
        made = Database(f"postgresql+psycopg2://postgres@/server?host={host}")
    made.make_tables()
    yield made
    with made.writing() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(table.delete())
    made.dispose()


@pytest.fixture(scope="module")
def server_postgres():
    with local_postgres("server") as host:
        yield host


@pytest.fixture
def store(database):
    return InvocationStore(database)


def new(task_id, project="shop", target="dev", fingerprint="same"):
    return NewInvocation(
        task_id=task_id, fingerprint=fingerprint, project=project, target=target, sub_command="build", command=("build",),
        log_level="debug", callback_url=None, principal="tests",
    )  # fmt: skip


def claimed(store, owner="h|1|1.0"):
    found = store.claim(owner)
    return found and found.task_id


def test_projects_take_turns_and_targets_run_one_at_a_time(store):
    for number in range(3):
        store.add(new(f"shop{number}"))
    store.add(new("prod", target="prod"))
    store.add(new("bank0", "bank"))
    store.add(new("bank1", "bank"))
    assert [claimed(store) for _ in range(4)] == ["shop0", "bank0", "prod", None]
    store.finish("shop0", "h|1|1.0", DONE)
    store.finish("bank0", "h|1|1.0", DONE)
    # Of the shop one runs, of the bank none.
    assert [claimed(store) for _ in range(3)] == ["bank1", "shop1", None]


def test_of_many_who_claim_each_gets_another(store):
    for number in range(20):
        store.add(new(f"t{number}", target=f"target{number}"))
    found = []

    def claim():
        while (task_id := claimed(store)) is not None:
            found.append(task_id)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"t{number}" for number in range(20))


def test_of_many_who_add_the_same_one_is_first(store):
    answers = []

    def add(fingerprint):
        try:
            answers.append(store.add(new("one", fingerprint=fingerprint))[1])
        except TaskIdTaken:
            answers.append("taken")

    threads = [threading.Thread(target=add, args=(name,)) for name in ("a", "a", "b", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, answers)) == ["False", "True", "taken", "taken"]


def test_only_the_owner_says_how_an_invocation_ended(store):
    store.add(new("one"))
    store.claim("h|1|1.0")
    assert not store.finish("one", "h|2|1.0", DONE)
    assert store.heartbeat("one", "h|1|1.0")
    assert store.finish("one", "h|1|1.0", DONE)
    assert not store.finish("one", "h|1|1.0", DONE)
    assert not store.heartbeat("one", "h|1|1.0")


def test_what_was_not_begun_waits_again_and_what_was_begun_does_not(store):
    store.add(new("one"))
    store.claim("h|1|1.0")
    assert store.requeue("one", "h|1|1.0")
    assert store.get("one").state is InvocationState.PENDING
    store.claim("h|1|1.0")
    assert store.begin("one", "h|1|1.0")
    assert not store.requeue("one", "h|1|1.0")


def test_what_was_to_be_aborted_does_not_wait_again(store):
    store.add(new("one"))
    store.claim("h|1|1.0")
    store.abort("one")
    assert store.requeue("one", "h|1|1.0")
    assert store.get("one").state is InvocationState.ABORTED


def test_a_worker_of_another_host_is_dead_when_its_lease_has_run_out(store):
    store.add(new("one"))
    here, there = WorkerIdentity.of_this_process(), WorkerIdentity("there|x", 1, 1.0)
    store.claim(str(there))
    (started,) = store.started()
    now = time.time()
    assert not is_abandoned(started, here.host, now)
    assert is_abandoned(started, here.host, now + LEASE_S + 1)
    # One of this host is known at once, by its number and the time at which it began.
    store.requeue("one", str(there))
    store.claim(str(here))
    assert not is_abandoned(store.started()[0], here.host, now + LEASE_S + 1)
    store.requeue("one", str(here))
    store.claim(str(WorkerIdentity(here.host, here.pid, here.started - 100)))
    assert is_abandoned(store.started()[0], here.host, now)


def test_tokens_and_hosts_are_kept(database):
    tokens, hosts = TokenStore(database), WorkerHosts(database)
    token = tokens.make("one", projects=["shop"], days=1)
    assert tokens.find(token).projects == ("shop",)
    hosts.beat("a", 2)
    hosts.beat("b", 3)
    hosts.beat("a", 4)
    assert hosts.workers() == 7


def test_the_command_of_an_ended_invocation_is_kept_without_its_secrets(store, tmp_path):
    secret = NewInvocation(**{**new("one").__dict__, "command": ("run", "--vars", '{"password": "sesame"}')})
    store.add(secret)
    assert "sesame" in store.claim("h|1|1.0").command[2]
    store.finish("one", "h|1|1.0", DONE)
    assert "sesame" not in store.get("one").command[2]
