"""How a task that runs dbt waits for others, for what runs dbt elsewhere or for its sensors, and heeds its own signals meanwhile."""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Final, TypeVar

from dbt_watch.airflow.supervisor import patiently, read_states_now
from dbt_watch.core.backoff import Backoff
from dbt_watch.core.task_states import OVER, RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.airflow.task_instances import TaskKey

T = TypeVar("T")

log = logging.getLogger(__name__)

# In seconds.
SAID_EVERY: Final = 60.0
ENDS_WITHIN: Final = 60.0  # a task, after its dbt
ENDS_AFTER_ANOTHER: Final = 20.0  # a sensor, while its producer waits for several
_LOOK_FIRST: Final = 0.2
_LOOK_LIMIT: Final = 1.0
_TICK: Final = 0.1


def pause(seconds: float, on_tick: Callable[[], None]) -> None:
    """
    Wait.

    :param on_tick: called every 0.1 s; may raise to stop the waiting
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        on_tick()
        time.sleep(_TICK)


def await_ends(
    producer: TaskKey,
    tasks: set[str],
    poll: float,
    on_tick: Callable[[], None],
    *,
    within: float = ENDS_WITHIN,
) -> None:
    """
    Wait a while until tasks whose dbt has ended have done so themselves: their states tell what is left to build.

    :param producer: a task of the same run
    :param tasks: their ids
    :param poll: seconds between two looks
    :param on_tick: see `pause`
    :param within: how long, in seconds
    """
    deadline = time.monotonic() + within
    while tasks and time.monotonic() < deadline:
        states = patiently(functools.partial(read_states_now, producer, sorted(tasks)))
        tasks = {task for task, state in states.items() if state == RUNNING}
        if tasks:
            pause(poll, on_tick)


def await_sensors(
    producer: TaskKey, tasks_now: Callable[[], frozenset[str]], on_tick: Callable[[], None]
) -> None:
    """
    Wait until the sensors of nodes that are built have ended, before another attempt takes their journal away.

    Given up when none of them ends for 20 s, or when Airflow does not answer: the next attempt builds their nodes once more.

    :param producer: a task of the same run
    :param tasks_now: returns their ids; may ask Airflow, and raise anything
    :param on_tick: see `pause`
    """
    left: frozenset[str] = _answer(tasks_now, frozenset())
    looks = Backoff(_LOOK_FIRST, _LOOK_LIMIT)
    changed = time.monotonic()
    while left and time.monotonic() < changed + ENDS_AFTER_ANOTHER:
        states = _answer(functools.partial(read_states_now, producer, sorted(left)), None)
        if states is None:
            return
        waiting = frozenset(task for task in left if states.get(task) not in OVER)
        if waiting != left:
            left, changed = waiting, time.monotonic()
            looks.reset()
        if left:
            pause(looks.next(), on_tick)
    if left:
        log.warning(
            "%d sensors of nodes that are already built have not ended yet: the next attempt builds these nodes again",
            len(left),
        )


def _answer(ask: Callable[[], T], otherwise: T) -> T:
    """Return the answer to a question about sensors, or something else where there is none for a while."""
    try:
        return patiently(ask, patience=ENDS_AFTER_ANOTHER)
    except Exception as error:  # noqa: BLE001 - nothing is lost but time
        log.warning("Cannot tell whether the sensors have ended: %s", error)
        return otherwise


class Reminders:
    """Tells what is to be said now of what is said once a minute as long as it lasts."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def is_due(self, name: str) -> bool:
        """Return whether it is to be said of something; then it is said."""
        now = time.monotonic()
        is_due = now - self._said.get(name, -SAID_EVERY) >= SAID_EVERY
        if is_due:
            self._said[name] = now
        return is_due
