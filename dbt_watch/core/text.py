"""
Sanitizes foreign text: removes terminal colours, makes control characters visible, bounds the length.

Whatever comes from dbt, a database, a container or a manifest passes through here before a person reads it: in task logs,
results, reasons of failures, on the command line.
"""

from __future__ import annotations

import re
from typing import Final

# CSI sequences, OSC sequences (a window title, a link) up to their end, and two-character escapes.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def without_escapes(text: str) -> str:
    """Return a text without what only a terminal understands: colours, cursor moves, links."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


# Fusion appends the frames of its own program to an error: "   0: <unknown>", "   8: start_thread", ...
_FRAME: Final = re.compile(r" +(?:\d+: |at )")
_FIRST_FRAME: Final = re.compile(r" +0: .")


def without_backtrace(text: str) -> str:
    """Return an error without the frames of Fusion's own program at its end."""
    if "\n" not in text or " 0: " not in text:
        return text
    # From the end, line by line: a pattern for all frames would try each of a million lines as the first one.
    kept, line_end = text, len(text.rstrip())
    while (line_start := text.rfind("\n", 0, line_end) + 1) and _FRAME.match(text, line_start, line_end):
        if _FIRST_FRAME.match(text, line_start, line_end):
            kept = text[: line_start - 1]
        line_end = line_start - 1
    return kept


def printable(line: str, limit: int) -> str:
    """
    Return one line sanitized: without terminal escapes, every other control character written as its code.

    :param line: without an end of line; one inside is written as its code too
    :param limit: the maximum number of characters, before a mark that says how many are gone
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


def sanitize(text: str) -> str:
    """Return a text of several lines sanitized, each as by `printable`, and nothing cut off."""
    if text.replace("\n", "").isprintable():
        return text
    text = without_escapes(text).replace("\r\n", "\n")
    return "\n".join(printable(line, len(line) + _TABS * line.count("\t")) for line in text.split("\n"))


def one_line(text: str, limit: int) -> str:
    """Return a text of several lines as one sanitized line of about `limit` characters, its beginning and its end kept."""
    # A database points with carets at the place in the line above, which is there no more.
    line = printable(" ".join(word for word in text.split() if word.strip("^")), len(text))
    if len(line) <= limit:
        return line
    head, tail = limit * 3 // 4, limit // 4
    return f"{line[:head]} [...] {line[-tail:]}"


_TABS: Final = 3  # a tab becomes so many characters more


def _shown(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - the widths of these notations
