"""The journal of a task in XCom, where there is no task instance to ask: each call names the task, the key and the value."""

import asyncio
from types import SimpleNamespace

import pytest

from dbt_watch.airflow.task_instances import TaskKey
from dbt_watch.core.journal.writer import JournalWriter, Publication, Tail
from dbt_watch.core.results import NodeResult
from dbt_watch.producers import journal_store
from dbt_watch.producers.journal_publisher import AsyncJournalPublisher
from dbt_watch.producers.journal_store import SURE_FOR_S, JournalLost, JournalStore, stored_journal

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

    async def write():
        assert (await store.read_back()).tail is None
        await AsyncJournalPublisher(Publication(writer, will_retry=True), store.push).write()

    asyncio.run(write())
    assert {key for key, _ in xcoms} == {KEY}

    written = asyncio.run(store.read_back())
    assert list(written.state.entries) == ["model.shop.a"]
    assert isinstance(written.tail, Tail)
    assert stored_journal(KEY).entries == written.state.entries


def test_of_another_task_nothing_is_read(xcoms):
    xcoms[KEY, "journal_0000"] = "no page of a journal"
    other = TaskKey("dag", "run", "dbt_build", 4)
    assert not stored_journal(other).entries
    assert asyncio.run(JournalStore(other).read_back()).tail is None


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(journal_store, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_triggerer_that_stood_still_while_another_took_over_writes_no_more(xcoms, clock):
    async def scene():
        first, second = JournalStore(KEY), JournalStore(KEY)
        await first.read_back()
        await first.push("journal_page_00", "first")
        clock.now += 60
        await first.push("journal_page_01", "still the only one")
        await second.read_back()
        await second.push("journal_page_02", "second")
        clock.now += SURE_FOR_S + 1
        with pytest.raises(JournalLost, match="another triggerer"):
            await first.push("journal_page_02", "first")
        await second.push("journal_page_03", "second")

    asyncio.run(scene())
    assert [xcoms[KEY, f"journal_page_0{number}"] for number in range(4)] == [
        "first", "still the only one", "second", "second"
    ]  # fmt: skip


def test_whether_another_has_taken_over_is_asked_once_in_a_while(xcoms, clock, monkeypatch):
    asked = []

    async def read(key, name):
        asked.append(name)
        return xcoms.get((key, name))

    async def scene():
        store = JournalStore(KEY)
        await store.read_back()
        monkeypatch.setattr(journal_store, "read_xcom", read)
        for number in range(20):
            clock.now += 0.5
            await store.push("journal_page_00", number)

    asyncio.run(scene())
    assert asked == ["journal_writer"]
