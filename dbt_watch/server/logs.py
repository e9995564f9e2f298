"""
Reads the log of an invocation: a part of it by its offset, at once or when there is one, or all of it as it grows.

Never more than a piece of a log is in memory, however long it is and however many read it.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbt_watch.core.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

DEFAULT_PIECE: Final = 1 << 20
LONGEST_PIECE: Final = 8 << 20
"""The most that one request returns, in bytes."""

_FOLLOWED_PIECE: Final = 1 << 16
LONGEST_WAIT: Final = 60.0
"""The longest that one request waits for more of a log, in seconds."""

# In seconds: how often a log is looked at, and how often its invocation is when it does not grow; at first, and later.
_LOOKS: Final = (0.02, 0.1)
_ASKS: Final = (0.03, 0.4)


@dataclass(frozen=True)
class LogPiece:
    """
    A part of a log.

    :ivar offset: where the next part begins, in bytes
    :ivar size: of the log so far
    :ivar is_complete: whether nothing follows, now or later
    """

    data: bytes
    offset: int
    size: int
    is_complete: bool


def read_piece(path: Path, offset: int, limit: int, *, has_ended: bool) -> LogPiece:
    """
    Return a part of a log; an offset behind its end is taken for its end.

    :param has_ended: whether the invocation had ended before this was called
    """
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            start = min(offset, size)
            log.seek(start)
            data = log.read(min(limit, size - start))
    except FileNotFoundError:
        return LogPiece(b"", 0, 0, has_ended)
    following = start + len(data)
    return LogPiece(data, following, size, has_ended and following >= size)


async def await_piece(
    path: Path, offset: int, limit: int, has_ended: Callable[[], bool], wait: float = math.inf
) -> LogPiece:
    """
    Return a part of a log as soon as there is one or nothing follows; an empty one after a time.

    :param has_ended: tells whether the invocation has; asked in a thread, since it asks the database
    :param wait: that time, in seconds
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait
    looks, asks = Backoff(*_LOOKS, factor=1.5), Backoff(*_ASKS)
    ended, ask_at = False, 0.0
    while True:
        # What is known of the end is asked before the log is looked at: dbt writes until then.
        if loop.time() >= ask_at:
            ended = await asyncio.to_thread(has_ended)
            ask_at = loop.time() + asks.next()
        piece = await asyncio.to_thread(read_piece, path, offset, limit, has_ended=ended)
        if piece.data or piece.is_complete or loop.time() >= until:
            return piece
        await asyncio.sleep(min(looks.next(), max(0.0, until - loop.time())))


async def follow(path: Path, offset: int, has_ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield a log from an offset on as it grows, until its invocation has ended; see `await_piece`."""
    while True:
        piece = await await_piece(path, offset, _FOLLOWED_PIECE, has_ended)
        # The log may have been removed, by age; it does not begin anew.
        offset = max(offset, piece.offset)
        if piece.data:
            yield piece.data
        if piece.is_complete:
            return
