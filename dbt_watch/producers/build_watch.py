"""
One attempt of a build, watched: from the raw lines of dbt's log to the journal's changes and the task log.

`producers.described_build` makes one for each attempt, and `producers.dbt_trigger` one in a triggerer. It knows neither Kubernetes nor
Airflow, and reads and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from dbt_watch.core.causes import causes_of, has_broken_off
from dbt_watch.core.held_back import HeldBack
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.journal.writer import JournalWriter
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.log.end_of_run import end_of_failed, end_of_unknown
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.progress import Progress
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.log.task_log import failure_lines
from dbt_watch.core.text import one_line, sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dbt_watch.core.log.enclosed_files import EnclosedFiles
    from dbt_watch.core.log.end_of_run import DbtRun
    from dbt_watch.core.log.queries import Queries
    from dbt_watch.core.log.stream import LogUpdate
    from dbt_watch.core.results import NodeResult, SelectedNode


class BuildListener(Protocol):
    """Who else wants to know what the journal is told. Whatever it does must not take time, and must not raise."""

    def take(self, changes: Iterable[NodeResult], run: DbtRun, queries: Queries) -> None:
        """Take the changes that some lines have brought, what the log says of its commands, and what dbt has sent last."""

    def end(self, exit_code: int | None, reason: str | None, run: DbtRun, queries: Queries) -> None:
        """Take the end of dbt, after the last changes."""


class BuildWatch:
    """
    Follows one attempt.

    :param nodes: the selected nodes by unique_id
    :param attempt: the try number of the producer
    :param show: writes a line to the task log
    :param writer: takes the changes; one of its own by default
    :param redact: takes secrets out of a text or of nested values, before anything is written or shown
    :param known: what the journal of this attempt holds already, for one who goes on where another has stopped. The
        log is read from its beginning again; what is known is neither shown nor written
    :param stale: what stale sources mean for this attempt
    :param drift: what it means when the project that dbt runs is not the manifest's
    :param held: what is not built because of what came before
    :param warn: writes a warning to the task log
    :param fail: writes an error to the task log: why the attempt has ended badly, as soon as it has
    :param listener: is told the same changes as the journal; the main query of each node is kept for it
    :param files: collects the files that the container puts into the log
    """

    def __init__(
        self,
        nodes: Mapping[str, SelectedNode],
        *,
        attempt: int,
        show: Callable[[str], None],
        writer: JournalWriter | None = None,
        redact: Callable[[Any], Any] = lambda value: value,
        known: Mapping[str, NodeResult] | None = None,
        stale: StaleSources | None = None,
        drift: Drift | None = None,
        held: HeldBack | None = None,
        warn: Callable[[str], None] = lambda _: None,
        fail: Callable[[str], None] = lambda _: None,
        listener: BuildListener | None = None,
        files: EnclosedFiles | None = None,
    ) -> None:
        self.writer = writer or JournalWriter(attempt=attempt)
        self.closed: Closed | None = None
        """How the attempt ended, once it has."""
        self._nodes = nodes
        self._stale = stale or StaleSources()
        self._drift = drift or Drift()
        self._held = held or HeldBack()
        self._warn = warn
        self._fail = fail
        self._ledger = Ledger(nodes, attempt=attempt, stale=self._stale)
        self._listener = listener
        if listener is not None:
            self._ledger.queries.keep_main()
        self._stream = LogStream(self._ledger, files)
        self._progress = Progress(nodes)
        self._show = show
        self._redact = redact
        self._adopted: list[NodeResult] = []
        self._known = dict(known or {})
        # What it adopted the worker has written before there was a log.
        self._is_catching_up = any(
            key in nodes or entry.resource_type == _HOOK for key, entry in self._known.items()
        )

    @property
    def was_held_back(self) -> bool:
        """Whether the attempt has ended badly only because of what came before, so that another would build no more."""
        return self.closed is not None and self._held.caused(self.closed)

    @property
    def files(self) -> EnclosedFiles:
        """The files that the container has put into the log."""
        return self._stream.files

    def adopt(self, results: Iterable[NodeResult]) -> None:
        """Take what an earlier pod has built as done; the nodes must not be among those of this attempt."""
        self._adopted = list(results)
        self.writer.add(self._adopted)

    def take_lines(self, lines: list[bytes], is_new: bool) -> None:
        """Take raw lines of the log. Such as were read before change nothing, and are not shown again."""
        if not self._is_catching_up:
            self._take(self._stream.feed_lines(lines), is_new)
            return
        for line in lines:  # one by one, to find the first that says anything new
            self._take(self._stream.feed_lines([line]), is_new)

    def tell_progress(self) -> None:
        """Show how far dbt is, now and then; called often."""
        if self.closed is None and not self._is_catching_up and (line := self._progress.line(self._stream)):
            self._show(self._redact(line))

    @property
    def has_records(self) -> bool:
        """Whether any record of dbt has been among the lines."""
        return bool(self._ledger.run.commands)

    @property
    def has_open_nodes(self) -> bool:
        """Whether there are nodes of which no end was read."""
        entries = self._ledger.entries
        return any(key not in entries or not entries[key].is_final for key in self._nodes)

    def end(
        self,
        exit_code: int | None,
        reason: str | None = None,
        *,
        run_results: bytes | None = None,
        no_log: str = "",
    ) -> bool:
        """
        Take the end of the attempt: no node stays open.

        :param run_results: dbt's own results, if they could be had; by default those in the log
        :param no_log: why there is no log, where none could be had
        :returns: False when it has ended before; then nothing changes
        """
        if self.closed is not None:
            return False
        self._is_catching_up = False
        self._take(
            self._stream.close(exit_code, run_results, reason=self._redact(reason), no_log=no_log), True
        )
        end = self._ledger.run.end
        reason = self._redact(end.reason) if end is not None else None
        self.closed = self._judged(Closed(exit_code, reason or None))
        self.writer.close(self.closed.exit_code, reason=self.closed.reason, threads=self._ledger.run.threads)
        for line in self.failure_lines():
            self._fail(line)
        if self._listener is not None:
            why = self.closed.reason or self.summary()
            self._listener.end(exit_code, why, self._ledger.run, self._ledger.queries)
        return True

    def _judged(self, closed: Closed) -> Closed:
        """Return the end of the attempt: dbt may have ended well though something was not as it has to be."""
        entries = {key: self._latest(entry) for key, entry in self._ledger.entries.items()}
        closed = end_of_failed(self._stale.end(closed, entries), entries.values())
        differences = self._drift.between(self._nodes, entries)
        if differences:
            self._warn(f"{differences}. Both must come from the same commit.")
        closed = self._drift.end(closed, differences)
        is_known = bool(self._known) or not self._nodes or self._ledger.has_conclusion
        closed = end_of_unknown(closed, self._ledger.run, entries.values(), is_known=is_known)
        return self._held.end(closed)

    def _latest(self, entry: NodeResult) -> NodeResult:
        """Return what the journal holds of a node, where that is more than what was read of the log."""
        known = self._known.get(entry.unique_id)
        return known if known is not None and known.is_final and entry.was_not_run else entry

    @property
    def results(self) -> list[NodeResult]:
        """All entries, in the order in which dbt came to them."""
        return [*self._adopted, *map(self._without_secrets, self._ledger.entries.values())]

    def failure_lines(self) -> list[str]:
        """Return why the attempt has ended badly, the first root cause first; nothing where it has ended well."""
        return [] if self.closed is None else failure_lines(self._journal(), self.closed)

    def _journal(self) -> dict[str, NodeResult]:
        """Return the last word on each node, as the journal has it."""
        entries = {
            key: self._without_secrets(self._latest(entry)) for key, entry in self._ledger.entries.items()
        }
        return {**self._known, **{result.unique_id: result for result in self._adopted}, **entries}

    def summary(self) -> str:
        """Return in one line what became of the nodes: the first root cause, counts, and the names of those that failed."""
        results, closed = self._journal(), self.closed or Closed(0)
        cause = root_cause_of(results, broke_off=has_broken_off(closed, results))
        return summary_of(self.results, cause)

    def _take(self, update: LogUpdate, is_new: bool) -> None:
        changes = map(self._without_secrets, update.changes)
        news = [change for change in changes if self._is_news(change)]
        self.writer.add(news)
        if self._listener is not None:
            self._listener.take(news, self._ledger.run, self._ledger.queries)
        if news:
            self._is_catching_up = False
        if is_new and not self._is_catching_up:
            for line in update.lines:
                self._show(self._redact(line))

    def _without_secrets(self, result: NodeResult) -> NodeResult:
        texts = {name: self._redact(value) for name in _TEXTS if (value := getattr(result, name))}
        return msgspec.structs.replace(result, **texts) if texts else result

    def _is_news(self, change: NodeResult) -> bool:
        """Return whether the journal does not hold this yet; a node that has ended in it stays ended."""
        known = self._known.get(change.unique_id)
        if known is None:
            return True
        if known.is_final and (change.was_not_run or not change.is_final):
            return False
        if change == known:
            return False
        del self._known[change.unique_id]
        return True


def root_cause_of(results: Mapping[str, NodeResult], *, broke_off: bool) -> str:
    """Return the node that is the first root cause with its text; empty where dbt gave none, or it is no node."""
    first = next(iter(causes_of(results, broke_off=broke_off, why="")), None)
    node = results.get(first.node or "") if first is not None else None
    if node is None or not node.message:
        return ""
    return f"{node.label}: {one_line(node.message, MAX_CAUSE_CHARS)}"


def summary_of(results: Sequence[NodeResult], root_cause: str) -> str:
    """Return in one line what became of some nodes, the root cause first."""
    failed = [result for result in results if result.is_failure]
    counts = Counter(result.status for result in results)
    parts = [root_cause, ", ".join(f"{number} {status}" for status, number in counts.most_common())]
    if failed:
        names = ", ".join(result.label for result in failed[:MAX_NAMES])
        parts.append(f"failed: {names}" + (" ..." if len(failed) > MAX_NAMES else ""))
    return sanitize("; ".join(filter(None, parts)) or "no node was reported")


_HOOK = "operation"
MAX_CAUSE_CHARS = 600
MAX_NAMES = 10
# What a result says in words of the project or the database.
_TEXTS = ("message", "sql", "adapter_response")
