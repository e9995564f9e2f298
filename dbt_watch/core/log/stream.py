"""
Turns a log, as it arrives, into lines for a task log and changes of nodes: lines, events and ledger in one.

`producers.build_watch` feeds it the lines of a pod, `dbt-watch replay` the bytes of a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.log.enclosed_files import EnclosedFiles
from dbt_watch.core.log.event_roles import MAX_THREADS, MEANS, PARSED, THREADS, Role
from dbt_watch.core.log.events import QUERY, DbtEvent, decode_lines, is_noise, is_query, read_line
from dbt_watch.core.log.invocations import Invocations
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.core.log.task_log import line_of_text, lines_of_message, tell_changes, tell_end
from dbt_watch.core.results import NodeResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbt_watch.core.log.ledger import Ledger

_REMEMBERED: Final = 4_096


class LogUpdate(msgspec.Struct, gc=False):
    """
    What came of some lines.

    :param lines: for the task log
    :param changes: the nodes whose entry changed, in order; a node may come twice
    """

    lines: list[str]
    changes: list[NodeResult]


class LogStream:
    """
    Reads one log.

    Events reach the ledger only from dbt commands that are believed (`core.log.invocations`); messages of others are shown.

    A record that is read again, after a reader went back a little, shows nothing and changes nothing. Free text has no
    time, so a repetition of it cannot be recognised here; that is up to the reader.

    :param ledger: collects the state of the nodes
    :param files: collects the files that the container has put into the log
    :ivar has_begun: whether dbt has written anything
    :ivar has_parsed: whether the latest command has parsed the project
    """

    def __init__(self, ledger: Ledger, files: EnclosedFiles | None = None) -> None:
        self.ledger = ledger
        self.has_begun = self.has_parsed = False
        self.files = files or EnclosedFiles()
        self._invocations = Invocations(ledger.run.is_over)
        self._splitter = LineSplitter()
        self._has_debug = False
        self._told: dict[str, NodeResult] = {}
        self._shown: dict[tuple[str, str, int], None] = {}

    def feed(self, data: bytes) -> LogUpdate:
        """Read the next bytes, cut anywhere."""
        return self.feed_lines(self._splitter.feed(data))

    def feed_lines(self, lines: list[bytes]) -> LogUpdate:
        """Read whole lines, without their ends; not to be mixed with `feed`."""
        lines = self.files.sift(lines)
        # In a debug log most lines are noise, which is cheaper not to decode at all.
        events = decode_lines(lines) if not self._has_debug else None
        return self._take(events if events is not None else self._read(lines))

    def close(
        self,
        exit_code: int | None,
        run_results: bytes | None = None,
        *,
        reason: str | None = None,
        no_log: str = "",
    ) -> LogUpdate:
        """
        End the log.

        :param exit_code: dbt's; None when it is not known
        :param run_results: the content of run_results.json, if there is one; by default the one in the log
        :param reason: why dbt ended, where that is known from outside
        :param no_log: see `Ledger.close`
        """
        update = self.feed_lines(self._splitter.flush())
        for event in self._invocations.rest():
            update.changes += self.ledger.apply(event)
        results = self.files.results if run_results is None else run_results
        changes = self.ledger.close(exit_code, results, reason=reason, no_log=no_log)
        tell_end(update.lines, changes, self._told)
        update.changes += changes
        return update

    def _read(self, lines: list[bytes]) -> Iterator[DbtEvent | str]:
        """Yield the events in some lines, and the texts that are not dbt's."""
        for line in lines:
            # At info every record is needed; looking for noise pays only where there is some.
            if self._has_debug and is_noise(line):
                if is_query(line) and self._invocations.wrote(line):
                    self.ledger.queries.note_record(line)
                continue
            yield from read_line(line)

    def _take(self, parts: Iterable[DbtEvent | str]) -> LogUpdate:
        update = LogUpdate([], [])
        apply, told, lines = self.ledger.apply, self._told, update.lines
        last_words = self.ledger.run.last_words
        invocations = self._invocations
        for part in parts:
            if isinstance(part, str):
                last_words.note(part)
                if part:
                    lines.append(line_of_text(part))
                continue
            last_words.forget()
            is_current = part.info.invocation_id == invocations.current
            changes = apply(part) if is_current else self._sifted(part)
            if changes:
                update.changes += changes
                self.has_parsed = True
                tell_changes(lines, changes, told, part.info.ts)
            elif part.info.level == "debug":
                self._has_debug = True
                if is_current and part.info.name == QUERY:
                    self.ledger.queries.note(part.unique_id, part.data.sql)
            else:
                self._note_phase(part)
                if (message := lines_of_message(part)) and self._is_new(part):
                    lines += message
        return update

    def _note_phase(self, event: DbtEvent) -> None:
        name, threads = event.info.name, event.data.num_threads
        if name == PARSED:
            self.has_parsed = True
        elif MEANS.get(name) is Role.COMMAND:
            self.has_begun, self.has_parsed = True, False
        elif name == THREADS and threads is not None and 0 < threads <= MAX_THREADS:
            self.ledger.run.threads = threads

    def _sifted(self, event: DbtEvent) -> list[NodeResult]:
        """Apply an event of another command than the current one, as far as it counts."""
        events = self._invocations.sift(event)
        return [change for counted in events for change in self.ledger.apply(counted)]

    def _is_new(self, event: DbtEvent) -> bool:
        key = (event.info.ts, event.info.name, hash(event.info.msg))
        if key in self._shown:
            return False
        self._shown[key] = None
        if len(self._shown) > _REMEMBERED:
            del self._shown[next(iter(self._shown))]
        return True
