"""
What is to be written of a journal, in what order, when, and again when it fails.

Changes are cut into chunks (`JournalWriter`); chunks become pages, and these go into the snapshot (`Publication`). Nothing is
written here: `producers.journal_publisher` does what a `Publication` asks for.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from dbt_watch.core.backoff import Backoff
from dbt_watch.core.journal.format import (
    HEAD_KEY,
    MAX_CHUNK_BYTES,
    PAGES,
    Chunk,
    Closed,
    Page,
    blank,
    encode_page,
    page_key,
    part_key,
)
from dbt_watch.core.journal.pace import USUAL_INTERVAL, interval_after
from dbt_watch.core.results import NodeResult, shortened
from dbt_watch.core.steps import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

# All in seconds.
BACKOFF_FIRST: Final = 0.5
BACKOFF_LIMIT: Final = 10.0
CLOSE_TIMEOUT_S: Final = 60.0  # how long the end of a journal is tried for

Value = str | int


class JournalWriter:
    """
    Collects changes, and cuts them into chunks.

    Within a chunk a node stands once, with its last state, so a journal read up to any chunk is a state that the
    ledger went through. `take` gives the same chunk until `written` says that it was stored.

    :param attempt: which attempt of the producer this is, from 1
    :param max_chunk_bytes: how long a chunk's JSON may be, at least 2,048
    :param max_changes: how many nodes one chunk may hold
    """

    def __init__(
        self, *, attempt: int, max_chunk_bytes: int = MAX_CHUNK_BYTES, max_changes: int = 1_000
    ) -> None:
        self.attempt = attempt
        self._room = max(max_chunk_bytes, _MIN_BYTES) - _ENVELOPE_BYTES
        self._max_changes = max(max_changes, 1)
        self._waiting: list[NodeResult] = []
        self._seq = 0
        self._taken: Chunk | None = None
        self._closing: Closed | None = None
        self._change_bytes = 1.0  # what a change took in the chunk before

    def add(self, changes: Iterable[NodeResult]) -> None:
        """Take changes to be written, in their order."""
        self._waiting.extend(changes)

    @property
    def pending(self) -> int:
        """How many changes wait to be written, those of a chunk that was taken and not stored among them."""
        return len(self._waiting) + (max(1, len(self._taken.changes)) if self._taken is not None else 0)

    @property
    def is_full(self) -> bool:
        """Whether what waits fills a chunk, judged by the chunk before."""
        count = len(self._waiting)
        return count >= self._max_changes or count * self._change_bytes >= self._room

    def close(self, exit_code: int | None, *, reason: str | None = None, threads: int | None = None) -> None:
        """Take the end of the attempt; the last chunk will tell it."""
        self._closing = Closed(exit_code, _bounded(reason), threads)

    def take(self) -> Chunk | None:
        """Return the next chunk to store; None when there is nothing to store now."""
        if self._taken is None and (self._waiting or self._closing is not None):
            changes = self._next_changes()
            closed = None
            if not self._waiting:
                closed, self._closing = self._closing, None
            self._taken = Chunk(attempt=self.attempt, seq=self._seq, changes=changes, closed=closed)
        return self._taken

    def written(self, chunk: Chunk) -> None:
        """Record that a chunk was stored."""
        if self._taken is not None and chunk.seq == self._taken.seq:
            self._taken = None
            self._seq += 1

    def _next_changes(self) -> tuple[NodeResult, ...]:
        """Take as many changes as fit: at first as many as fitted before, then fewer, judged by what was too much."""
        waiting = self._waiting
        count = min(len(waiting), 2 * self._max_changes, int(self._room / self._change_bytes) or 1)
        while count > 1:
            latest = {change.unique_id: change for change in waiting[:count]}
            entries = tuple(latest.values())
            size = _json_size(entries)
            if size <= self._room and len(entries) <= self._max_changes:
                del waiting[:count]
                self._change_bytes = max(1.0, _MARGIN * size / count)
                return entries
            fitting = min(self._room / size, self._max_changes / len(entries))
            count = min(int(count * fitting), count - 1)
        if not waiting:
            return ()
        return (_fitted(waiting.pop(0), self._room),)


_MIN_BYTES: Final = 2_048
_MARGIN: Final = 1.05
_MAX_REASON_BYTES: Final = 600
# The keys and numbers of a chunk, and the reason.
_ENVELOPE_BYTES: Final = 200 + _MAX_REASON_BYTES


def _bounded(reason: str | None) -> str | None:
    """Shorten a reason until its JSON fits into the envelope."""
    limit = _MAX_REASON_BYTES
    while reason and len(json.dumps(reason)) > _MAX_REASON_BYTES:
        limit //= 2
        reason = shortened(reason, limit)
    return reason


_encode: Final = msgspec.json.Encoder().encode


def _json_size(entries: tuple[NodeResult, ...]) -> int:
    """Return the bytes that entries take in the JSON that a backend may write, or a few more."""
    encoded = _encode(entries)
    if encoded.isascii() and b"\x7f" not in encoded:
        # `json.dumps` puts a blank behind each colon and comma, and is much slower.
        return 2 * len(encoded) - len(encoded.translate(None, b":,"))
    return len(json.dumps([entry.to_dict() for entry in entries]))


def _fitted(change: NodeResult, room: int) -> NodeResult:
    """Shorten an entry until it fits."""
    slim = change
    if _json_size((slim,)) <= room:
        return slim
    slim = msgspec.structs.replace(slim, sql=None)
    for limit in (8_000, 4_000, 2_000, 1_000, 500, 200, 60, 0):
        message = shortened(slim.message, limit) if slim.message and limit else None
        slim = msgspec.structs.replace(slim, message=message)
        if _json_size((slim,)) <= room:
            return slim
        if limit == _THEN_WITHOUT_EXTRAS:
            slim = msgspec.structs.replace(
                slim,
                adapter_response={},
                batches=(),
                relation_name=None,
                skipped_because=slim.skipped_because[:1],
            )
    return NodeResult(
        unique_id=change.unique_id, status=change.status, attempt=change.attempt, not_run=change.not_run
    )


_THEN_WITHOUT_EXTRAS: Final = 1_000


class Tail(msgspec.Struct):
    """
    The end of a journal: the last part of the snapshot, and the pages after it.

    The writer keeps one, and so does each reader, for a writer that goes on where another has stopped.

    :param part: the number of the last part
    :param first: the number of the first page that the snapshot does not hold
    :param next_seq: the number of the page that comes next
    :param entries: the last entry of each node in that part and in these pages
    """

    part: int = 0
    first: int = 0
    next_seq: int = 0
    entries: dict[str, NodeResult] = msgspec.field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether there is no key left for another page and a blank one after it."""
        return self.next_seq + 1 - self.first >= PAGES

    def add(self, chunk: Chunk) -> None:
        """Take a page that was written."""
        self.next_seq = chunk.seq + 1
        self.entries.update((change.unique_id, change) for change in chunk.changes)

    def parts(self, attempt: int) -> list[Chunk]:
        """
        Return the parts that take the place of the last one, with all that is in the pages.

        What may still change comes last, so that full parts hold little that is out of date later: the snapshot grows
        with the nodes, not with their changes.
        """
        entries = sorted(self.entries.values(), key=lambda entry: not entry.is_final)
        groups = list(_groups(entries))
        return [
            Chunk(attempt=attempt, seq=self.next_seq - 1, changes=group, more=number < len(groups))
            for number, group in enumerate(groups, 1)
        ]

    def settle(self, parts: Sequence[Chunk]) -> None:
        """Record that these parts were stored."""
        self.part += len(parts) - 1
        self.first = self.next_seq
        self.entries = {entry.unique_id: entry for entry in parts[-1].changes}


