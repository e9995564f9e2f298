"""How a task that runs dbt waits for what runs dbt elsewhere, in a pod or on a server, and heeds its own signals meanwhile."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Final

from dbt_watch.airflow.supervisor import patiently, read_states_now
from dbt_watch.core.task_states import RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.airflow.task_instances import TaskKey

# In seconds.
SAID_EVERY: Final = 60.0
ENDS_WITHIN: Final = 60.0  # a task, after its dbt
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


def await_ends(producer: TaskKey, tasks: set[str], poll: float, on_tick: Callable[[], None]) -> None:
    """
    Wait a while until tasks whose dbt has ended have done so themselves: their states tell what is left to build.

    :param producer: a task of the same run
    :param tasks: their ids
    :param poll: seconds between two looks
    :param on_tick: see `pause`
    """
    deadline = time.monotonic() + ENDS_WITHIN
    while tasks and time.monotonic() < deadline:
        states = patiently(functools.partial(read_states_now, producer, sorted(tasks)))
        tasks = {task for task, state in states.items() if state == RUNNING}
        if tasks:
            pause(poll, on_tick)


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
