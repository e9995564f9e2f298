"""
What a SIGTERM means to the task that follows a build: that nobody wants the build any more, or that the worker has to go.

Airflow sends the same signal for both: when a person stops the task (its supervisor learns of it with the next
heartbeat and allows the task 5 s), and when the worker itself is asked to end (an eviction, a deployment). What tells
them apart is the state that Airflow gives the task.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Final

from dbt_watch.core.task_states import CALLED_OFF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

# In seconds: less than the 5 s after which Airflow's supervisor kills the task.
DECIDED_WITHIN: Final = 3.0


class StopSignal:
    """
    Finds out, after a SIGTERM, whether the build is to be stopped.

    A signal's handler runs in the middle of whatever the main thread does, which may be a request to Airflow, and on
    Airflow 3.1 a second one would get the answer of the first. So the handler only takes note, and the main thread asks
    at its next `check`.

    :param state: gives the state of this task in Airflow; may raise anything
    :param stop: stops the build; called at most once
    :param runs_in: what dbt runs in, in a word
    """

    def __init__(
        self, state: Callable[[], str | None], stop: Callable[[], None], *, runs_in: str = "pod"
    ) -> None:
        self._state = state
        self._stop = stop
        self._runs_in = runs_in
        self._is_open = False
        self._is_talking = False
        # Its `put` is reentrant, which few things are that a signal's handler might call.
        self._received: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.reason: str | None = None
        """Why the build was stopped, once it has been."""
        self.is_leaving = False
        """Whether this worker was asked to end although nobody has stopped the task."""

    def watch(self) -> None:
        """See to it that stopping works even where the main thread comes to no check."""
        threading.Thread(target=self._decide_late, name="dbt-watch-stop", daemon=True).start()

    def receive(self) -> None:
        """Take note of a signal."""
        self._is_open = True
        self._received.put(None)

    @contextlib.contextmanager
    def talking(self) -> Iterator[None]:
        """Say that the main thread waits for an answer of Airflow, for the time of the block."""
        self._is_talking = True
        try:
            yield
        finally:
            self._is_talking = False

    def check(self) -> None:
        """Decide about a signal, if there was one. For the main thread, while no other request is under way."""
        if not self._is_open or self._is_talking or self.reason is not None:
            return
        try:
            with self.talking():
                state = self._state()
        except Exception as error:  # noqa: BLE001 - without an answer nobody can have stopped the task there
            log.warning("Asking Airflow for the state of this task failed: %s", error)
            state = None
        self._is_open = False
        if state in CALLED_OFF:
            self._act(f"the task was stopped; its state in Airflow is {state}")
        else:
            self.is_leaving = True
            log.warning(
                "This worker was asked to shut down, but Airflow has not stopped this task (%s). The %s keeps running and"
                " is followed until this worker ends; then the next attempt takes it over",
                state,
                self._runs_in,
            )

    def _decide_late(self) -> None:
        while True:
            self._received.get()
            time.sleep(DECIDED_WITHIN)
            self._decide_alone()

    def _decide_alone(self) -> None:
        # An Airflow that does not answer the main thread has not told the supervisor that the task was stopped, either.
        if self._is_open and not self._is_talking and self.reason is None:
            self._act("the task was asked to stop")

    def _act(self, reason: str) -> None:
        self.reason = reason
        log.info("Stopping dbt: %s", reason)
        self._stop()
