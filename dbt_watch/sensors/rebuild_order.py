"""
The order in which sensors that were cleared build their nodes: one at a time, along the lineage.

Each of them needs a worker and a pod of its own. So the hub keeps them in the triggerer, where they cost nothing, and lets
one go when the one before it has ended. It asks Airflow for very few states, however many sensors wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dbt_watch.core.task_states import DEFERRED, OVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dbt_watch.sensors.updates import Sensor

T = TypeVar("T")

LOOKS: Final = 15
"""
At so many looks one that was let go may still be deferred; the hub looks every 2 s.

A trigger keeps its event for up to 15 s (`airflow.trigger_events`), and the scheduler may be late.
"""


class RebuildOrder(Generic[T]):
    """
    The sensors of one project that wait in one triggerer to build their nodes.

    Sensors in another triggerer are not known here, nor is one that starts on a worker. That dbt does not run in two pods
    at once is seen to by those who make the pods (`producers.pods.project_pods`); here it is only made rare.
    """

    def __init__(self) -> None:
        self._waiting: dict[T, Sensor] = {}
        self._building = ""
        self._has_left = False
        self._looks = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, place: T, sensor: Sensor) -> None:
        """Let a sensor wait for its turn."""
        self._waiting[place] = sensor
        if sensor.task_id == self._building:
            self._building = ""  # it has found that it has to wait once more

    def remove(self, place: T) -> None:
        """Forget a sensor that need not wait any more."""
        self._waiting.pop(place, None)

    def __contains__(self, place: T) -> bool:
        return place in self._waiting

    async def next(self, ask: Callable[[tuple[str, ...]], Awaitable[Mapping[str, str | None]]]) -> T | None:
        """
        Return the sensor whose turn it is, which does not wait any more; None while another one builds.

        :param ask: asks for the states of tasks
        :raises Exception: what `ask` raises
        """
        if not self._waiting:
            return None
        place, sensor = min(self._waiting.items(), key=lambda item: item[1].turn)
        if before := tuple(filter(None, (self._building, *sensor.after))):
            states = await ask(before)
            if self._is_building(states.get(self._building)) or any(
                states.get(task_id) not in OVER for task_id in sensor.after
            ):
                return None
        if place not in self._waiting:
            return None  # it has gone while Airflow was asked
        del self._waiting[place]
        self._building, self._has_left, self._looks = sensor.task_id, False, 0
        return place

    def _is_building(self, state: str | None) -> bool:
        """
        Return whether the one that was let go last builds.

        Where it has found that it has to wait once more, it may have come to another process, and wait there for one that waits
        here.

        :param state: its own; None also when it was cleared once more
        """
        if state is None or state in OVER:
            return False
        if state != DEFERRED:
            self._has_left = True
            return True
        self._looks += 1
        return not self._has_left and self._looks < LOOKS
