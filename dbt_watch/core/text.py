"""
Foreign text made fit to be read: terminal colours taken out, control characters made visible, length bounded.

Used by the ledger for messages and by `core.readable` for the task log.
"""

from __future__ import annotations

import re
from typing import Final

# CSI sequences, OSC sequences (a window title, a link) up to their end, and two-character escapes.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def without_escapes(text: str) -> str:
    """Take out what only a terminal understands: colours, cursor moves, links."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


# Fusion appends the frames of its own program to an error: "   0: <unknown>", "   8: start_thread", ...
_BACKTRACE: Final = re.compile(r"\n +0: [^\n]+(?:\n +(?:\d+: |at )[^\n]*)*\s*\Z")


def without_backtrace(text: str) -> str:
    """Take the frames of Fusion's own program from the end of an error."""
    return _BACKTRACE.sub("", text) if " 0: " in text else text


def printable(line: str, limit: int) -> str:
    """
    Make one line harmless: without terminal escapes, every other control character written as its code.

    :param line: without an end of line; one inside is written as its code too
    :param limit: how many characters may come out, before a mark that says how many are gone
    """
    if len(line) <= limit and line.isprintable():
        return line
    line = without_escapes(line.replace("\t", "    "))
    gone = len(line) - limit
    if gone > 0:
        line = line[:limit]
    if not line.isprintable():
        line = "".join(char if char.isprintable() else _shown(char) for char in line)
    return f"{line} [{gone} more characters]" if gone > 0 else line


def _shown(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - the widths of these notations
