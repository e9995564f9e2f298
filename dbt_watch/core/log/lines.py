r"""
Cuts bytes, as they arrive, into whole lines.

`producers.pods.log_following` uses it for a pod's log, `core.log.stream` for a file. Only b"\n" ends a
line: Fusion writes raw U+2028 inside strings, which `splitlines` would cut.
"""

from __future__ import annotations

from typing import Final

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""How much of one line is kept. dbt's longest lines are about 0.8 MB; the bound is for a writer that never ends one."""


class LineSplitter:
    """
    Collects bytes and returns whole lines.

    Memory is bounded by one line of `max_line_bytes`; the rest of a longer line is dropped, and the line says so at
    its end.

    :param max_line_bytes: how many bytes of one line are kept
    """

    __slots__ = ("_dropped", "_held", "_limit", "_pieces")

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = max_line_bytes
        self._pieces: list[bytes] = []
        self._held = 0
        self._dropped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the lines that they complete, without their ends."""
        first, *lines = data.split(b"\n")
        self._hold(first)
        if not lines:
            return []
        rest = lines.pop()
        whole = [self._take(), *lines]
        self._hold(rest)
        return [self._finished(line) for line in whole]

    def flush(self) -> list[bytes]:
        """Return what is left when no more bytes come: the last line, if it had no end."""
        return [self._finished(self._take())] if self._pieces else []

    def _finished(self, line: bytes) -> bytes:
        over = len(line) - self._limit
        if over > 0 and not line.endswith(_MARK_END):
            line = line[: self._limit] + _mark(over)
        return line[:-1] if line.endswith(b"\r") else line

    def _hold(self, piece: bytes) -> None:
        room = self._limit - self._held
        if len(piece) > room:
            self._dropped += len(piece) - room
            piece = piece[:room]
        if piece:
            self._pieces.append(piece)
            self._held += len(piece)

    def _take(self) -> bytes:
        line = b"".join(self._pieces)
        if self._dropped:
            line += _mark(self._dropped)
        self._pieces.clear()
        self._held = self._dropped = 0
        return line


_MARK_END: Final = b" more bytes of this line dropped]"


def _mark(dropped: int) -> bytes:
    return b" [%d" % dropped + _MARK_END
