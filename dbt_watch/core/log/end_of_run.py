"""
How the run of dbt ended, and what that means for the nodes whose end dbt never reported.

`core.log.ledger` keeps a `DbtRun` while it reads, and asks once, when the log is closed: each node that is still open gets a
state and the reason for it. `producers.build_watch` asks `end_of_unknown` for the end of the attempt.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.labels import label_of
from dbt_watch.core.log.entries import message_of, unreported
from dbt_watch.core.log.event_roles import MEANS, Role, nodes_processed
from dbt_watch.core.log.invocations import MAX_COMMANDS
from dbt_watch.core.log.last_words import LastWords
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.log.events import DbtEvent
    from dbt_watch.core.log.node_state import Slot
    from dbt_watch.core.results import SelectedNode

_CRASH: Final = 2
_MAX_REASON_CHARS: Final = 1_000


class End(msgspec.Struct, frozen=True, gc=False):
    """
    How dbt ended.

    :param exit_code: None when it is not known
    :param reason: in one line, where there is more to say than the exit code
    :param early: whether dbt was stopped, or crashed, before it had been through its nodes
    :param stopped_by: the failed nodes at which dbt stopped on request (--fail-fast); empty when it did not
    :param lacks: what is missing in the log of the build, in words; empty when it is whole
    :param check_lacks: the same of the check of sources
    """

    exit_code: int | None
    reason: str
    early: bool
    stopped_by: tuple[str, ...] = ()
    lacks: str = ""
    check_lacks: str = ""

    @property
    def why(self) -> str:
        """The exit code, unless it is 0 or not known, and the reason."""
        code = "" if self.exit_code in {None, 0} else f"exit code {self.exit_code}"
        return ": ".join(filter(None, (code, self.reason)))


class LoggedCommand(msgspec.Struct, gc=False):
    """
    What the log says of one dbt command as a whole.

    :param has_begun: whether its first record was seen
    :param is_completed: whether its summary was seen
    :param count: how many nodes dbt counted, hooks and ephemeral models left out; None while that was not seen
    :param counts_all: whether `count` is of all nodes that are reported; else it is of those with a number ("3 of 40")
    :param crash: the time of a crash, and the error
    :param began: the time of its first record, as dbt writes it; empty while that was not seen
    :param ended: the time of its summary, or of a crash
    :param version: of dbt, by its first record
    """

    has_begun: bool = False
    is_completed: bool = False
    count: int | None = None
    counts_all: bool = False
    crash: tuple[str, str] | None = None
    began: str = ""
    ended: str = ""
    version: str = ""


class DbtRun:
    """
    What the log says of the dbt commands as a whole.

    :ivar commands: by invocation_id, in the order in which they began
    :ivar any_failed: whether any node failed
    :ivar test_failed: whether any test failed
    :ivar last_words: the last text that was no record
    :ivar threads: how many threads dbt uses, where it tells
    :ivar end: how dbt ended; None while the log is open
    :ivar no_log: why there is no log, where none could be had, in words
    :ivar lacks: once the log is closed, what is missing in that of the build, in words
    :ivar check_lacks: the same of the check of sources
    """

    __slots__ = (
        "any_failed",
        "check_lacks",
        "commands",
        "end",
        "lacks",
        "last_words",
        "no_log",
        "test_failed",
        "threads",
    )

    def __init__(self) -> None:
        self.commands: dict[str, LoggedCommand] = {}
        self.any_failed = self.test_failed = False
        self.last_words = LastWords()
        self.end: End | None = None
        self.threads: int | None = None
        self.lacks = self.check_lacks = self.no_log = ""

    def admit(self, invocation: str) -> LoggedCommand | None:
        """Return the command of an invocation_id, new if need be; None when there are too many, as in a foreign log."""
        if invocation not in self.commands and len(self.commands) < MAX_COMMANDS:
            self.commands[invocation] = LoggedCommand()
        return self.commands.get(invocation)

    def take(self, event: DbtEvent) -> None:
        """Record an event that is about a command as a whole."""
        command = self.admit(event.info.invocation_id)
        role = MEANS[event.info.name]
        if command is None:
            return
        if role is Role.COMMAND:
            command.has_begun = True
            command.began, command.version = event.info.ts, (event.data.version or "").lstrip("=")
            return
        command.ended = max(command.ended, event.info.ts)
        if role is Role.SUMMARY:
            command.is_completed = True
            count = nodes_processed(event.info.msg)
            if count is not None:
                command.count, command.counts_all = count, True
        elif role is Role.NOTHING:
            command.is_completed, command.count = True, 0
        elif command.crash is None or event.info.ts < command.crash[0]:
            text = event.data.exc if event.data.exc is not None else event.info.msg
            command.crash = (event.info.ts, message_of(text) or "dbt was interrupted")

    @property
    def has_summary(self) -> bool:
        """Whether any command came to its end and wrote its summary."""
        return any(command.is_completed for command in self.commands.values())

    def is_over(self, invocation: str) -> bool:
        """Return whether a command has ended or crashed."""
        command = self.commands.get(invocation)
        return command is not None and (command.is_completed or command.crash is not None)

    def ended(
        self,
        exit_code: int | None,
        reason: str | None,
        slots: Collection[Slot],
        entries: Mapping[str, NodeResult],
    ) -> End:
        """Return how the last command ended; called once."""
        checks = {slot.invocation for slot in slots if slot.unique_id.startswith("source.")}
        self.lacks = self._lacks([key for key in self.commands if key not in checks], slots)
        self.check_lacks = self._lacks([key for key in self.commands if key in checks], slots)
        self.end = self._judged(exit_code, reason, slots, entries)
        return self.end

    def _judged(
        self,
        exit_code: int | None,
        reason: str | None,
        slots: Collection[Slot],
        entries: Mapping[str, NodeResult],
    ) -> End:
        if exit_code == 0 or (self.no_log and not self.commands):
            return End(exit_code, _reason(reason), False, (), self.lacks, self.check_lacks)
        latest: dict[str, str] = {"": ""}
        reported: Counter[str] = Counter()
        for slot in slots:
            latest[slot.invocation] = max(latest.get(slot.invocation, ""), slot.latest)
            reported[slot.invocation] += not slot.is_hook
        last = max(latest, key=lambda invocation: latest[invocation])
        command = self.commands.get(last, LoggedCommand())
        crashes = [found.crash for found in self.commands.values() if found.crash is not None]
        at, crash = max(crashes, default=("", ""))
        if at < latest[last] and command.crash is None:
            crash = ""  # a command before the last one crashed
        failed = tuple(sorted(key for key, entry in entries.items() if entry.is_failure))
        if failed and "OperationCanceled" in crash:  # how Fusion ends a run with --fail-fast
            return End(exit_code, _reason(reason, crash), False, failed)
        if exit_code is None or exit_code < 0 or exit_code >= _CRASH or not command.is_completed:
            words = crash or ("" if exit_code is None else self.last_words.text())
            return End(exit_code, _reason(reason, words), True)
        stopped = failed if reported[last] < (command.count or 0) else ()
        return End(exit_code, _reason(reason, crash), False, stopped, self.lacks, self.check_lacks)

    def _lacks(self, invocations: Collection[str], slots: Collection[Slot]) -> str:
        """Return what is missing in the log of the last of some commands, in words."""
        if not invocations and self.no_log and not self.commands:
            return self.no_log
        if not invocations:
            return (
                "the log contains no such dbt command"
                if self.commands
                else "the log contains no record from dbt"
            )
        last = [*invocations][-1]
        command = self.commands[last]
        parts = [
            what
            for what, is_there in (
                ("its beginning", command.has_begun),
                ("its summary", command.is_completed),
                ("dbt's count of its nodes", command.count is not None),
            )
            if not is_there
        ]
        count = command.count or 0
        told = sum(
            slot.invocation == last and slot.is_told and (slot.is_counted or command.counts_all)
            for slot in slots
        )
        if told < count:
            parts.append(f"{count - told} of the {count} nodes that dbt counted")
        return f"the log lacks {', '.join(parts)}" if parts else ""


def _reason(outside: str | None, words: str = "") -> str:
    """Return the reason that is known from outside, and the last words of dbt or of its container, in one line."""
    parts = (one_line(part, _MAX_REASON_CHARS) for part in (outside or "", words))
    return ": ".join(dict.fromkeys(filter(None, parts)))


def settled(slot: Slot, info: SelectedNode | None, end: End, attempt: int) -> NodeResult:
    """Return the last state of a node whose end was never reported."""
    shown = slot.result or unreported(slot, info, attempt)
    status, message, not_run = _last_state(slot, shown, info, end)
    return msgspec.structs.replace(shown, status=status, message=message, not_run=not_run)


def _last_state(
    slot: Slot, shown: NodeResult, info: SelectedNode | None, end: End
) -> tuple[str, str | None, NotRun | None]:
    if slot.hint is not None:
        return slot.hint[0], slot.text or slot.hint[1], None
    if slot.result is None and slot.text is None:
        return _never_begun(shown, info, end)
    if not statuses.is_known(shown.status):
        # Green only if nothing failed: an unknown status may mean a failure.
        return "success" if end.exit_code == 0 else "error", f'dbt reported the status "{shown.status}"', None
    ended = _unsaid(end) if end.exit_code == 0 else _unfinished(end)
    if slot.text is None or slot.batches or end.exit_code == 0:
        message = ended if slot.text is None else f"{ended}; it had reported: {slot.text}"
        return (
            (statuses.CANCELLED, message, None)
            if _was_cancelled(slot, end)
            else (statuses.NOT_RUN, message, NotRun.UNFINISHED)
        )
    return statuses.CANCELLED if _was_cancelled(slot, end) else "error", slot.text, None


def _was_cancelled(slot: Slot, end: End) -> bool:
    return end.exit_code != 0 and (slot.cancelled or "[TaskCancelled " in (slot.text or ""))


def _never_begun(shown: NodeResult, info: SelectedNode | None, end: End) -> tuple[str, str, NotRun]:
    kind = shown.resource_type or "node"
    lacks = end.check_lacks if kind == "source" else end.lacks
    names = ", ".join(map(label_of, end.stopped_by[:_MAX_NAMED]))
    is_ephemeral = info is not None and info.materialized == "ephemeral"
    reasons = (  # the first one that holds
        (is_ephemeral, NotRun.EPHEMERAL, "ephemeral: it is compiled into the nodes that use it"),
        (end.early, NotRun.ENDED_EARLY, _because("dbt ended before it got to this node", end)),
        (
            info is not None and info.is_empty,
            NotRun.NOTHING_TO_RUN,
            "empty: its file contains nothing to run",
        ),
        (kind in NEVER_RUN, NotRun.NOTHING_TO_RUN, f"dbt had nothing to run for this {kind}"),
        (names, NotRun.FAIL_FAST, f"dbt stopped at the first failure: {names}"),
        (lacks, NotRun.NOT_KNOWN, f"its outcome is not known: {lacks}"),
        (True, NotRun.NOT_IN_PROJECT, _NOT_IN_PROJECT.format(kind)),
    )
    return next((statuses.NOT_RUN, text, why) for holds, why, text in reasons if holds)


_NOT_IN_PROJECT: Final = (
    "the project that dbt ran does not contain this {}, disables it, or does not select it: dbt has reported every node"
    " that it counted"
)
_MAX_NAMED: Final = 3

NEVER_RUN: Final = frozenset({"exposure", "saved_query", "metric", "semantic_model", "analysis", "operation"})
"""The resource types that a build need not report."""


def _unsaid(end: End) -> str:
    return "dbt succeeded, but never reported how this node ended" + (f": {end.lacks}" if end.lacks else "")


def _unfinished(end: End) -> str:
    return _because("dbt ended before this node finished", end)


def _because(what: str, end: End) -> str:
    return f"{what} ({end.why})" if end.why else what


def end_of_unknown(closed: Closed, run: DbtRun, entries: Iterable[NodeResult], *, is_known: bool) -> Closed:
    """
    Return how an attempt ends: badly when it is not known what became of a node, even where dbt ended well.

    :param closed: how dbt ended
    :param run: what its log says as a whole
    :param entries: those of all nodes, none of which is open
    :param is_known: whether something is known of them without the log, or there is none
    """
    unknown = [entry for entry in entries if entry.not_run in _UNKNOWN]
    if closed.exit_code != 0 or not (unknown or (not run.commands and not is_known)):
        return closed
    names = ", ".join(entry.label for entry in unknown[:_MAX_NAMED])
    names += " ..." if len(unknown) > _MAX_NAMED else ""
    nodes = "1 node" if len(unknown) == 1 else f"{len(unknown)} nodes"
    what = f"the outcome of {nodes} ({names}) is not known: " if unknown else ""
    is_check = bool(unknown) and all(entry.resource_type == "source" for entry in unknown)
    reason = f"dbt succeeded, but {what}{run.check_lacks if is_check else run.lacks}"
    return msgspec.structs.replace(closed, exit_code=1, reason=closed.reason or reason)


_UNKNOWN: Final = frozenset({NotRun.NOT_KNOWN, NotRun.UNFINISHED})


def end_of_failed(closed: Closed, entries: Iterable[NodeResult]) -> Closed:
    """
    Return how an attempt ends: badly when a node has failed, whatever exit code was told.

    dbt itself ends with 1 then. But a command around it may end with 0, and there are servers for which an invocation is a
    success as soon as dbt has come to its end. What a stale source means is for the project to say.

    :param closed: how dbt ended
    :param entries: those of all nodes, none of which is open
    """
    failed = [entry for entry in entries if entry.is_failure and entry.resource_type != "source"]
    if closed.exit_code != 0 or not failed:
        return closed
    names = ", ".join(entry.label for entry in failed[:_MAX_NAMED])
    names += " ..." if len(failed) > _MAX_NAMED else ""
    nodes = "1 node has" if len(failed) == 1 else f"{len(failed)} nodes have"
    reason = f"dbt was reported as successful, but {nodes} failed: {names}"
    return msgspec.structs.replace(closed, exit_code=1, reason=closed.reason or reason)


def failed_start_hooks(entries: Mapping[str, NodeResult]) -> tuple[str, ...]:
    """Return the unique_ids of the on-run-start hooks that failed; dbt skips every node then."""
    return tuple(
        sorted(
            key
            for key, entry in entries.items()
            if entry.is_failure and entry.resource_type == "operation" and "on-run-start" in key
        )
    )
