"""
Writes the journal to XCom: when, in what order, and again when it fails.

The task, or the trigger that stands in for it, calls it between two pieces of the log. A write that fails never fails
a build: the changes wait in the `JournalWriter` and go out with the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.pages import EMPTY_PAGE, HEAD_KEY, Page, encode_page, page_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dbt_watch.core.journal import JournalWriter

log = logging.getLogger(__name__)

# All in seconds.
FLUSH_INTERVAL: Final = 0.3
BACKOFF_FIRST: Final = 0.5
BACKOFF_LIMIT: Final = 10.0
LAST_WORDS: Final = 60.0  # how long the end of a journal is tried for

Value = str | int


class Draft:
    """
    What is to be written of one attempt's journal, and when; it writes nothing itself.

    :param writer: the changes
    :param will_retry: whether another attempt follows if this one ends badly
    :param began: as of `Page`
    :param first_page: the number of the first page; more than 0 for one who goes on with a journal
    :param interval: seconds between two pages
    :param max_pending: so many changes are written without waiting for the interval
    """

    def __init__(
        self,
        writer: JournalWriter,
        *,
        will_retry: bool,
        began: float = 0.0,
        first_page: int = 0,
        interval: float = FLUSH_INTERVAL,
        max_pending: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._will_retry = will_retry
        self._began = began
        self._first_page = first_page
        self._interval = interval
        self._max_pending = max_pending
        self.clock = clock
        self.due = clock()
        self._failures = 0

    @property
    def is_due(self) -> bool:
        """Whether there is something to write now."""
        urgent = self._writer.pending >= self._max_pending and not self._failures
        return bool(self._writer.pending) and (urgent or self.clock() >= self.due)

    def rest(self) -> Iterator[tuple[str, Value]]:
        """Give all that waits, by key; whoever does not come to the end of a page is given it again."""
        while (chunk := self._writer.take()) is not None:
            number = self._first_page + chunk.seq
            # The empty page comes first: a reader who has read this one finds it.
            if chunk.closed is None:
                yield page_key(number + 1), EMPTY_PAGE
            numbered = msgspec.structs.replace(chunk, seq=number)
            yield page_key(number), encode_page(Page(numbered, self._will_retry, self._began))
            yield HEAD_KEY, number
            self._writer.written(chunk)

    def worked(self) -> None:
        """Say that writing has worked."""
        self._failures = 0
        self.due = self.clock() + self._interval

    def failed(self, error: Exception) -> None:
        """Say that writing has failed; the next time is later then."""
        self._failures += 1
        wait = min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(self._failures - 1, 10))
        self.due = self.clock() + wait
        log.warning("Writing the journal failed (%s); again in %.1f s", error, wait)

    def gave_up(self) -> None:
        """Say that the end could not be written."""
        log.error("The end of the journal could not be written; the sensors go by the state of this task")


class Pen:
    """
    Writes one attempt's journal, on a worker.

    :param writer: what is to be written
    :param push: stores an XCom under a key; may raise anything
    :param will_retry: whether another attempt follows if this one ends badly
    :param began: as of `Page`
    :param max_pending: so many changes are written without waiting for the interval
    """

    def __init__(
        self,
        writer: JournalWriter,
        push: Callable[[str, Value], None],
        *,
        will_retry: bool,
        began: float = 0.0,
        max_pending: int = 200,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._writer = writer
        self._draft = Draft(writer, will_retry=will_retry, began=began, max_pending=max_pending, clock=clock)
        self._push = push
        self._sleep = sleep

    def open(self) -> None:
        """Say in a first page that the attempt has begun, so that nobody takes an earlier one for it."""
        self._writer.open()
        self._write_all()

    def write(self) -> None:
        """Write what is due. Never raises on account of the writing."""
        if self._draft.is_due:
            self._write_all()

    def finish(self, patience: float = LAST_WORDS) -> bool:
        """
        Write all that is left, trying again for a while.

        :param patience: seconds
        :returns: whether the whole journal is written
        """
        draft = self._draft
        deadline = draft.clock() + patience
        while not self._write_all():
            if draft.clock() >= deadline:
                draft.gave_up()
                return False
            self._sleep(max(0.0, min(draft.due, deadline) - draft.clock()))
        return True

    def _write_all(self) -> bool:
        try:
            for key, value in self._draft.rest():
                self._push(key, value)
        except Exception as error:  # noqa: BLE001 - whatever the way to XCom makes of it, the build goes on
            self._draft.failed(error)
            return False
        self._draft.worked()
        return True


class AsyncPen:
    """
    The same in a triggerer.

    :param draft: what is to be written
    :param push: stores an XCom under a key; may raise anything
    """

    def __init__(self, draft: Draft, push: Callable[[str, Value], Awaitable[None]]) -> None:
        self._draft = draft
        self._push = push

    async def write(self) -> None:
        """Write what is due. Never raises on account of the writing."""
        if self._draft.is_due:
            await self._write_all()

    async def finish(self, patience: float = LAST_WORDS) -> bool:
        """
        Write all that is left, trying again for a while.

        :param patience: seconds
        :returns: whether the whole journal is written
        """
        draft = self._draft
        deadline = draft.clock() + patience
        while not await self._write_all():
            if draft.clock() >= deadline:
                draft.gave_up()
                return False
            await asyncio.sleep(max(0.0, min(draft.due, deadline) - draft.clock()))
        return True

    async def _write_all(self) -> bool:
        try:
            for key, value in self._draft.rest():
                await self._push(key, value)
        except Exception as error:  # noqa: BLE001 - whatever the way to XCom makes of it, the build goes on
            self._draft.failed(error)
            return False
        self._draft.worked()
        return True
