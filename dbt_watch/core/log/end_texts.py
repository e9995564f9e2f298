"""
The error texts at the end of a run, where dbt does not say which node they belong to.

dbt-core 1.8 and newer name the node in these events. 1.5 to 1.7 do not: a text begins with "... Error in model NAME
(PATH)", or follows a line that names a failed test; 1.5 writes one event per line of text. Called by `core.log.ledger`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.results import MAX_MESSAGE_CHARS

if TYPE_CHECKING:
    from dbt_watch.core.log.events import DbtEvent


class Target(msgspec.Struct, frozen=True, gc=False):
    """Which node a text is about, as far as the log says: its type, name and file."""

    resource_type: str
    name: str
    path: str


class EndText(msgspec.Struct, frozen=True, gc=False):
    """A text, complete or growing, and its node."""

    target: Target
    text: str


# A longer first line is none of dbt's, and looking for the pattern in it would take for ever.
_MAX_HEAD_CHARS: Final = 1_000
_IN_NODE: Final = re.compile(r"\w[\w ]* in (\w[\w ]*?) (\S+) \((.+?)\)\s*$")
_NAMES_NODE: Final = frozenset({"RunResultFailure", "RunResultWarning"})


class EndTexts:
    """
    Puts together the texts of one log.

    The events come one after the other from dbt's main thread, so a repeated one is told by its time.
    """

    def __init__(self) -> None:
        self._latest = ""
        self._target: Target | None = None
        self._lines: list[str] = []
        self._chars = 0

    def read(self, event: DbtEvent) -> EndText | None:
        """Take the next event; give the text that it completes or makes longer, if its node is known."""
        if event.info.ts <= self._latest:
            return None
        self._latest = event.info.ts
        data, name = event.data, event.info.name
        if name in _NAMES_NODE:
            self._target = Target(data.resource_type or "", data.node_name or "", data.path or "")
            self._lines = []
            return None
        text = data.msg if data.msg is not None else event.info.msg
        if name != "AfterFirstRunResultError":
            self._target = _target_in(text) or (self._target if name != "FirstRunResultError" else None)
            self._lines, self._chars = [], 0
        if self._target is None or self._chars > MAX_MESSAGE_CHARS:
            return None
        self._lines.append(text)
        self._chars += len(text) + 1
        return EndText(self._target, "\n".join(self._lines))


def _target_in(text: str) -> Target | None:
    head = text.lstrip()[: _MAX_HEAD_CHARS + 1].rstrip().split("\n", 1)[0]
    match = _IN_NODE.match(head) if len(head) <= _MAX_HEAD_CHARS else None
    return Target(match[1], match[2], match[3]) if match else None
