"""
Sends events from a thread of its own, so that nothing waits for the transport, however slow it is.

`producers.lineage` hands over what happens; what cannot be sent in time is dropped, and said once.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from dbt_watch.core.text import one_line
from dbt_watch.lineage.happenings import NodeEnded

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.lineage.happenings import Happening

log = logging.getLogger(__name__)

MAX_WAITING: Final = 20_000
"""How many events wait at most; more than twice the nodes of most projects."""
MAX_WAITING_BYTES: Final = 64 << 20
"""How much SQL waits at most."""
_MAX_CHARS: Final = 500


class Outlet(Protocol):
    """Makes events and sends them; both may take long, and raise anything."""

    def send(self, happening: Happening) -> None:
        """Send the event of something that happens."""

    def close(self) -> None:
        """See to it that what was sent has gone out."""


class EventSender:
    """
    What waits to be sent, and the thread that sends it, which begins with the first.

    No method raises on account of the sending, and all but `close` return at once.

    :param open_outlet: called in the thread, once
    """

    def __init__(self, open_outlet: Callable[[], Outlet]) -> None:
        self._open = open_outlet
        self._waiting: deque[Happening] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ends_at: float | None = None
        self._is_over = self._has_warned = False
        self._dropped = self._failed = self._total = 0

    def put(self, happening: Happening) -> None:
        """Have something sent."""
        size = _size_of(happening)
        with self._changed:
            self._total += 1
            is_full = len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES
            if self._is_over or is_full:
                self._dropped += 1
                return
            self._waiting.append(happening)
            self._bytes += size
            self._changed.notify()
            if self._thread is None:
                # The lines of the thread are to stand in the log of the task, or of the trigger, that it works for.
                context = contextvars.copy_context()
                self._thread = threading.Thread(
                    target=context.run, args=(self._work,), name="dbt-watch-lineage", daemon=True
                )
                self._thread.start()

    def close(self, within: float, *, wait: bool) -> None:
        """
        Say that nothing more comes.

        :param within: after how many seconds what is not sent by then is dropped
        :param wait: whether to wait until all is sent, or that time is over; a process that ends takes its threads with it
        """
        with self._changed:
            if self._ends_at is None:
                self._ends_at = time.monotonic() + within
            self._changed.notify()
        if wait and self._thread is not None:
            self._thread.join(within)
            self._finish()

    def _work(self) -> None:
        try:
            outlet = self._open()
        except Exception as error:  # noqa: BLE001 - the build goes on without lineage
            self._warn(
                "OpenLineage cannot be used, so no events of this build are sent: %s", _words_of(error)
            )
            self._finish(is_told=True)
            return
        while (happening := self._next()) is not None:
            try:
                outlet.send(happening)
            except Exception as error:  # noqa: BLE001, PERF203 - as above, and one that fails does not keep back the next
                self._take_failure(error)
        try:
            outlet.close()
        except Exception as error:  # noqa: BLE001 - as above
            self._take_failure(error)
        self._finish()

    def _next(self) -> Happening | None:
        with self._changed:
            while not self._waiting and self._ends_at is None:
                self._changed.wait()
            is_late = self._ends_at is not None and time.monotonic() >= self._ends_at
            if self._is_over or is_late or not self._waiting:
                return None
            happening = self._waiting.popleft()
            self._bytes -= _size_of(happening)
            return happening

    def _take_failure(self, error: Exception) -> None:
        self._failed += 1
        if self._failed == 1:
            self._warn(
                "An OpenLineage event could not be sent; the build continues, and further failures are only counted: %s",
                _words_of(error),
            )

    def _finish(self, *, is_told: bool = False) -> None:
        """Drop what waits, and say what was not sent; once."""
        with self._changed:
            was_over, self._is_over = self._is_over, True
            self._dropped += len(self._waiting)
            self._waiting.clear()
        if was_over or is_told or not (self._dropped or self._failed):
            return
        say = log.info if self._has_warned else log.warning
        say(
            "Of %d OpenLineage events of this build, %d failed and %d were dropped because sending took too long",
            self._total,
            self._failed,
            self._dropped,
        )

    def _warn(self, text: str, *values: object) -> None:
        self._has_warned = True
        log.warning(text, *values)


def _size_of(happening: Happening) -> int:
    return len(happening.sql or "") if isinstance(happening, NodeEnded) else 0


def _words_of(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}", _MAX_CHARS)
