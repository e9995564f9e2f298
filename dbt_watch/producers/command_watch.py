"""
A command of dbt that builds no project, watched: from the raw lines of its log to the task log, and to what the task returns.

`producers.pods.command_operator` and `producers.api.command_operator` make one for each attempt. There is no journal: no task waits
for a node here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.log.events import MISREAD, decode_record
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.text import one_line, sanitize, without_backtrace, without_escapes
from dbt_watch.producers.attempt import failure_of
from dbt_watch.producers.build_watch import root_cause_of, summary_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbt_watch.core.log.events import DbtEvent
    from dbt_watch.core.log.stream import LogUpdate
    from dbt_watch.core.results import NodeResult
    from dbt_watch.exceptions import DbtWatchError

# What dbt says before it comes to the command, and lines that are there for the eye.
_PREAMBLE: Final = frozenset({
    "MainReportVersion", "AdapterRegistered", "UnableToPartialParse", "FoundStats", "ConcurrencyLine", "Formatting",
    "PartialParsingNotEnabled",
})  # fmt: skip
_COMPLETED: Final = b'"CommandCompleted"'
_TOLD: Final = (b'"level": "info"', b'"level":"info"', b'"level": "error"', b'"level":"error"')
_MAX_MESSAGE_CHARS: Final = 2_000


class _Elapsed(msgspec.Struct):
    elapsed: float


class _Completed(msgspec.Struct):
    data: _Elapsed


_decode_end: Final = msgspec.json.Decoder(_Completed).decode


class CommandWatch:
    """
    Follows one attempt.

    :param words: what dbt is called with, for the result
    :param attempt: the try number of the task
    :param show: writes a line to the task log
    :param redact: takes secrets out of a text
    """

    # What a reader of a server's log asks.
    has_open_nodes = False

    def __init__(
        self,
        words: Iterable[str],
        *,
        attempt: int,
        show: Callable[[str], None],
        redact: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._command = " ".join(words)
        self._show = show
        self._redact = redact
        self._ledger = Ledger(attempt=attempt)
        self._stream = LogStream(self._ledger)
        self._has_records = False
        self._message: str | None = None
        self._error: str | None = None
        self._seconds: float | None = None
        self._exit_code: int | None = None
        self._reason: str | None = None
        self._is_over = False

    @property
    def has_records(self) -> bool:
        """Whether any record of dbt has been among the lines."""
        return self._has_records

    @property
    def is_over(self) -> bool:
        """Whether the end of dbt has been told."""
        return self._is_over

    @property
    def exit_code(self) -> int | None:
        """What dbt has ended with; None where that is not known."""
        return self._exit_code

    def take_lines(self, lines: list[bytes], is_new: bool) -> None:
        """Take raw lines of the log. Such as were read before are not shown again."""
        for line in lines:
            if any(mark in line for mark in _TOLD):
                self._note(line)
            elif _COMPLETED in line:
                self._note_end(line)
        self._tell(self._stream.feed_lines(lines), is_new)

    def end(self, exit_code: int | None, reason: str | None = None, *, no_log: str = "") -> None:
        """Take the end of dbt, once."""
        if self._is_over:
            return
        self._is_over = True
        self._exit_code = exit_code
        # Nothing waits for a node, so what became of one whose end dbt did not tell is nothing to tell either.
        self._stream.close(exit_code, reason=self._redact(reason), no_log=no_log)
        end = self._ledger.run.end
        self._reason = self._redact(end.reason) if end is not None else reason

    @property
    def results(self) -> list[NodeResult]:
        """What dbt reported of nodes, in the order in which it came to them."""
        return [entry for entry in self._ledger.entries.values() if not entry.was_not_run]

    def result(self) -> dict[str, Any]:
        """
        Return what the task returns, once dbt has ended well.

        :returns: `command`, `status`, `seconds` (by dbt's own clock; None where it did not tell), `message`: the last thing that dbt
            or a macro has said, and `nodes`: how many ended in each state
        """
        return {
            "command": self._command,
            "status": "success" if self._exit_code == 0 else "error",
            "seconds": self._seconds,
            "message": self._message,
            "nodes": dict(Counter(result.status for result in self.results)),
        }

    def failure(self, lost: Callable[[str], DbtWatchError]) -> DbtWatchError:
        """
        Say what became of dbt, once it has ended, and not well.

        :param lost: makes the error where there is no exit code
        """
        results = self.results
        cause = root_cause_of({result.unique_id: result for result in results}, broke_off=False)
        return failure_of(
            self._exit_code,
            self._reason or self._error,
            self._redact(summary_of(results, cause)) if results else "",
            lost,
        )

    def _note(self, line: bytes) -> None:
        try:
            event = decode_record(line)
        except MISREAD:
            return
        self._has_records = True
        if event.info.level == "error":
            self._error = self._text_of(event)
        elif event.info.level == "info" and event.info.name not in _PREAMBLE:
            self._message = self._text_of(event) or self._message

    def _note_end(self, line: bytes) -> None:
        try:
            self._seconds = round(_decode_end(line).data.elapsed, 3)
        except MISREAD:
            return

    def _text_of(self, event: DbtEvent) -> str:
        text = without_backtrace(without_escapes(event.info.msg))
        return str(self._redact(sanitize(one_line(text, _MAX_MESSAGE_CHARS))))

    def _tell(self, update: LogUpdate, is_new: bool) -> None:
        for line in update.lines if is_new else ():
            self._show(self._redact(line))
