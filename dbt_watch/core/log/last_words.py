"""
What a container said last, outside of dbt's records: the reason of an end for which dbt has no record.

dbt's usage errors are plain text, and so is what a shell, an entrypoint or Python says that cannot start dbt. Called by
`core.log.stream`; `core.log.end_of_run` asks for it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from dbt_watch.core.text import printable

_MAX_LINES: Final = 8
_MAX_LINE_CHARS: Final = 500


class LastWords:
    """The lines since the last record, at most eight."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)

    def note(self, line: str) -> None:
        """Take a line that is no record."""
        if line.strip():
            self._lines.append(printable(line.rstrip(), _MAX_LINE_CHARS))

    def forget(self) -> None:
        """Take note of a record: what was said before it was not the last."""
        self._lines.clear()

    def text(self) -> str:
        """Return the last line and, if it is indented, those before it up to one that is not; empty if there is none."""
        found: list[str] = []
        for line in reversed(self._lines):
            found.insert(0, line.strip())
            if not line[0].isspace():
                break
        return " ".join(found)
