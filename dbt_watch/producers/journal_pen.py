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

from dbt_watch.core.backoff import Backoff
from dbt_watch.core.journal.format import HEAD_KEY, Page, blank, encode_page, page_key, part_key
from dbt_watch.core.journal.writer import Tail, interval_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dbt_watch.core.journal.format import Chunk
    from dbt_watch.core.journal.writer import JournalWriter

log = logging.getLogger(__name__)

# All in seconds.
FLUSH_INTERVAL: Final = 0.3  # at first; see `interval_after`
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
    :param tail: for one who goes on with a journal, the end of it
    :param interval: seconds between two pages at first; a full page does not wait
    """

    def __init__(
        self,
        writer: JournalWriter,
        *,
        will_retry: bool,
        began: float = 0.0,
        tail: Tail | None = None,
        interval: float = FLUSH_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._will_retry = will_retry
        self._began = began
        self._is_open = tail is not None
        self._tail = tail or Tail()
        self._interval = interval
        self.clock = clock
        self.due = clock()
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_LIMIT)

    @property
    def is_due(self) -> bool:
        """Whether there is something to write now."""
        urgent = self._writer.is_full and not self._backoff.failures
        waits = bool(self._writer.pending) or not self._is_open
        return waits and (urgent or self.clock() >= self.due)

    def rest(self) -> Iterator[tuple[str, Value]]:
        """Give all that waits, by key; whoever does not come to the end of a page is given it again."""
        if not self._is_open:
            yield from self._opening()
        while (chunk := self._writer.take()) is not None:
            if self._tail.is_full:
                yield from self._parts()
            number = self._tail.next_seq
            # The blank one comes first: a reader who has read this page finds it.
            yield page_key(number + 1), self._text(blank(chunk.attempt, number + 1))
            numbered = msgspec.structs.replace(chunk, seq=number)
            yield page_key(number), self._text(numbered)
            self._tail.add(numbered)
            self._writer.written(chunk)

    def _opening(self) -> Iterator[tuple[str, Value]]:
        """Say that the attempt has begun, so that nobody takes an earlier one for it; the part that is read first comes last."""
        nothing = self._text(blank(self._writer.attempt, 0))
        yield page_key(0), nothing
        yield HEAD_KEY, 0
        yield part_key(0), nothing
        self._is_open = True

    def _parts(self) -> Iterator[tuple[str, Value]]:
        """Take all pages into the snapshot; the last part, which leads to the new ones, is replaced after them."""
        parts = self._tail.parts(self._writer.attempt)
        numbered = list(enumerate(parts, self._tail.part))
        for number, part in reversed(numbered):
            yield part_key(number), self._text(part)
        if len(parts) > 1:
            yield HEAD_KEY, numbered[-1][0]
        self._tail.settle(parts)

    def _text(self, chunk: Chunk) -> str:
        return encode_page(Page(chunk, self._will_retry, self._began))

    def worked(self) -> None:
        """Say that writing has worked."""
        self._backoff.reset()
        self.due = self.clock() + interval_after(self._tail.next_seq, self._interval)

    def failed(self, error: Exception) -> None:
        """Say that writing has failed; the next time is later then."""
        wait = self._backoff.next()
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
    """

    def __init__(
        self,
        writer: JournalWriter,
        push: Callable[[str, Value], None],
        *,
        will_retry: bool,
        began: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._draft = Draft(writer, will_retry=will_retry, began=began, clock=clock)
        self._push = push
        self._sleep = sleep

    def open(self) -> None:
        """Say that the attempt has begun, so that nobody takes an earlier one for it."""
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
