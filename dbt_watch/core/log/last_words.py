"""
The last lines of a container that are no records of dbt: the reason, where dbt has no record of one.

dbt's usage errors are plain text, and so is what a shell, an entrypoint or Python prints that cannot start dbt.
`core.log.stream` notes the lines; `core.log.end_of_run` asks for the text.
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
        text = printable(line.rstrip(), _MAX_LINE_CHARS)
        if text.strip():
            self._lines.append(text)

    def forget(self) -> None:
        """Forget all lines: a record has followed them."""
        self._lines.clear()

    def text(self) -> str:
        """Return the last line and, if it is indented, those before it up to one that is not; empty if there is none."""
        found: list[str] = []
        for line in reversed(self._lines):
            found.insert(0, line.strip())
            if not line[0].isspace():
                break
        return " ".join(found)
