"""
Copies what dbt writes into the log of its invocation, line by line: secrets masked, bounded, and never as a whole in memory.

`worker.runner` feeds it. It also copies artifacts, which are one line of any length.
"""

from __future__ import annotations

import json
import shutil
from typing import IO, TYPE_CHECKING, Final

from dbt_watch.core.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from dbt_watch.server.masking import Masker

# In bytes. A longer line is passed on in pieces.
_LONGEST_LINE: Final = 1 << 20
_PIECE: Final = 1 << 20
_LONGEST_ERROR: Final = 1 << 18
_ERROR_MARKS: Final = (b'"level": "error"', b'"level":"error"')
_MESSAGE: Final = 2_000  # characters


class LogCopy:
    """
    The log of one invocation.

    :param output: where it goes
    :param limit: bytes; what comes after is left out, with one line that says so
    """

    def __init__(self, output: IO[bytes], masker: Masker, *, limit: int | None = None) -> None:
        self._output = output
        self._masker = masker
        self._limit = limit
        self._written = 0
        self._is_full = False
        self._carry = b""
        self._error = b""
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        data = self._carry + data
        cut = data.rfind(b"\n") + 1
        whole, self._carry = data[:cut], data[cut:]
        if whole:
            self._write(self._masker(whole))
        if len(self._carry) > _LONGEST_LINE:
            masked = self._masker(self._carry)
            # What may be the beginning of a secret waits for the rest.
            cut = len(masked) - self._masker.overlap
            self._write(masked[:cut])
            self._carry = masked[cut:]

    def close(self) -> None:
        """Take what stands behind the last end of line; write everything."""
        if self._carry:
            self._write(self._masker(self._carry))
            self._carry = b""
        self._output.flush()

    def message(self) -> str:
        """Return what dbt last said of an error, or else its last line."""
        line = self._error or self._last
        try:
            text = str(json.loads(line)["info"]["msg"])
        except (ValueError, KeyError, TypeError):
            text = line.decode(errors="replace")
        return one_line(text, _MESSAGE)

    def _write(self, data: bytes) -> None:
        self._remember(data)
        if self._is_full:
            return
        if self._limit is not None and self._written + len(data) > self._limit:
            # Whole lines only.
            data = data[: data.rfind(b"\n", 0, max(0, self._limit - self._written)) + 1]
            data += (
                b"[dbt-watch server: the log is longer than %d bytes; the rest is left out]\n" % self._limit
            )
            self._is_full = True
        self._output.write(data)
        self._output.flush()
        self._written += len(data)

    def _remember(self, data: bytes) -> None:
        place = max(data.rfind(mark) for mark in _ERROR_MARKS)
        if place >= 0:
            end = data.find(b"\n", place)
            line = data[data.rfind(b"\n", 0, place) + 1 : end if end >= 0 else len(data)]
            self._error = line if len(line) <= _LONGEST_ERROR else self._error
        last = data.rstrip()
        if last:
            self._last = last[last.rfind(b"\n") + 1 :][-_LONGEST_ERROR:]


def copy_masked(source: Path, target: Path, masker: Masker) -> None:
    """Copy a file, its secrets masked; the copy is there as a whole or not at all."""
    partial = target.with_name(f"{target.name}.part")
    with source.open("rb") as reader, partial.open("wb") as writer:
        if masker.overlap:
            copy = LogCopy(writer, masker)
            while data := reader.read(_PIECE):
                copy.feed(data)
            copy.close()
        else:
            shutil.copyfileobj(reader, writer, _PIECE)
    partial.replace(target)
