"""
How far dbt is, said now and then: what it does before its first node, then which nodes run and how many are done.

The log of the task that runs dbt has lines for the start and the end of each node. What these do not say is what goes on while
there are none, and how much is left. `producers.build_watch` asks often.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from dbt_watch.core.labels import label_of
from dbt_watch.core.log.end_of_run import NEVER_RUN
from dbt_watch.core.statuses import STARTED
from dbt_watch.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dbt_watch.core.log.stream import LogStream
    from dbt_watch.core.results import NodeResult, SelectedNode

# In seconds.
FIRST_AFTER: Final = 5.0
INTERVAL: Final = 30.0
MAX_CHARS: Final = 2_000
MAX_NAMES: Final = 5
"""How many nodes are named that run at once."""


class Progress:
    """
    Tells when to say something, and what.

    :param nodes: those of the attempt
    :param clock: tells the time in seconds
    """

    def __init__(
        self, nodes: Mapping[str, SelectedNode], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nodes = frozenset(key for key, node in nodes.items() if not _is_never_told(node))
        self._clock = clock
        self._due: float | None = None
        self._is_first = True
        self._told = ""

    def line(self, stream: LogStream) -> str:
        """
        Return what to say now; nothing mostly: once every 30 s at most, and only what has changed.

        :param stream: the log, as far as it has been read
        """
        if not stream.has_begun:
            return ""
        now = self._clock()
        if self._due is None:
            self._due = now + FIRST_AFTER
        if now < self._due:
            return ""
        is_first, self._is_first = self._is_first, False
        self._due = now + (INTERVAL - FIRST_AFTER if is_first else INTERVAL)
        # A build that is quick to begin has its nodes' lines by then.
        text = "" if is_first and stream.ledger.entries else self._text(stream)
        if not text or text == self._told:
            return ""
        self._told = text
        return printable(text, MAX_CHARS)

    def _text(self, stream: LogStream) -> str:
        entries = stream.ledger.entries
        names = running(entries.values())
        done = sum(entry.is_final and key in self._nodes for key, entry in entries.items())
        if done == len(self._nodes) and not names:
            return ""  # the end is about to be told
        count = f"{done} of {len(self._nodes)} done"
        if names:
            return f"running: {names} ({count})"
        if not stream.has_parsed:
            return f"dbt is parsing the project ({count})"
        return f"no node is running ({count})"


def running(entries: Iterable[NodeResult]) -> str:
    """Return the names of the nodes that run, those first that have run for the longest; empty where none does."""
    found = [entry for entry in entries if entry.status == STARTED]
    found.sort(
        key=lambda entry: ("" if entry.started_at is None else entry.started_at.isoformat(), entry.unique_id)
    )
    names = ", ".join(label_of(entry.unique_id) for entry in found[:MAX_NAMES])
    return names + (f" and {len(found) - MAX_NAMES} more" if len(found) > MAX_NAMES else "")


def _is_never_told(node: SelectedNode) -> bool:
    return node.materialized == "ephemeral" or node.is_empty or node.resource_type in NEVER_RUN
