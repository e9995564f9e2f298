"""When a trigger yields its one event, and how long it stays after it."""

import asyncio
from types import SimpleNamespace

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from virtual_time import run

from dbt_watch.airflow import trigger_events as module
from dbt_watch.airflow.trigger_events import SETTLED_AFTER_S, last_event
from dbt_watch.core.outcome import Decision, Verdict
from dbt_watch.producers import dbt_trigger
from dbt_watch.producers.pods import trigger as deferred
from dbt_watch.sensors import trigger as sensor_trigger
from dbt_watch.sensors.operator import DbtNodeSensor
from dbt_watch.sensors.trigger import NodeTrigger
from dbt_watch.sensors.updates import Update

NOW = 1_000.0


@pytest.fixture
def slept(monkeypatch):
    """What a trigger has slept, in seconds, on a clock that stands still otherwise."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    clock = SimpleNamespace(monotonic=lambda: NOW + sum(max(0.0, seconds) for seconds in slept))
    monkeypatch.setattr(
        module, "asyncio", SimpleNamespace(sleep=sleep, CancelledError=asyncio.CancelledError)
    )
    for user in (module, sensor_trigger, dbt_trigger):
        monkeypatch.setattr(user, "time", clock)
    return slept


async def first_of(events):
    return await anext(events)


@pytest.mark.parametrize("waited", [0.0, 3.0])
def test_a_task_goes_on_on_a_worker_only_when_the_scheduler_knows_that_the_last_one_has_left(slept, waited):
    event = TriggerEvent("go on")
    assert asyncio.run(first_of(last_event(event, deferred_at=NOW - waited))) is event
    assert slept == [SETTLED_AFTER_S - waited]


@pytest.mark.parametrize(
    ("event", "deferred_at"),
    [
        (TriggerEvent("go on"), None),
        (TriggerEvent("go on"), NOW - SETTLED_AFTER_S),
        (TaskSuccessEvent(), NOW),
        (TaskFailedEvent(), NOW),
        (TaskSkippedEvent(), NOW),
    ],
)
def test_what_ends_a_task_or_comes_late_or_from_the_scheduler_waits_for_nothing(slept, event, deferred_at):
    assert asyncio.run(first_of(last_event(event, deferred_at=deferred_at))) is event
    assert sum(max(0.0, seconds) for seconds in slept) == 0


def test_a_trigger_stays_after_its_event_until_it_is_cancelled_and_a_moment_more():
    async def stays():
        ended = asyncio.Event()

        async def trigger():
            async for _ in last_event(TaskSuccessEvent(), deferred_at=None):
                pass
            ended.set()

        task = asyncio.create_task(trigger())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        still_there = not ended.is_set()
        task.cancel()
        await task
        return still_there and ended.is_set()

    assert run(stays())


def triggers(monkeypatch):
    """Each trigger that takes its task to a worker, with everything decided as soon as it starts."""

    async def decided(self):
        return Update((), Decision(Verdict.BUILD))

    async def at_once(self):
        return {}

    monkeypatch.setattr(NodeTrigger, "_decided", decided)
    monkeypatch.setattr(deferred.DbtPodTrigger, "_event", at_once)
    monkeypatch.setattr(deferred.DbtPodTrigger, "__init__", lambda self: setattr(self, "secrets", []))
    names = {"producer_task_id": "shop.dbt_build", "unique_ids": ["model.shop.orders"]}
    return {
        "sensor": NodeTrigger(**names, from_worker=True),
        "producer": deferred.DbtPodTrigger(),
        "sensor without a worker": NodeTrigger(**names),
    }


@pytest.mark.parametrize(
    ("name", "wait"),
    [("sensor", SETTLED_AFTER_S), ("producer", SETTLED_AFTER_S), ("sensor without a worker", 0)],
)
def test_every_trigger_keeps_to_it(monkeypatch, slept, name, wait):
    assert isinstance(asyncio.run(first_of(triggers(monkeypatch)[name].run())), TriggerEvent)
    assert sum(slept) == wait


def test_a_sensor_that_a_worker_defers_says_so(monkeypatch):
    monkeypatch.setattr("dbt_watch.airflow.supervisor.runs_in_dag_test", lambda: False)
    sensor = DbtNodeSensor(
        task_id="orders", producer_task_id="shop.dbt_build", unique_ids=["model.shop.orders"]
    )
    given = []
    monkeypatch.setattr(sensor, "defer", lambda *, trigger, method_name: given.append((trigger, method_name)))
    sensor.execute({"ti": SimpleNamespace(try_number=1)})
    ((trigger, method_name),) = given
    assert method_name == "execute_complete"
    assert trigger.from_worker
    path, arguments = trigger.serialize()
    assert NodeTrigger(**arguments).serialize() == (path, arguments)
