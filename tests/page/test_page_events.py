"""The events of a run, and what they cost when many look."""

import asyncio
import time
from types import SimpleNamespace

import msgspec
import pytest
import virtual_time
from made_airflow import DAG, GROUP, RUN, model

from dbt_watch.page import events as page_events
from dbt_watch.page import readers
from dbt_watch.page.projects import ProjectKey
from dbt_watch.page.readers import ReaderRegistry

KEY = ProjectKey(DAG, RUN, GROUP, -1)


@pytest.fixture
def run(monkeypatch):
    """Return what does with a scene as `asyncio.run` does, on a clock that goes on by itself as soon as everybody waits."""

    async def here(function, *arguments):
        return function(*arguments)

    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time(), time_ns=time.time_ns)
    monkeypatch.setattr(page_events, "time", clock)
    monkeypatch.setattr(readers, "time", clock)
    monkeypatch.setattr(asyncio, "to_thread", here)
    return virtual_time.run


def parsed(chunk):
    """Return the name, the id and the data of an event; None for anything else of a stream."""
    fields = dict(line.split(": ", 1) for line in chunk.decode().strip().splitlines() if ": " in line)
    return (
        (fields["event"], int(fields["id"]), msgspec.json.decode(fields["data"]))
        if "event" in fields
        else None
    )


async def followed(reader, since, *steps):
    """Return the events of a stream; each step is done when something has come."""
    found, waiting = [], list(steps)
    async for chunk in page_events.events(reader, since):
        event = parsed(chunk)
        if event is not None:
            found.append(event)
        if waiting:
            waiting.pop(0)()
    return found


def test_changes_come_as_events_until_the_run_is_over(run, airflow, shop):
    shop.begin()

    def finish():
        shop.end(0)
        for name in ("raw", "orders", "customers", "other"):
            airflow.set_task(f"build.{name}", "success")

    async def watch():
        reader = await ReaderRegistry(airflow).of(KEY)
        steps = (
            lambda: shop.tell(("raw", "started")),
            lambda: shop.tell(*[(name, "success", 0, 1) for name in ("raw", "orders", "customers", "other")]),
            finish,
        )
        return await followed(reader, reader.version, *steps)

    found = run(watch())
    assert [name for name, *_ in found][-1] == "over"
    ids = [number for name, number, _ in found if name == "change"]
    assert ids == sorted(set(ids))
    told = {node["unique_id"] for name, _, data in found if name == "change" for node in data["nodes"]}
    assert told == {model(name) for name in ("raw", "orders", "customers", "other")}


def test_a_stream_without_changes_gives_signs_of_life_and_ends(run, airflow, shop):
    shop.begin()

    async def watch():
        reader = await ReaderRegistry(airflow).of(KEY)
        return [chunk async for chunk in page_events.events(reader, reader.version)]

    chunks = run(watch())
    assert chunks[0].startswith(b"retry:")
    assert b": no news\n\n" in chunks


def test_a_hundred_viewers_cost_the_database_what_one_does(run, airflow, shop):
    shop.begin()

    async def asked_by(viewers):
        registry = ReaderRegistry(airflow)
        reader = await registry.of(KEY)
        before = airflow.asked
        await asyncio.gather(*[followed(reader, reader.version) for _ in range(viewers)])
        assert len(registry) == 1
        return airflow.asked - before

    alone = run(asked_by(1))
    together = run(asked_by(100))
    assert together <= 1.5 * alone


def test_an_answer_is_made_once_for_all_who_have_the_same(airflow, shop):
    shop.begin()

    async def watch():
        reader = await ReaderRegistry(airflow).of(KEY)
        since = reader.version
        shop.tell(("raw", "started"))
        reader._fresh_until = 0.0
        await reader.refresh()
        assert reader.changes(since) is reader.changes(since)
        assert await reader.record() is await reader.record()

    asyncio.run(watch())


def test_a_reader_that_nobody_asks_is_dropped(monkeypatch, airflow, shop):
    shop.begin()
    monkeypatch.setattr(readers, "MAX_READERS", 2)

    async def watch():
        registry = ReaderRegistry(airflow)
        first = await registry.of(KEY)
        for index in range(5):
            await registry.of(KEY._replace(map_index=index))
        assert len(registry) == 2
        again = await registry.of(KEY)
        assert again is not first
        again.used_at -= readers.FORGOTTEN_AFTER + 1
        await registry.of(KEY._replace(group="another"))
        assert len(registry) <= 2

    asyncio.run(watch())


def test_the_route_sends_them_as_a_stream(monkeypatch, page, shop):
    monkeypatch.setattr(page_events, "STREAM_FOR", 0.0)
    shop.begin()
    answer = page.get("/api/events", params={"dag_id": DAG, "run_id": RUN, "since": 1})
    assert answer.headers["content-type"].startswith("text/event-stream")
    (event,) = [found for chunk in answer.text.split("\n\n") if (found := parsed(chunk.encode()))]
    assert event[0] == "change"
    assert event[2]["reset"] is True
