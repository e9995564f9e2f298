"""
Reads the log of an invocation: a part of it by its offset, or all of it as it grows.

Never more than a piece of a log is in memory, however long it is and however many read it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

DEFAULT_PIECE: Final = 1 << 20
LONGEST_PIECE: Final = 8 << 20
"""The most that one request returns, in bytes."""

_FOLLOWED_PIECE: Final = 1 << 16
# In seconds: how often a log is looked at, and how often its invocation is when it does not grow.
_LOOK: Final = 0.2
_ASK: Final = 1.0


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


async def follow(path: Path, offset: int, has_ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """
    Yield a log from an offset on as it grows, until its invocation has ended.

    :param has_ended: asked in a thread, since it asks the database
    """
    loop = asyncio.get_running_loop()
    ended, asked_at = False, -_ASK
    while True:
        piece = await asyncio.to_thread(read_piece, path, offset, _FOLLOWED_PIECE, has_ended=ended)
        # The log may have been removed, by age; it does not begin anew.
        offset = max(offset, piece.offset)
        if piece.data:
            yield piece.data
            continue
        if ended:
            return
        await asyncio.sleep(_LOOK)
        if loop.time() - asked_at >= _ASK:
            asked_at = loop.time()
            ended = await asyncio.to_thread(has_ended)
