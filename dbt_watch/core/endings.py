"""
How nodes end that dbt never reported to the end, and what its artifacts add.

The ledger asks once, when the log is closed. Each node that is still open gets a state and the reason for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.entries import unreported
from dbt_watch.core.labels import label_of
from dbt_watch.core.last_words import LastWords
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbt_watch.core.results import SelectedNode
    from dbt_watch.core.slots import Slot

MAX_COMMANDS: Final = 50
"""How many dbt commands one log may hold; those that come after them are not believed."""

_CRASH: Final = 2
_MAX_REASON_CHARS: Final = 1_000


class End(msgspec.Struct, frozen=True, gc=False):
    """
    How dbt ended.

    :param exit_code: None when it is not known
    :param reason: in one line, where there is more to say than the exit code
    :param early: whether dbt was ended, or broke off, before it had been through its nodes
    :param stopped_by: the failed nodes at which dbt stopped on request (--fail-fast); empty when it did not
    """

    exit_code: int | None
    reason: str
    early: bool
    stopped_by: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The exit code, unless it is 0 or not known, and the reason."""
        code = "" if self.exit_code in {None, 0} else f"exit code {self.exit_code}"
        return ": ".join(filter(None, (code, self.reason)))


class Run:
    """
    What the log says of the dbt commands as a whole.

    :ivar invocations: the ids of the commands that were seen
    :ivar completed: those that wrote their summary
    :ivar totals: for each, how many nodes dbt counted
    :ivar test_failed: whether any test failed
    :ivar last_words: what was said last that was no record
    :ivar end: how it all ended, once it has
    """

    __slots__ = ("_crashes", "completed", "end", "invocations", "last_words", "test_failed", "totals")

    def __init__(self) -> None:
        self.invocations: set[str] = set()
        self.completed: set[str] = set()
        self.totals: dict[str, int] = {}
        self.test_failed = False
        self.last_words = LastWords()
        self.end: End | None = None
        self._crashes: dict[str, tuple[str, str]] = {}

    def admit(self, invocation: str) -> bool:
        """Take note of a command; False when there are too many, so that a foreign log cannot go on for ever."""
        if invocation not in self.invocations:
            if len(self.invocations) >= MAX_COMMANDS:
                return False
            self.invocations.add(invocation)
        return True

    def crashed(self, invocation: str, at: str, text: str | None) -> None:
        """Keep the first error of a command as a whole."""
        if invocation not in self._crashes and len(self._crashes) >= MAX_COMMANDS:
            return
        first = self._crashes.get(invocation)
        if first is None or at < first[0]:
            self._crashes[invocation] = (at, text or "dbt was interrupted")

    def ended(
        self,
        exit_code: int | None,
        reason: str | None,
        slots: Iterable[Slot],
        entries: Mapping[str, NodeResult],
    ) -> End:
        """Judge the end of the last command, once."""
        self.end = self._judged(exit_code, reason, slots, entries)
        return self.end

    def _judged(
        self,
        exit_code: int | None,
        reason: str | None,
        slots: Iterable[Slot],
        entries: Mapping[str, NodeResult],
    ) -> End:
        if exit_code == 0:
            return End(exit_code, _reason(reason), early=False)
        latest: dict[str, str] = {"": ""}
        reported: dict[str, int] = {}
        for slot in slots:
            latest[slot.invocation] = max(latest.get(slot.invocation, ""), slot.latest)
            is_hook = slot.unique_id.startswith("operation.")
            reported[slot.invocation] = reported.get(slot.invocation, 0) + (not is_hook)
        last = max(latest, key=lambda invocation: latest[invocation])
        at, crash = max(self._crashes.values(), default=("", ""))
        if at < latest[last] and last not in self._crashes:
            crash = ""  # a command before the last one broke off
        failed = tuple(sorted(key for key, entry in entries.items() if entry.is_failure))
        if failed and "OperationCanceled" in crash:  # how Fusion ends a run with --fail-fast
            return End(exit_code, _reason(reason, crash), early=False, stopped_by=failed)
        if exit_code is None or exit_code < 0 or exit_code >= _CRASH or last not in self.completed:
            words = crash or ("" if exit_code is None else self.last_words.text())
            return End(exit_code, _reason(reason, words), early=True)
        stopped = failed if reported.get(last, 0) < self.totals.get(last, 0) else ()
        return End(exit_code, _reason(reason, crash), early=False, stopped_by=stopped)


def _reason(outside: str | None, words: str = "") -> str:
    """Join what somebody outside knows with the last words of dbt or of its container."""
    parts = (one_line(part, _MAX_REASON_CHARS) for part in (outside or "", words))
    return ": ".join(dict.fromkeys(filter(None, parts)))


def settled(slot: Slot, info: SelectedNode | None, end: End, attempt: int) -> NodeResult:
    """Give the last state of a node whose end was never reported."""
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
        # Green only if nothing failed: a word that is not known may well mean a failure.
        return "success" if end.exit_code == 0 else "error", f'dbt reported the status "{shown.status}"', None
    ended = "dbt ended well, but never said how this node ended" if end.exit_code == 0 else _unfinished(end)
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
    if info is not None and info.materialized == "ephemeral":
        return statuses.NOT_RUN, "ephemeral: it is compiled into the nodes that use it", NotRun.EPHEMERAL
    if end.early:
        return statuses.NOT_RUN, _because("dbt ended before it came to this node", end), NotRun.ENDED_EARLY
    if getattr(info, "is_empty", False):
        return statuses.NOT_RUN, "empty: its file holds nothing to run", NotRun.NOTHING_TO_RUN
    if end.stopped_by and shown.resource_type not in _NEVER_RUN:
        names = ", ".join(map(label_of, end.stopped_by[:_MAX_NAMED]))
        return statuses.NOT_RUN, f"dbt stopped at the first failure: {names}", NotRun.FAIL_FAST
    return (
        statuses.NOT_RUN,
        f"dbt had nothing to run for this {shown.resource_type or 'node'}",
        NotRun.NOTHING_TO_RUN,
    )


_MAX_NAMED: Final = 3
_NEVER_RUN: Final = frozenset({"source", "exposure", "saved_query", "metric", "semantic_model", "analysis"})


def _unfinished(end: End) -> str:
    return _because("dbt ended before this node finished", end)


def _because(what: str, end: End) -> str:
    return f"{what} ({end.why})" if end.why else what


def failed_start_hooks(entries: Mapping[str, NodeResult]) -> tuple[str, ...]:
    """Name the on-run-start hooks that failed: then dbt skips every node."""
    return tuple(
        sorted(
            key
            for key, entry in entries.items()
            if entry.is_failure and entry.resource_type == "operation" and "on-run-start" in key
        )
    )
