"""
How a trigger yields its one event, without running into two races inside Airflow.

One fails a task that goes on while the scheduler has not yet noticed that its worker left; the other takes the last lines
from a task's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from airflow.triggers.base import BaseTaskEndEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.triggers.base import TriggerEvent

SETTLED_AFTER_S: Final = 15.0
"""How long a task stays deferred at least when it goes on on a worker, in seconds."""

_CANCELLED_WITHIN_S: Final = 10.0
_READ_WITHIN_S: Final = 1.0


async def last_event(event: TriggerEvent, *, deferred_at: float | None) -> AsyncIterator[TriggerEvent]:
    """
    Yield an event, not too early, and do not end too early.

    The scheduler hears from its executor that the worker which deferred the task has ended. When the task is scheduled,
    queued or running again by then, it takes it for killed and fails it (apache/airflow issues 66374, which is fixed in
    3.2.2, 67287 and 72716, which 3.3.2 still has). So an event with which a task goes on on a worker waits until that has
    most likely been heard; one that ends the task does not need to.

    The runner of the triggers sends log lines and the end of a trigger through two sockets. Of the first one the
    supervisor reads 4 KiB a round; lines that it reads after the end land in the triggerer's own log instead of the
    task's (measured on 3.3.2, `TriggerRunnerSupervisor.logger_cache`). So a trigger stays until Airflow cancels it, a
    few rounds after it has handled the event. The task itself is over with that.

    :param event: the only one of this trigger
    :param deferred_at: when a worker deferred the task, as `time.monotonic` tells it; None when no worker has had it
    """
    if deferred_at is not None and not isinstance(event, BaseTaskEndEvent):
        await asyncio.sleep(deferred_at + SETTLED_AFTER_S - time.monotonic())
    yield event
    for seconds in (_CANCELLED_WITHIN_S, _READ_WITHIN_S):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(seconds)
