"""
The states of several producers of one run, asked for together.

Where a project is split over many pods, each of the tasks that run dbt has a hub, and all of these ask for a state every few
seconds. So that this costs no request for each, those that ask at about the same time share one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dbt_watch.airflow.task_instances import TaskKey

    Ask = Callable[[tuple[str, ...]], Awaitable[Mapping[str, str | None]]]

WINDOW: Final = 0.5
"""In seconds: how long the first one waits for others to ask, too."""


class RunStates:
    """The hubs of one run. One that is alone asks at once."""

    def __init__(self) -> None:
        self._members: set[str] = set()
        self._wanted: set[str] = set()
        self._round: asyncio.Future[Mapping[str, str | None]] | None = None

    def join(self, task_id: str) -> None:
        """Count on a producer to be asked for."""
        self._members.add(task_id)

    def leave(self, task_id: str) -> bool:
        """Forget a producer; return whether it was the last one."""
        self._members.discard(task_id)
        return not self._members

    async def state(self, task_id: str, ask: Ask) -> str | None:
        """
        Return the state of a producer, as it was when this was called or later.

        :param task_id: the producer
        :param ask: asks Airflow for the states of tasks of the run
        :raises Exception: what `ask` raises
        """
        if len(self._members) <= 1:
            return (await ask((task_id,)))[task_id]
        self._wanted.add(task_id)
        if self._round is None:
            self._round = asyncio.ensure_future(self._next_round(ask))
        # Not cancelled with one hub, since others wait for it.
        return (await asyncio.shield(self._round))[task_id]

    async def _next_round(self, ask: Ask) -> Mapping[str, str | None]:
        await asyncio.sleep(WINDOW)
        wanted, self._wanted, self._round = tuple(sorted(self._wanted)), set(), None
        return await ask(wanted)


# By the key of a run: that of a task, without the task.
_runs: dict[TaskKey, RunStates] = {}


def join(key: TaskKey) -> None:
    """Take note that there is a hub for a producer in this process."""
    _runs.setdefault(_run_of(key), RunStates()).join(key.task_id)


def leave(key: TaskKey) -> None:
    """Take note that there is none any more."""
    run = _run_of(key)
    if run in _runs and _runs[run].leave(key.task_id):
        del _runs[run]


async def state_of(key: TaskKey, ask: Ask) -> str | None:
    """Return the state of a producer, asked for together with those of others of its run; see `RunStates.state`."""
    run = _runs.get(_run_of(key)) or RunStates()
    return await run.state(key.task_id, ask)


def _run_of(key: TaskKey) -> TaskKey:
    return msgspec.structs.replace(key, task_id="")