def _groups(entries: Sequence[NodeResult]) -> Iterator[tuple[NodeResult, ...]]:
    """Split entries so that each group fits into a part; there is one at least."""
    start, size = 0, 0
    for index, entry in enumerate(entries):
        size += _json_size((entry,))
        if size > _ROOM and index > start:
            yield tuple(entries[start:index])
            start, size = index, _json_size((entry,))
    yield tuple(entries[start:])


_ROOM: Final = MAX_CHUNK_BYTES - _ENVELOPE_BYTES


class Write(NamedTuple):
    """A step: store an XCom."""

    key: str
    value: Value


class Publication:
    """
    What is to be written of one attempt's journal, and when; it writes nothing itself.

    `flush`, `write` and `finish` are procedures (`core.steps`): they yield each XCom that is to be stored, and the error is
    thrown in when that fails. None of them raises on account of it.

    :param writer: the changes
    :param will_retry: whether another attempt follows if this one ends badly
    :param began: see `Page`
    :param tail: for one who goes on with a journal, the end of it
    :param interval: seconds between two pages, as `interval_after` takes them; a full page does not wait
    :param clock: tells the time in seconds
    """

    def __init__(
        self,
        writer: JournalWriter,
        *,
        will_retry: bool,
        began: float = 0.0,
        tail: Tail | None = None,
        interval: float = USUAL_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._will_retry = will_retry
        self._began = began
        self._is_open = tail is not None
        self._tail = tail or Tail()
        self._interval = interval
        self._clock = clock
        self._due = clock()
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_LIMIT)

    def give_up(self) -> None:
        """Tell from now on that no other attempt follows, however this one ends."""
        self._will_retry = False

    def write(self) -> Generator[Write, None, None]:
        """Write what is due."""
        urgent = self._writer.is_full and not self._backoff.failures
        waits = bool(self._writer.pending) or not self._is_open
        if waits and (urgent or self._clock() >= self._due):
            yield from self.flush()

    def flush(self) -> Generator[Write, None, bool]:
        """Write all that waits, due or not; at first, that the attempt has begun. Return whether that has worked."""
        try:
            yield from self.rest()
        except Exception as error:  # noqa: BLE001 - whatever the way to XCom makes of it, the build goes on
            wait = self._backoff.next()
            self._due = self._clock() + wait
            log.warning("Writing the journal failed (%s); retrying in %.1f s", error, wait)
            return False
        self._backoff.reset()
        self._due = self._clock() + interval_after(self._tail.next_seq, self._interval)
        return True

    def finish(self, patience: float = CLOSE_TIMEOUT_S) -> Generator[Write | Pause, None, bool]:
        """
        Write all that is left, trying again for a while.

        :param patience: seconds
        :returns: whether the whole journal is written
        """
        deadline = self._clock() + patience
        while not (yield from self.flush()):
            if self._clock() >= deadline:
                log.error(
                    "The end of the journal could not be written; the sensors follow the state of this task instead"
                )
                return False
            yield Pause(max(0.0, min(self._due, deadline) - self._clock()))
        return True

    def rest(self) -> Iterator[Write]:
        """Yield all that waits; whoever does not come to the end of a page is given it again."""
        if not self._is_open:
            yield from self._opening()
        while (chunk := self._writer.take()) is not None:
            if self._tail.is_full:
                yield from self._parts()
            number = self._tail.next_seq
            # The blank one comes first: a reader who has read this page finds it.
            yield Write(page_key(number + 1), self._text(blank(chunk.attempt, number + 1)))
            numbered = msgspec.structs.replace(chunk, seq=number)
            yield Write(page_key(number), self._text(numbered))
            self._tail.add(numbered)
            self._writer.written(chunk)

    def _opening(self) -> Iterator[Write]:
        """Write that the attempt has begun, so that nobody takes an earlier one for it; the part that is read first comes last."""
        nothing = self._text(blank(self._writer.attempt, 0))
        yield Write(page_key(0), nothing)
        yield Write(HEAD_KEY, 0)
        yield Write(part_key(0), nothing)
        self._is_open = True

    def _parts(self) -> Iterator[Write]:
        """Take all pages into the snapshot; the last part, which leads to the new ones, is replaced after them."""
        parts = self._tail.parts(self._writer.attempt)
        numbered = list(enumerate(parts, self._tail.part))
        for number, part in reversed(numbered):
            yield Write(part_key(number), self._text(part))
        if len(parts) > 1:
            yield Write(HEAD_KEY, numbered[-1][0])
        self._tail.settle(parts)

    def _text(self, chunk: Chunk) -> str:
        return encode_page(Page(chunk, self._will_retry, self._began))
