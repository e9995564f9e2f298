"""
One attempt of a build, watched: from the raw lines of a pod's log to the journal and the task log.

`producers.pod` makes one for each attempt. It knows neither Kubernetes nor Airflow, only where to push pages to.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from dbt_watch.core.journal import Closed, JournalWriter
from dbt_watch.core.ledger import Ledger
from dbt_watch.core.stream import LogStream
from dbt_watch.producers.pen import Pen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbt_watch.core.results import NodeResult, SelectedNode
    from dbt_watch.core.stream import Batch

log = logging.getLogger(__name__)


class BuildWatch:
    """
    Follows one attempt.

    :param nodes: the selected nodes by unique_id
    :param attempt: the try number of the producer
    :param will_retry: whether another attempt follows if this one ends badly
    :param born: when Airflow made this attempt, in seconds since the epoch
    :param push: stores an XCom of the producer under a key
    :param show: writes a line to the task log
    """

    def __init__(
        self,
        nodes: Mapping[str, SelectedNode],
        *,
        attempt: int,
        will_retry: bool,
        born: float = 0.0,
        push: Callable[[str, str | int], None],
        show: Callable[[str], None],
    ) -> None:
        self._ledger = Ledger(nodes, attempt=attempt)
        self._stream = LogStream(self._ledger)
        self._writer = JournalWriter(attempt=attempt)
        self._pen = Pen(self._writer, push, will_retry=will_retry, born=born)
        self._show = show
        self.closed: Closed | None = None
        """How the attempt ended, once it has."""

    def open(self) -> None:
        """Begin the journal."""
        self._pen.open()

    def take_lines(self, lines: list[bytes], is_new: bool) -> None:
        """Take raw lines of the log. Such as were read before change nothing, and are not shown again."""
        batch = self._stream.feed_lines(lines)
        self._writer.add(batch.changes)
        if is_new:
            self._show_lines(batch)

    def tick(self) -> None:
        """Write what is due; called often."""
        self._pen.write()

    def close(self, exit_code: int | None, reason: str | None = None) -> None:
        """End the journal, once: no node stays open."""
        if self.closed is not None:
            return
        self.closed = Closed(exit_code, reason)
        batch = self._stream.close(exit_code, reason=reason)
        self._writer.add(batch.changes)
        self._writer.close(exit_code, reason=reason)
        self._show_lines(batch)
        self._pen.finish()

    @property
    def results(self) -> list[NodeResult]:
        """All entries, in the order in which dbt came to them."""
        return list(self._ledger.entries.values())

    def summary(self) -> str:
        """Say in one line what became of the nodes: counts, and the names of those that failed."""
        counts = Counter(result.status for result in self.results)
        text = ", ".join(f"{number} {status}" for status, number in counts.most_common())
        failed = [result.name for result in self.results if result.is_failure]
        if failed:
            text += f"; failed: {', '.join(failed[:MAX_NAMES])}" + (" ..." if len(failed) > MAX_NAMES else "")
        return text or "no node was reported"

    def _show_lines(self, batch: Batch) -> None:
        for line in batch.lines:
            self._show(line)


MAX_NAMES = 10
