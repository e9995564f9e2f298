"""
The turn of a sensor that builds its own nodes: after those that dbt would build before them, and one at a time.

`DbtNodeSensor` defers to it when sensors were cleared together, but not their producer.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from dbt_watch.last_event import last_event
from dbt_watch.supervisor import key_of, read_states, read_states_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from airflow.sdk.types import RuntimeTaskInstanceProtocol

OVER: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
POLL_S: Final = 2.0
POLL_LIMIT_S: Final = 30.0


def waited_for(task_instance: RuntimeTaskInstanceProtocol, task_ids: Sequence[str]) -> list[str]:
    """
    Give those of some tasks that have not ended, on a worker.

    :param task_instance: of the same run and map index
    """
    return unfinished(read_states_now(key_of(task_instance), task_ids), task_ids)


def unfinished(states: Mapping[str, str | None], task_ids: Iterable[str]) -> list[str]:
    """Give those of some tasks that have not ended, in their order."""
    return [task_id for task_id in task_ids if states.get(task_id) not in OVER]


class TurnTrigger(BaseTrigger):
    """
    Waits until some tasks of the same run have ended, whichever way.

    It asks every 2 s, for all of them at once; less often while Airflow does not answer.

    :param earlier: their task ids
    """

    def __init__(self, *, earlier: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of LoggingMixin
        self.earlier = tuple(earlier)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to make this trigger again."""
        return ("dbt_watch.sensors.turn.TurnTrigger", {"earlier": list(self.earlier)})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; yield one event, `{"states": {task_id: state}}`."""
        deferred_at = time.monotonic()
        async for event in last_event(TriggerEvent({"states": await self._ends()}), deferred_at=deferred_at):
            yield event

    async def _ends(self) -> dict[str, str | None]:
        key = key_of(self.task_instance)
        pause = POLL_S
        while True:
            try:
                states = await read_states(key, self.earlier)
            except Exception as error:  # noqa: BLE001 - whatever fails on the way is tried again
                pause = min(POLL_LIMIT_S, pause * 2)
                self.log.warning("Asking for the states of tasks failed (%s); again in %.0f s", error, pause)
            else:
                pause = POLL_S
                if not unfinished(states, self.earlier):
                    return states
            await asyncio.sleep(pause)
