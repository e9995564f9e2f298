"""
The journal as it lies in XCom: a snapshot in parts, and the pages after it.

A page holds one chunk. There are `PAGES` keys for them, which are used in turn, so that the rows of a journal do not grow with
the run. Before a page is overwritten, its entries go into the snapshot:

- A part is a value of up to 48 KiB with the last entry of each node. A full one is never written again; all but the last
  say that there is `more`, and the last one tells by its `seq` with which page to go on.
- The parts that follow the last one are written before it is replaced by one that says so. So a reader finds a whole
  snapshot at any moment, and a writer that ends between two writes leaves nothing that counts.
- The producer writes a page `n + 1` that is still blank before it fills page `n`, so that a reader who has come to page
  `n + 1` finds something there: Airflow logs an error for each question for an XCom that does not exist.

`producers.journal_pen` writes it, `core.journal.reader` reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.journal.format import (
    ENVELOPE_BYTES,
    MAX_CHUNK_BYTES,
    Chunk,
    JournalError,
    decode_chunk,
    json_size,
)
from dbt_watch.core.results import NodeResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGES: Final = 16
"""How many keys there are for pages."""
# Holds the number of the last part, for those who look once and not from the beginning.
HEAD_KEY: Final = "journal_head"

LONGEST_INTERVAL: Final = 2.0
_GROWTH: Final = 0.0005


class Page(msgspec.Struct, frozen=True):
    """
    A chunk of the journal and what its readers must know of the attempt.

    :param chunk: the changes
    :param will_retry: whether Airflow starts another attempt if this one ends badly
    :param began: when the attempt began, in seconds since the epoch. Tasks that were cleared together with the producer
        were cleared before; a task that was made later than this was cleared, or added, without the producer
    """

    chunk: Chunk
    will_retry: bool
    began: float = 0.0


def part_key(number: int) -> str:
    """Return the XCom key of a part of the snapshot, counted from 0."""
    return f"journal_{number:04d}"


def page_key(sequence: int) -> str:
    """Return the XCom key of a page, counted from 0; a later page has it, too."""
    return f"journal_page_{sequence % PAGES:02d}"


def blank(attempt: int, sequence: int) -> Chunk:
    """Return what lies in the place of a page that is not written yet: it says that the page before is the last one."""
    return Chunk(attempt=attempt, seq=sequence - 1)


def interval_after(pages: int, shortest: float) -> float:
    """
    Return the seconds between two pages: the more there are, the longer.

    With 0.3 s at first and changes all the time, it is 0.8 s after 10 minutes, 1.9 s after an hour, and then 2 s.

    :param pages: how many there are
    :param shortest: the seconds to begin with
    """
    return max(shortest, min(LONGEST_INTERVAL, shortest + _GROWTH * pages))


def encode_page(page: Page) -> str:
    """Give a page as text; a plain string costs an XCom backend the least."""
    value = {"will_retry": page.will_retry, "began": page.began, "chunk": page.chunk.fields()}
    return _encode(value).decode()


_encode: Final = msgspec.json.Encoder().encode


def decode_page(value: Any) -> Page:
    """
    Read a page, or a part of the snapshot, as XCom gives it back.

    :raises JournalError: when this is neither, or a damaged one
    """
    try:
        decoded = msgspec.json.decode(value) if isinstance(value, str | bytes) else value
        return Page(decode_chunk(decoded["chunk"]), bool(decoded["will_retry"]), float(decoded["began"]))
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"not a page of the journal: {str(value)[:80]!r}") from error


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
        """Say that these parts were stored."""
        self.part += len(parts) - 1
        self.first = self.next_seq
        self.entries = {entry.unique_id: entry for entry in parts[-1].changes}


def _groups(entries: Sequence[NodeResult]) -> Iterator[tuple[NodeResult, ...]]:
    """Split entries so that each group fits into a part; there is one at least."""
    start, size = 0, 0
    for index, entry in enumerate(entries):
        size += json_size((entry,))
        if size > _ROOM and index > start:
            yield tuple(entries[start:index])
            start, size = index, json_size((entry,))
    yield tuple(entries[start:])


_ROOM: Final = MAX_CHUNK_BYTES - ENVELOPE_BYTES
