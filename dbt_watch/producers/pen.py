"""
Writes the journal to XCom: when, in what order, and again when it fails.

The producer's watch calls it between two pieces of the log. A write that fails never fails a build: the changes wait
in the `JournalWriter` and go out with the next one.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from dbt_watch.core.pages import EMPTY_PAGE, HEAD_KEY, NOTHING_YET, Page, encode_page, page_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.core.journal import JournalWriter

log = logging.getLogger(__name__)

# All in seconds.
FLUSH_INTERVAL: Final = 0.3
BACKOFF_FIRST: Final = 0.5
BACKOFF_LIMIT: Final = 10.0
LAST_WORDS: Final = 60.0  # how long the end of a journal is tried for


class Pen:
    """
    Writes one attempt's journal.

    :param writer: what is to be written
    :param push: stores an XCom under a key; may raise anything
    :param will_retry: whether another attempt follows if this one ends badly
    :param born: when Airflow made this attempt, in seconds since the epoch
    :param max_pending: so many changes are written without waiting for the interval
    """

    def __init__(
        self,
        writer: JournalWriter,
        push: Callable[[str, str | int], None],
        *,
        will_retry: bool,
        born: float = 0.0,
        max_pending: int = 200,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._writer = writer
        self._push = push
        self._will_retry = will_retry
        self._born = born
        self._max_pending = max_pending
        self._clock = clock
        self._sleep = sleep
        self._due = clock()
        self._failures = 0

    def open(self) -> None:
        """Leave an empty first page for readers to find."""
        self._attempt(self._write_beginning)

    def _write_beginning(self) -> None:
        self._push(page_key(0), EMPTY_PAGE)
        self._push(HEAD_KEY, NOTHING_YET)

    def write(self) -> None:
        """Write what is due. Never raises on account of the writing."""
        urgent = self._writer.pending >= self._max_pending and not self._failures
        if self._writer.pending and (urgent or self._clock() >= self._due):
            self._attempt(self._write_all)

    def finish(self, patience: float = LAST_WORDS) -> bool:
        """
        Write all that is left, trying again for a while.

        :param patience: seconds
        :returns: whether the whole journal is written
        """
        deadline = self._clock() + patience
        while not self._attempt(self._write_all):
            if self._clock() >= deadline:
                log.error(
                    "The end of the journal could not be written; the sensors go by the state of this task"
                )
                return False
            self._sleep(max(0.0, min(self._due, deadline) - self._clock()))
        return True

    def _write_all(self) -> None:
        while (chunk := self._writer.take()) is not None:
            # The empty page comes first: a reader who has read this one finds it.
            if chunk.closed is None:
                self._push(page_key(chunk.seq + 1), EMPTY_PAGE)
            self._push(page_key(chunk.seq), encode_page(Page(chunk, self._will_retry, self._born)))
            self._push(HEAD_KEY, chunk.seq)
            self._writer.written(chunk)

    def _attempt(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever the way to XCom makes of it, the build goes on
            self._failures += 1
            wait = min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(self._failures - 1, 10))
            self._due = self._clock() + wait
            log.warning("Writing the journal failed (%s); again in %.1f s", error, wait)
            return False
        self._failures = 0
        self._due = self._clock() + FLUSH_INTERVAL
        return True
