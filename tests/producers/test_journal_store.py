"""The journal of a task in XCom, where there is no task instance to ask: each call names the task, the key and the value."""

import asyncio

import pytest

from dbt_watch.airflow.task_instances import TaskKey
from dbt_watch.core.journal.writer import JournalWriter, Publication, Tail
from dbt_watch.core.results import NodeResult
from dbt_watch.producers import journal_store
from dbt_watch.producers.journal_publisher import AsyncJournalPublisher
from dbt_watch.producers.journal_store import JournalStore, stored_journal

KEY = TaskKey("dag", "run", "dbt_build", 3)


@pytest.fixture
def xcoms(monkeypatch):
    """Airflow's XComs, by task and key."""
    xcoms = {}

    async def write(key, name, value):
        xcoms[key, name] = value

    async def read(key, name):
        return xcoms.get((key, name))

    monkeypatch.setattr(journal_store, "write_xcom", write)
    monkeypatch.setattr(journal_store, "read_xcom", read)
    monkeypatch.setattr(journal_store, "read_xcom_now", lambda key, name: xcoms.get((key, name)))
    return xcoms


def test_what_a_triggerer_writes_is_read_back_there_and_on_a_worker(xcoms):
    writer = JournalWriter(attempt=2)
    writer.add([NodeResult(unique_id="model.shop.a", name="a", status="success")])
    store = JournalStore(KEY)
    asyncio.run(AsyncJournalPublisher(Publication(writer, will_retry=True), store.push).write())
    assert {key for key, _ in xcoms} == {KEY}

    written = asyncio.run(store.read_back())
    assert list(written.state.entries) == ["model.shop.a"]
    assert isinstance(written.tail, Tail)
    assert stored_journal(KEY).entries == written.state.entries


def test_of_another_task_nothing_is_read(xcoms):
    asyncio.run(JournalStore(KEY).push("journal_0000", "no page of a journal"))
    other = TaskKey("dag", "run", "dbt_build", 4)
    assert not stored_journal(other).entries
    assert asyncio.run(JournalStore(other).read_back()).tail is None
