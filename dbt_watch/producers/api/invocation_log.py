"""
Follows an invocation to its end, and its log as it grows: a procedure (see `core.steps`) for a worker and a triggerer.

Three kinds of servers, told apart by what they answer:

- the one of this library gives the log by its offset as soon as there is more, and says when nothing follows;
- one in the field gives the whole log so far with each answer about the state, as `log_content`;
- one that gives no log, or none with records of dbt: then dbt's own results are read at the end.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dbt_watch.core.backoff import Backoff
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.core.steps import Pause
from dbt_watch.exceptions import ServerError
from dbt_watch.producers.api.answers import ABORTED, FAILURE, NOT_FOUND, PENDING, SUCCESS
from dbt_watch.producers.api.protocol import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    from dbt_watch.producers.api.answers import RemoteInvocation
    from dbt_watch.producers.api.protocol import Ask, DbtServer, LogPart, Renew
    from dbt_watch.producers.build_watch import BuildWatch
    from dbt_watch.producers.command_watch import CommandWatch

    Step: TypeAlias = Ask | Renew | Pause

log = logging.getLogger(__name__)

# In seconds.
# After a part of the log, so that the next one holds more than a line; longer with each, since a short build ends in a second.
LOG_PAUSE_FIRST: Final = 0.02
LOG_PAUSE_LIMIT: Final = 0.2
LOG_PAUSE_FACTOR: Final = 1.1
LOG_POLL_FIRST: Final = 0.4  # of a server that does not wait until there is more
LOG_POLL_LIMIT: Final = 3.0
STATE_POLL_FIRST: Final = 0.7
STATE_POLL_LIMIT: Final = 10.0
REST_PATIENCE: Final = 60.0  # how long the end of a log is tried for once dbt has ended
LOST_POLL: Final = 1.0
LOST_AFTER: Final = 10.0  # how long an invocation that was known may be unknown before it counts as lost
JITTER: Final = 0.2
DUTY: Final = 4.0
"""How many times as long as the last answer took the next pause is at least, where each answer holds the whole log."""


class RemoteEnd(NamedTuple):
    """
    How an invocation has ended.

    :param exit_code: of dbt; None when dbt did not get to its end
    :param reason: why, where the log may not tell
    :param run_results: dbt's own results, where the log does not tell of all nodes
    :param no_log: why nothing is known from a log; empty where there is one
    """

    exit_code: int | None
    reason: str | None = None
    run_results: bytes | None = None
    no_log: str = ""


class InvocationFollowing:
    """
    Follows one invocation.

    :param server: what is asked
    :param task_id: the server's id of the invocation
    :param watch: takes the lines of the log
    :param results: the artifact in which dbt's own results are
    """

    def __init__(
        self,
        server: DbtServer,
        task_id: str,
        watch: BuildWatch | CommandWatch,
        *,
        results: str = "run_results.json",
    ) -> None:
        self._server = server
        self._task_id = task_id
        self._watch = watch
        self._results = results
        self._splitter = LineSplitter()
        self._offset = 0
        self._has_own_log: bool | None = None
        self._is_complete = False
        self._content = _GrowingText()
        self._told: set[str] = set()
        self._log_pace = Backoff(LOG_PAUSE_FIRST, LOG_PAUSE_LIMIT, factor=LOG_PAUSE_FACTOR)

    def steps(self) -> Generator[Step, Any, RemoteEnd]:
        """
        Follow the invocation to its end.

        :raises ServerError: when the server does not answer for too long, or refuses
        """
        pace = Backoff(STATE_POLL_FIRST, STATE_POLL_LIMIT, factor=1.5, jitter=JITTER)
        unknown_since: float | None = None
        while True:
            found = yield from self._server.look(self._task_id)
            if found.state == NOT_FOUND:
                unknown_since = unknown_since or time.monotonic()
                if time.monotonic() - unknown_since > LOST_AFTER:
                    self._take(self._splitter.flush())
                    return self._lost()
                yield Pause(LOST_POLL)
                continue
            unknown_since = None
            self._tell_state(found)
            began = time.monotonic()
            news = yield from self._read_log(found)
            if not found.is_open:
                return (yield from self._end(found))
            if news:
                pace.reset()
                if self._is_complete:
                    continue  # by now dbt has ended, or is about to
            if time.monotonic() - began > STATE_POLL_LIMIT / 2:
                yield Pause(self._log_pace.next())  # it is the log that is waited for
                continue
            pause = pace.next()
            yield Pause(max(pause, DUTY * found.seconds) if found.log_content is not None else pause)

    def _lost(self) -> RemoteEnd:
        reason = f"the server no longer knows the invocation {self._task_id}"
        return RemoteEnd(None, reason, no_log="" if self._watch.has_records else self._why_no_log())

    def _read_log(self, found: RemoteInvocation) -> Generator[Step, Any, bool]:
        """Read what there is of the log, and one that is read by its offset until it is complete. Return whether any came."""
        if found.log_content is not None:
            return self._take_content(found.log_content)
        if self._has_own_log is False or self._is_complete:
            return False
        return (yield from self._read_by_offset(found))

    def _read_by_offset(self, found: RemoteInvocation) -> Generator[Step, Any, bool]:
        pace = Backoff(LOG_POLL_FIRST, LOG_POLL_LIMIT, factor=1.5, jitter=JITTER)
        has_come = False
        # Then the state is looked at once more: that a log is complete may never be told.
        patience = STATE_POLL_LIMIT if found.is_open else REST_PATIENCE
        give_up_at = time.monotonic() + patience
        while True:
            part = yield from self._part(found)
            if part is None:
                return has_come
            if part.offset < self._offset:
                log.warning("The server's log has become shorter; reading it again from the beginning")
                self._offset, self._splitter = 0, LineSplitter()
                yield Pause(pace.next())
                continue
            self._offset = part.offset
            if part.content:
                has_come = True
                pace.reset()
                give_up_at = time.monotonic() + patience
                self._tell_that_it_runs()
                self._take(self._splitter.feed(part.content))
            self._is_complete = part.is_complete
            if part.is_complete:
                return has_come
            if time.monotonic() > give_up_at:
                if not found.is_open:
                    log.warning(
                        "The server has not reported that its log is complete; the last lines may be missing"
                    )
                return has_come
            if part.content:
                yield Pause(self._log_pace.next())
            elif not part.was_awaited:
                yield Pause(pace.next())

    def _part(self, found: RemoteInvocation) -> Generator[Step, Any, LogPart | None]:
        """Read the next part; None where there is none to be had."""
        patience = PATIENCE if found.is_open else REST_PATIENCE
        try:
            part = yield from self._server.log_part(self._task_id, self._offset, patience)
        except ServerError as error:
            if found.is_open:
                raise
            log.warning("The end of the log could not be read (%s); the last lines may be missing", error)
            return None
        if part is not None:
            self._has_own_log = True
        elif self._has_own_log is None and found.state != PENDING:
            self._has_own_log = False
            self._tell(
                f"The server provides no log; how the nodes ended may be known only at the end, from {self._results}"
                " alone, at the end"
            )
        return part

    def _take_content(self, text: str) -> bool:
        """Take the whole log so far."""
        new = self._content.more(text)
        if new is None:
            log.warning("The server's log does not continue where it left off; reading all of it again")
            self._splitter = LineSplitter()
            new = text
        if new:
            self._take(self._splitter.feed(new.encode(errors="replace")))
        return bool(new)

    def _take(self, lines: list[bytes]) -> None:
        if lines:
            self._watch.take_lines(lines, True)

    def _tell_state(self, found: RemoteInvocation) -> None:
        if found.state == PENDING:
            self._tell("The invocation is queued on the server")
        elif found.is_open:
            self._tell_that_it_runs()

    def _tell_that_it_runs(self) -> None:
        if self._told:
            self._tell("The server is running dbt")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.info("%s", text)

    # The end.

    def _end(self, found: RemoteInvocation) -> Generator[Step, Any, RemoteEnd]:
        self._take(self._splitter.flush())
        exit_code, reason = end_of(found)
        run_results = None
        has_log = self._watch.has_records
        if self._watch.has_open_nodes and exit_code is not None:
            run_results = yield from self._server.artifact(self._task_id, self._results)
        if not has_log and run_results is not None:
            log.info("Reading how the nodes ended from %s: the server provides no dbt log", self._results)
        no_log = ""
        if not has_log:
            missing = "" if run_results is not None else f", and no {self._results}"
            no_log = f"{self._why_no_log()}{missing}"
        if has_log and exit_code is not None:
            reason = None  # dbt itself has said more
        return RemoteEnd(exit_code, reason, run_results, no_log)

    def _why_no_log(self) -> str:
        if self._content.length or self._offset:
            return "the server's log contains no record from dbt"
        return "the server provides no log"


class _GrowingText:
    """A text that comes as a whole again and again, each time with more at its end."""

    def __init__(self) -> None:
        self.length = 0
        self._digest = hash("")

    def more(self, text: str) -> str | None:
        """Return what is new at its end; None when it is another text."""
        goes_on = len(text) >= self.length and hash(text[: self.length]) == self._digest
        new = text[self.length :] if goes_on else None
        self.length, self._digest = len(text), hash(text)
        return new


def end_of(found: RemoteInvocation) -> tuple[int | None, str | None]:
    """Return dbt's exit code as an invocation that has ended tells it, None where dbt did not get to its end, and why."""
    if found.state == SUCCESS:
        return 0, None
    if found.state == FAILURE:
        return found.exit_code or 1, found.why or None
    what = (
        "the invocation was aborted"
        if found.state == ABORTED
        else f"the server ended the invocation as {found.state}"
    )
    return None, f"{what}: {found.why}" if found.why else what
