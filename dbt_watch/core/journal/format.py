"""
What lies in XCom of a journal: a snapshot in parts, and the pages after it.

The producer writes the ledger's changes in numbered chunks, for the sensors to read. A chunk is small enough for any XCom
backend, says which attempt it belongs to, and the last one closes the attempt. A page holds one chunk. There are `PAGES` keys
for them, which are used in turn, so that the rows of a journal do not grow with the run. Before a page is overwritten, its
entries go into the snapshot:

- A part is a value of up to 48 KiB with the last entry of each node. A full one is never written again; all but the last
  say that there is `more`, and the last one tells by its `seq` with which page to go on.
- The parts that follow the last one are written before it is replaced by one that says so. So a reader finds a whole
  snapshot at any moment, and a writer that ends between two writes leaves nothing that counts.
- The producer writes a page `n + 1` that is still blank before it fills page `n`, so that a reader who has come to page
  `n + 1` finds something there: Airflow logs an error for each question for an XCom that does not exist.

`core.journal.writer` says what is to be written, and `core.journal.reader` what to read next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dbt_watch.core.results import NodeResult, shortened
from dbt_watch.exceptions import DbtWatchError

JOURNAL_VERSION: Final = 2
"""The version of the format; a reader refuses any other."""
MAX_CHUNK_BYTES: Final = 48 * 1024
"""How long a chunk's JSON may be: what any XCom backend takes."""
PAGES: Final = 16
"""How many keys there are for pages."""
# Holds the number of the last part, for those who look once and not from the beginning.
HEAD_KEY: Final = "journal_head"
# Holds what a writer in a triggerer made up to be known by.
WRITER_KEY: Final = "journal_writer"

_KIND: Final = "dbt_watch.journal"


class JournalError(DbtWatchError):
    """A value is not a chunk of a journal that this version can read."""


class Closed(msgspec.Struct, frozen=True):
    """
    How an attempt ended.

    :param exit_code: dbt's; None when it is not known
    :param reason: why, where somebody outside dbt knows it
    :param threads: how many threads dbt had, where it told
    """

    exit_code: int | None = None
    reason: str | None = None
    threads: int | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """
    A piece of a journal.

    :param attempt: which attempt of the producer, from 1
    :param seq: the number of the chunk within the attempt, from 0; of a part of the snapshot, the number of the last chunk that the
        snapshot holds, -1 for none
    :param changes: the nodes that changed, each with its entry
    :param closed: in the last chunk, how the attempt ended
    :param more: whether another part of the snapshot follows
    """

    attempt: int
    seq: int
    changes: tuple[NodeResult, ...] = ()
    closed: Closed | None = None
    more: bool = False

    def fields(self) -> dict[str, Any]:
        """Return what `decode_chunk` reads, for `msgspec` to encode: that is much faster than making builtins first."""
        value: dict[str, Any] = {
            "kind": _KIND,
            "version": JOURNAL_VERSION,
            "attempt": self.attempt,
            "seq": self.seq,
            "changes": self.changes,
        }
        if self.closed is not None:
            value["closed"] = self.closed
        if self.more:
            value["more"] = True
        return value


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


def decode_chunk(value: Any) -> Chunk:
    """
    Read a chunk.

    :param value: what `Chunk.fields` gave, as builtins, or a text that holds it as JSON
    :raises JournalError: it is something else, damaged, or of another version
    """
    if isinstance(value, (str, bytes)):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise JournalError(f"a chunk of the journal is not JSON: {error}") from error
        if isinstance(value, str):  # an XCom value that was encoded twice
            return decode_chunk(value)
    if not isinstance(value, Mapping) or value.get("kind") != _KIND:
        raise JournalError(f"not a chunk of a journal: {shortened(repr(value), 200)}")
    version = value.get("version")
    if version != JOURNAL_VERSION:
        raise JournalError(
            f"a chunk of the journal has version {version!r}; this version reads {JOURNAL_VERSION} only"
        )
    try:
        return msgspec.convert({key: value[key] for key in Chunk.__struct_fields__ if key in value}, Chunk)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise JournalError(f"a chunk of the journal is damaged: {error}") from error


def encode_page(page: Page) -> str:
    """Return a page as text; a plain string costs an XCom backend the least."""
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
