"""
The log of one container: raw bytes on disk, an index of lines in memory, and readers that follow it as it grows.

Written by `containers`, read by `api.logs`. A line is complete at its newline, at 16 KiB (as container
runtimes cut longer ones; the pieces are put together again when read), or when the container ends. Only the index
is held in memory, 16 bytes per line.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import time
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

# The longest piece of a line that waits for its newline.
PIECE = 16 * 1024
# How much is read from the disk and sent at a time.
BATCH = 256 * 1024


@dataclass(frozen=True, slots=True)
class LogQuery:
    """
    Which part of a log is wanted, and in what form.

    :ivar since: only lines written at this time or later, in nanoseconds since 1970
    :ivar tail: only the last so many lines
    :ivar limit: no more than so many bytes
    """

    follow: bool = False
    timestamps: bool = False
    since: int | None = None
    tail: int | None = None
    limit: int | None = None


class ContainerLog:
    """
    One run of one container.

    :param path: the file to write the bytes to; it is removed by `remove`
    :param clock: gives the time of a line, in nanoseconds since 1970
    """

    def __init__(self, path: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._clock = clock
        self._descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        self._size = 0
        # Of each piece: when it was completed, and where it ends in the file.
        self._times = array("q")
        self._ends = array("q")
        # The pieces that begin a line, for counting lines back from the end.
        self._heads = array("q")
        self._pending = bytearray()
        self._at_line_start = True
        # The first piece that has not been rotated away.
        self._first = 0
        self._grown = asyncio.Event()
        self.closed = False

    def append(self, data: bytes) -> None:
        """Take bytes as they come out of the process."""
        self._pending += data
        stamp = self._clock()
        start = 0
        while (newline := self._pending.find(b"\n", start, start + PIECE)) >= 0 or (
            len(self._pending) - start >= PIECE
        ):
            end = newline + 1 if newline >= 0 else start + PIECE
            self._add(bytes(memoryview(self._pending)[start:end]), stamp)
            start = end
        del self._pending[:start]
        if start:
            self._tell()

    def close(self) -> None:
        """End the log: what is left without a newline becomes the last line."""
        if self._pending:
            self._add(bytes(self._pending), self._clock())
            self._pending.clear()
        self.closed = True
        self._tell()

    def rotate(self) -> None:
        """
        Begin a new file, as a kubelet does when a log has grown too long; only the newest one can be read.

        Who follows the log already loses nothing.
        """
        self._first = len(self._ends)

    def remove(self) -> None:
        """Let go of the file; readers that are still there see the end."""
        self.closed = True
        self._tell()
        os.close(self._descriptor)
        self._descriptor = -1
        self._path.unlink(missing_ok=True)

    async def read(self, query: LogQuery) -> AsyncIterator[bytes]:
        """Yield the wanted part in batches; with `follow`, each line as soon as it is complete."""
        piece = self._first_piece(query)
        left = query.limit
        while True:
            grown = self._grown
            while piece < len(self._ends) and self._descriptor >= 0:
                piece, batch = self._batch(piece, timestamps=query.timestamps)
                if left is not None:
                    batch = batch[:left]
                    left -= len(batch)
                yield batch
                if left == 0:
                    return
            if self.closed or not query.follow:
                return
            await grown.wait()

    def last_lines(self, lines: int, size: int) -> bytes:
        """Return the end of the log, at most so many lines and bytes."""
        piece = self._first_piece(LogQuery(tail=lines))
        return b"".join(self._batches(piece))[-size:]

    def _batches(self, piece: int) -> Iterator[bytes]:
        while piece < len(self._ends) and self._descriptor >= 0:
            piece, batch = self._batch(piece, timestamps=False)
            yield batch

    def _add(self, piece: bytes, stamp: int) -> None:
        os.pwrite(self._descriptor, piece, self._size)
        self._size += len(piece)
        if self._at_line_start:
            self._heads.append(len(self._ends))
        self._times.append(stamp)
        self._ends.append(self._size)
        self._at_line_start = piece.endswith(b"\n")

    def _tell(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _first_piece(self, query: LogQuery) -> int:
        first = self._first
        if query.tail is not None:
            if query.tail == 0:
                return len(self._ends)
            first = max(first, self._heads[-query.tail] if query.tail < len(self._heads) else 0)
        if query.since is not None:
            since = bisect_left(self._heads, bisect_left(self._times, query.since))
            first = max(first, self._heads[since] if since < len(self._heads) else len(self._ends))
        return first

    def _batch(self, piece: int, *, timestamps: bool) -> tuple[int, bytes]:
        """Read from one piece on; return the piece after the last one read, and the bytes."""
        start = self._ends[piece - 1] if piece else 0
        after = max(piece + 1, bisect_left(self._ends, start + BATCH))
        after = min(after, len(self._ends))
        data = os.pread(self._descriptor, self._ends[after - 1] - start, start)
        if not timestamps:
            return after, data
        heads = set(self._heads[bisect_left(self._heads, piece) : bisect_left(self._heads, after)])
        parts = []
        offset = 0
        for index in range(piece, after):
            if index in heads:
                parts.append(rfc3339_nanoseconds(self._times[index]) + b" ")
            end = self._ends[index] - start
            parts.append(data[offset:end])
            offset = end
        return after, b"".join(parts)


def rfc3339_nanoseconds(stamp: int) -> bytes:
    """Return a time in nanoseconds since 1970 as it stands in front of a log line."""
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    # As Go's RFC3339Nano, trailing zeros are left out.
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z".encode()
