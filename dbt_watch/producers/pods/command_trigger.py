"""
The trigger of a deferred command of dbt that is no build: the operator's own, inside of one that goes on when Airflow is ready for it.

By itself, the operator's own goes on as soon as the pod has ended. After a short command that may be before the scheduler has
noticed that the worker left, and the scheduler then fails the task (`airflow.trigger_events`).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from dbt_watch.airflow.pod_trigger import StockPodTrigger
from dbt_watch.airflow.trigger_events import last_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRIGGER_CLASS: Final = "dbt_watch.producers.pods.command_trigger.DbtCommandTrigger"


class DbtCommandTrigger(BaseTrigger):
    """
    Waits for the end of a pod.

    :param inner: the trigger that the operator would have used, serialized
    """

    def __init__(self, *, inner: tuple[str, dict[str, Any]] | list[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of LoggingMixin
        self.inner_path: str = inner[0]
        self.inner_arguments: dict[str, Any] = inner[1]
        self._stock = StockPodTrigger(self.inner_path, self.inner_arguments)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer needs to make this trigger again."""
        return (TRIGGER_CLASS, {"inner": [self.inner_path, self.inner_arguments]})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event of the operator's own trigger, not too early."""
        deferred_at = time.monotonic()
        # It watches the pod to its end: nothing else does.
        event = await self._stock.event(self.task_instance, asyncio.Event())
        await self._stock.close()
        async for last in last_event(TriggerEvent(event), deferred_at=deferred_at):
            yield last

    async def on_kill(self) -> None:
        """Do as the operator's own trigger when a person has stopped the task (Airflow 3.3)."""
        await self._stock.on_kill()

    async def cleanup(self) -> None:
        """Do as the operator's own trigger when it ends."""
        await self._stock.cleanup()
