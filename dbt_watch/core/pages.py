"""
The journal as it lies in XCom: one page for each chunk, under keys that a reader can ask for without guessing.

The producer writes an empty page `n + 1` before it fills page `n`, so that a reader who has come to page `n + 1`
finds something there: Airflow logs an error for each question for an XCom that does not exist.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from dbt_watch.core.journal import Chunk, JournalError, decode_chunk

EMPTY_PAGE: Final = ""
# Holds the number of the last page that is written, for those who look once and not from the beginning.
HEAD_KEY: Final = "journal_head"


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


def born_at(identity: object) -> float:
    """
    Tell when Airflow made a try of a task, in seconds since the epoch; 0 when its id does not tell.

    Airflow gives each try an id of its own when it is made: with the DAG run, by a retry or by a clear. It is a UUID of
    version 7, which begins with the time in milliseconds (RFC 9562).

    :param identity: the id of the task instance
    """
    number = identity if isinstance(identity, UUID) else UUID(str(identity))
    return (number.int >> 80) / 1000 if number.version == _TIME_ORDERED else 0.0


_TIME_ORDERED: Final = 7


def page_key(sequence: int) -> str:
    """Give the XCom key of a page, counted from 0."""
    return f"journal_{sequence:04d}"


def encode_page(page: Page) -> str:
    """Give a page as text; a plain string costs an XCom backend the least."""
    value = {"will_retry": page.will_retry, "began": page.began, "chunk": page.chunk.fields()}
    return _encode(value).decode()


_encode: Final = msgspec.json.Encoder().encode


def decode_page(value: Any) -> Page | None:
    """
    Read a page as XCom gives it back; None for one that is still empty.

    :raises JournalError: when this is not a page, or a damaged one
    """
    if value == EMPTY_PAGE:
        return None
    try:
        decoded = msgspec.json.decode(value) if isinstance(value, str | bytes) else value
        return Page(decode_chunk(decoded["chunk"]), bool(decoded["will_retry"]), float(decoded["began"]))
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"not a page of the journal: {str(value)[:80]!r}") from error
