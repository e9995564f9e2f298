"""The trigger of a deferred command, with the operator's own inside, on a clock that goes on by itself."""

import asyncio
import importlib
from types import SimpleNamespace

import pytest
from airflow.providers.cncf.kubernetes.triggers.pod import ContainerState, KubernetesPodTrigger
from virtual_time import run

from dbt_watch.airflow.trigger_events import SETTLED_AFTER_S
from dbt_watch.producers.pods import command_trigger as module
from dbt_watch.producers.pods.command_trigger import DbtCommandTrigger

CALLS = []


class Stock(KubernetesPodTrigger):
    """One whose pod ends after the time that its name says."""

    async def _wait_for_pod_start(self):
        await asyncio.sleep(float(self.pod_name))
        return ContainerState.TERMINATED

    async def on_kill(self):
        CALLS.append("on_kill")

    async def cleanup(self):
        CALLS.append(("cleanup", self.task_instance.task_id))


def inner(seconds):
    arguments = {
        "pod_name": str(seconds),
        "pod_namespace": "default",
        "trigger_start_time": None,
        "base_container_name": "base",
    }
    return f"{__name__}.Stock", arguments


@pytest.fixture(autouse=True)
def _no_portal(monkeypatch):
    monkeypatch.setenv("AIRFLOW_DISABLE_GREENBACK_PORTAL", "true")
    CALLS.clear()


def trigger_of(seconds):
    trigger = DbtCommandTrigger(inner=inner(seconds))
    trigger.task_instance = SimpleNamespace(task_id="docs")
    return trigger


@pytest.mark.parametrize(("ends_after", "goes_on_after"), [(1, SETTLED_AFTER_S), (100, 100)])
def test_a_task_goes_on_when_its_pod_has_ended_but_not_before_the_scheduler_knows_that_its_worker_has(
    monkeypatch, ends_after, goes_on_after
):
    async def scene():
        loop = asyncio.get_running_loop()
        clock = SimpleNamespace(monotonic=loop.time)
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr("dbt_watch.airflow.trigger_events.time", clock)
        event = await anext(trigger_of(ends_after).run())
        return event.payload, loop.time()

    payload, seconds = run(scene(), limit=300)
    assert (payload["status"], payload["name"]) == ("success", str(ends_after))
    assert seconds == pytest.approx(goes_on_after)


def test_another_triggerer_makes_the_same_again():
    path, arguments = trigger_of(3).serialize()
    module_name, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module_name), name)(**arguments)
    assert isinstance(again, DbtCommandTrigger)
    assert again.serialize() == (path, arguments)


def test_what_the_operators_own_does_when_it_is_stopped_or_ends_is_done():
    async def scene():
        trigger = trigger_of(3)
        running = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(1)
        await trigger.on_kill()
        running.cancel()
        await asyncio.wait({running})
        await trigger.cleanup()

    run(scene())
    assert CALLS == ["on_kill", ("cleanup", "docs")]
