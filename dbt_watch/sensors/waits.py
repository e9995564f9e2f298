"""
When a sensor says again what it waits for, and in what words: which nodes dbt runs now, those before its own if any of these do.

`sensors.hub` asks with each look. All of it is in the journal that the hub has read, and in the tasks of the sensors that wait
there; Airflow is asked for nothing.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dbt_watch.core.log.progress import running

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from dbt_watch.core.results import NodeResult
    from dbt_watch.sensors.updates import Sensor

AT_ONCE: Final = 100
"""How many sensors say so with one look, so that many of them do not keep the others waiting."""
MAX_VISITS: Final = 500
"""How many tasks before a sensor's are looked at."""

T = TypeVar("T", bound="Hashable")


class Waits(Generic[T]):
    """
    The sensors that wait, each with the time at which it says so: the first time soon, then after twice as long each time.

    :param first: in seconds, after dbt has begun, or the sensor has come
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._pauses: dict[T, float] = {}
        self._new: list[T] = []
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = itertools.count()

    def add(self, place: T) -> None:
        """Take a sensor on."""
        self._pauses[place] = self._first
        self._new.append(place)

    def remove(self, place: T) -> None:
        """Let a sensor go."""
        self._pauses.pop(place, None)

    def restart(self) -> None:
        """Begin anew with all of them: dbt has not begun."""
        if self._heap:
            self._pauses = dict.fromkeys(self._pauses, self._first)
            self._new, self._heap = list(self._pauses), []

    def due(self, now: float) -> Iterator[T]:
        """
        Yield the sensors that are to say now what they wait for, not too many.

        :param now: in seconds, while dbt runs
        """
        for place in self._new:
            self._push(now, place)
        self._new.clear()
        for _ in range(AT_ONCE):
            if not self._heap or self._heap[0][0] > now:
                return
            _, _, place = heapq.heappop(self._heap)
            if place in self._pauses:
                self._pauses[place] *= 2
                self._push(now, place)
                yield place

    def _push(self, now: float, place: T) -> None:
        if place in self._pauses:
            heapq.heappush(self._heap, (now + self._pauses[place], next(self._numbers), place))


def words_for(
    sensor: Sensor, entries: Mapping[str, NodeResult], sensor_of: Callable[[str], Sensor | None]
) -> str:
    """
    Return what a sensor waits for.

    :param sensor: it waits for nodes that dbt has not begun
    :param entries: what the journal says of each node
    :param sensor_of: finds a sensor that waits, too, by its task
    """
    names = running(entry for unique_id in _before(sensor, sensor_of) if (entry := entries.get(unique_id)))
    count = sum(entry.is_final for entry in entries.values())
    done = "1 node is done" if count == 1 else f"{count} nodes are done"
    if names:
        return f"dbt is running {names}, upstream of this node ({done})"
    names = running(entries.values())
    if names:
        return f"dbt is running {names} ({done})"
    return (
        f"dbt is running no node at the moment ({done})"
        if count
        else "dbt has started, but is running no node yet"
    )


def _before(sensor: Sensor, sensor_of: Callable[[str], Sensor | None]) -> Iterable[str]:
    """Yield the nodes before a sensor's, as far as their sensors wait, too."""
    queue = list(sensor.upstream)
    seen = set(queue)
    for task_id in queue:  # grows while it is read
        found = sensor_of(task_id)
        if found is None:
            continue
        yield from found.unique_ids
        if len(seen) < MAX_VISITS:
            new = [task for task in found.upstream if task not in seen]
            seen.update(new)
            queue += new
