"""
What happens in a build that OpenLineage has an event for, in the order of dbt's log, and which of it is told.

`LineageListener` follows a `BuildWatch`. Making an event, and sending it, is somebody else's: here nothing takes time.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.log.entries import moment
from dbt_watch.core.results import NodeResult
from dbt_watch.lineage.facts import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from dbt_watch.core.log.end_of_run import DbtRun, LoggedCommand
    from dbt_watch.core.log.queries import Queries


class DbtInvocation(msgspec.Struct, frozen=True):
    """A command of dbt: its id, dbt's version, and when it has begun, as far as the log tells."""

    invocation_id: str
    version: str = ""
    began: datetime | None = None


class RunStarted(msgspec.Struct, frozen=True):
    """A command of dbt builds nodes."""

    invocation: DbtInvocation


class RunEnded(msgspec.Struct, frozen=True):
    """
    It has ended.

    :param exit_code: of dbt; None when it was stopped or lost
    :param reason: why it ended badly
    :param at: when, as far as the log tells
    """

    invocation: DbtInvocation
    exit_code: int | None
    reason: str | None = None
    at: datetime | None = None


class NodeStarted(msgspec.Struct, frozen=True):
    """Dbt has begun with a node."""

    invocation: DbtInvocation
    result: NodeResult


class NodeEnded(msgspec.Struct, frozen=True):
    """
    It is done with it, or was ended before.

    :param sql: the statement by which dbt has built or checked it
    """

    invocation: DbtInvocation
    result: NodeResult
    sql: str | None = None


Happening = RunStarted | RunEnded | NodeStarted | NodeEnded

# In seconds. At debug, dbt adds the details of a result right after it; where nothing is added, this is waited for.
_DETAILS_WITHIN: Final = 1.0
# Not those of a seed, which are its rows.
_WITH_SQL: Final = frozenset({"model", "snapshot", "test"})


class LineageListener:
    """
    Tells what happens in one attempt, each thing once.

    :param tell: takes it; must not wait
    :param left_out: the unique_ids of nodes that are not told
    :param clock: tells the time in seconds
    """

    def __init__(
        self,
        tell: Callable[[Happening], None],
        *,
        left_out: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._left_out = left_out
        self._clock = clock
        self._invocations: dict[str, DbtInvocation] = {}
        self._checks: set[str] = set()
        self._started: set[tuple[str, str]] = set()
        self._ended: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], tuple[float, NodeResult]] = {}

    def take(self, changes: Iterable[NodeResult], run: DbtRun, queries: Queries) -> None:
        """
        Take the changes that some lines of the log have brought.

        :param changes: without secrets
        :param run: what the log says of the commands
        :param queries: what dbt has sent to the database, of which the main query of each node is kept
        """
        for change in changes:
            if change.resource_type == "source":
                self._checks.add(change.invocation_id or "")
            if change.resource_type not in JOBS or change.unique_id in self._left_out:
                continue
            if not change.is_final:
                self._start(change, run)
            else:
                self._take_end(change, run, queries)
        overdue = self._clock() - _DETAILS_WITHIN
        for since, change in list(self._waiting.values()):
            if since <= overdue:
                self._end(change, run, queries)

    def end(self, exit_code: int | None, reason: str | None, run: DbtRun, queries: Queries) -> None:
        """
        Take the end of the log.

        :param exit_code: of dbt; None when it was stopped or lost
        :param reason: why it ended badly
        """
        for _, change in list(self._waiting.values()):
            self._end(change, run, queries)
        for invocation_id, command in run.commands.items():
            if command.has_begun and invocation_id not in self._checks:
                self._begin(invocation_id, run)
        invocations = list(self._invocations.values())
        for invocation in invocations:
            known = run.commands.get(invocation.invocation_id)
            at = moment(known.ended) if known is not None else None
            code = exit_code if invocation is invocations[-1] else 0
            self._tell(RunEnded(invocation, code, reason if code != 0 else None, at))

    def _begin(self, invocation_id: str, run: DbtRun, began: datetime | None = None) -> DbtInvocation:
        known = self._invocations.get(invocation_id)
        if known is None:
            command: LoggedCommand | None = run.commands.get(invocation_id)
            version = command.version if command is not None else ""
            at = moment(command.began) if command is not None else None
            known = self._invocations[invocation_id] = DbtInvocation(invocation_id, version, at or began)
            self._tell(RunStarted(known))
        return known

    def _start(self, result: NodeResult, run: DbtRun) -> None:
        key = _key(result)
        if key not in self._started and key not in self._ended:
            self._started.add(key)
            invocation = self._begin(result.invocation_id or "", run, result.started_at)
            self._tell(NodeStarted(invocation, result))

    def _take_end(self, result: NodeResult, run: DbtRun, queries: Queries) -> None:
        key = _key(result)
        if key in self._ended:
            return
        is_second = self._waiting.pop(key, None) is not None
        was_left_out = result.is_skipped or result.was_not_run
        if was_left_out and key not in self._started:
            self._ended.add(key)  # it was not run at all
        elif is_second or was_left_out or result.adapter_response:
            self._end(result, run, queries)
        else:
            self._waiting[key] = (self._clock(), result)

    def _end(self, result: NodeResult, run: DbtRun, queries: Queries) -> None:
        key = _key(result)
        self._start(result, run)
        self._waiting.pop(key, None)
        self._ended.add(key)
        invocation = self._begin(result.invocation_id or "", run)
        sql = queries.main_of(result.unique_id)
        self._tell(NodeEnded(invocation, result, sql if result.resource_type in _WITH_SQL else None))


def _key(result: NodeResult) -> tuple[str, str]:
    return (result.unique_id, result.invocation_id or "")
