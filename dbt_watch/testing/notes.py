"""What the commands of a `FakeDbt` have done, kept in a file beside its script: written by `player`, read by `commands`."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

NOTES: Final = "notes.jsonl"
"""The file of the notes, beside the script."""


class Notes:
    """
    What the commands of one `FakeDbt` have done, in whichever pods they ran.

    :param path: of the file
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._earlier = read_notes(path)

    def add(self, note: str, **values: Any) -> None:
        """Note something; a line is written at once, since other pods may write too."""
        line = json.dumps({"note": note, **values}) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def count(self, **values: Any) -> int:
        """Return how many earlier notes say this."""
        return sum(values.items() <= note.items() for note in self._earlier)


def read_notes(path: Path) -> list[dict[str, Any]]:
    """Return the notes so far, oldest first."""
    notes = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # a process may have been killed in the middle of a line
                notes.append(json.loads(line))
    return notes
