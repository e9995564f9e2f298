"""
How a sensor ends: the only place that decides.

The hub calls `decide` with what Airflow says about the producer and what the journal says about the sensor's nodes, and
ends the sensor accordingly. The rules are the table `OUTCOMES`; a new rule is a new cell there.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.journal.format import Closed
from dbt_watch.core.labels import label_of
from dbt_watch.core.results import NOT_DUE, NotRun
from dbt_watch.core.task_states import FAILED, JOURNAL_IS_CURRENT, NEVER_RUNS, RAN, SUCCESS, UP_FOR_RETRY
from dbt_watch.core.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbt_watch.core.results import NodeResult


class Verdict(enum.Enum):
    """What a sensor does next."""

    WAIT = "wait"
    SUCCEED = "succeed"
    FAIL = "fail"
    SKIP = "skip"
    BUILD = "build"


WARN: Final = "warn"
"""Stands next to the values of verdicts for an end with a warning, whatever the verdict."""


class Run(enum.Enum):
    """The state of the dbt run, from the producer's state and the journal."""

    PENDING = "has not started"
    RETRIABLE = "runs, or ended badly, and will be tried again"
    LAST_ATTEMPT = "runs, with no attempt left"
    ENDED_WELL = "ended well"
    FAILED = "ended badly, with no attempt left"
    DIED = "went away without closing its journal, with no attempt left"
    DID_NOT_RUN = "will not run"
    CLEARED_ALONE = "was over when this task was cleared"


class Report(enum.Enum):
    """What the journal says about a node."""

    NOTHING = "nothing final"
    SUCCESS = "success"
    FAILURE = "failure"
    SKIPPED = "skipped"
    NOT_BUILT = "not built, because the run stopped"
    NOT_DUE = "not built, because there is nothing to build"
    NOT_KNOWN = "not known, because a part of dbt's log is missing"


class Producer(msgspec.Struct, frozen=True):
    """
    The producer, as a hub sees it.

    :param state: its task state in Airflow; None before it is scheduled
    :param closed: how its latest attempt ended, once the journal says so
    :param will_retry: whether another attempt follows if this one fails
    :param is_older: whether its latest attempt was created before the sensor was cleared
    """

    state: str | None = None
    closed: Closed | None = None
    will_retry: bool = False
    is_older: bool = False

    @property
    def is_over(self) -> bool:
        """Whether its task has run and ended."""
        return self.state in RAN

    @property
    def run(self) -> Run:
        """The state of the dbt run."""
        if self.state not in JOURNAL_IS_CURRENT:
            return Run.DID_NOT_RUN if self.state in NEVER_RUNS else Run.PENDING
        if self.is_older:
            return Run.CLEARED_ALONE if self.is_over else Run.PENDING
        if self.state == SUCCESS or (self.closed is not None and self.closed.exit_code == 0):
            return Run.ENDED_WELL
        if self.state != FAILED and (self.will_retry or self.state == UP_FOR_RETRY):
            return Run.RETRIABLE
        if self.closed is not None:
            return Run.FAILED
        return Run.DIED if self.state == FAILED else Run.LAST_ATTEMPT


class Decision(msgspec.Struct, frozen=True):
    """What a sensor does now, and why, in words for its log."""

    verdict: Verdict
    reason: str = ""


_W, _S, _F, _K, _B = Verdict.WAIT, Verdict.SUCCEED, Verdict.FAIL, Verdict.SKIP, Verdict.BUILD

# One row for each `Run`, one column for each `Report`, in the order of the enums.
#                       NOTHING SUCCESS FAILURE SKIPPED NOT_BUILT NOT_DUE NOT_KNOWN
_ROWS: Final = {
    Run.PENDING:       (_W,     _W,     _W,     _W,     _W,       _W,     _W),
    Run.RETRIABLE:     (_W,     _S,     _W,     _W,     _W,       _W,     _W),
    Run.LAST_ATTEMPT:  (_W,     _S,     _F,     _F,     _W,       _W,     _W),
    Run.ENDED_WELL:    (_F,     _S,     _F,     _K,     _F,       _K,     _F),
    Run.FAILED:        (_F,     _S,     _F,     _F,     _F,       _K,     _F),
    Run.DIED:          (_F,     _S,     _F,     _F,     _F,       _F,     _F),
    Run.DID_NOT_RUN:   (_K,     _K,     _K,     _K,     _K,       _K,     _K),
    Run.CLEARED_ALONE: (_B,     _B,     _B,     _B,     _B,       _B,     _B),
}  # fmt: skip
OUTCOMES: Final = {
    (run, report): verdict for run, row in _ROWS.items() for report, verdict in zip(Report, row, strict=True)
}


def decide(producer: Producer, nodes: Iterable[tuple[str, NodeResult | None]]) -> Decision:
    """
    Decide how a sensor continues.

    :param producer: the state of the run
    :param nodes: for each node of the sensor, its unique_id and its latest entry in the journal
    :returns: BUILD for a sensor that was cleared on its own; otherwise WAIT while any node is open, FAIL if one failed,
        SUCCEED if one succeeded, SKIP if none did
    """
    decisions = [_decide_node(producer, unique_id, result) for unique_id, result in nodes]
    for verdict in (Verdict.BUILD, Verdict.WAIT, Verdict.FAIL, Verdict.SUCCEED, Verdict.SKIP):
        reasons = [decision.reason for decision in decisions if decision.verdict is verdict]
        if reasons:
            return Decision(verdict, sanitize("\n".join(dict.fromkeys(filter(None, reasons)))))
    return Decision(Verdict.SKIP, "this task has no node")


def _decide_node(producer: Producer, unique_id: str, result: NodeResult | None) -> Decision:
    report = _report(result)
    verdict = OUTCOMES[producer.run, report]
    name = result.label if result is not None else unique_id
    return Decision(verdict, _reason(producer, verdict, report, name, result))


def _report(result: NodeResult | None) -> Report:
    if result is None or not result.is_final:
        return Report.NOTHING
    if result.is_success or result.is_warning:
        return Report.SUCCESS
    if result.is_skipped:
        return Report.SKIPPED
    if result.not_run is NotRun.NOT_KNOWN:
        return Report.NOT_KNOWN
    if result.was_not_run:
        return Report.NOT_DUE if result.not_run in NOT_DUE else Report.NOT_BUILT
    return Report.FAILURE


def _reason(
    producer: Producer, verdict: Verdict, report: Report, name: str, result: NodeResult | None
) -> str:
    run = producer.run
    if run is Run.DID_NOT_RUN:
        return f"dbt did not run: its task is {producer.state}"
    if run is Run.PENDING:
        return "dbt has not started"
    if run is Run.CLEARED_ALONE:
        return "cleared on its own, so it is built on its own"
    if verdict is Verdict.SUCCEED or (verdict is Verdict.WAIT and not _is_bad(report)):
        return ""
    text = f"{name}: {_what_happened(producer, report, result)}"
    return f"{text}\nthe next attempt will build it again" if run is Run.RETRIABLE else text


def _is_bad(report: Report) -> bool:
    return report in {Report.FAILURE, Report.SKIPPED, Report.NOT_BUILT, Report.NOT_KNOWN}


def _what_happened(producer: Producer, report: Report, result: NodeResult | None) -> str:
    message = (result.message if result is not None else None) or ""
    if report is Report.FAILURE and result is not None:
        return f"{result.status}: {message}" if message else result.status
    if report is Report.SKIPPED and result is not None:
        return f"not built: {_cause(result)}"
    if report is Report.NOT_KNOWN:
        return message or NOT_KNOWN
    if report is Report.NOTHING and producer.run is Run.ENDED_WELL:
        return NOT_KNOWN
    if report is Report.NOTHING:
        return f"dbt ended before this node finished{_why(producer)}"
    return f"not built: {message or 'dbt did not get to it'}{_why(producer, message)}"


NOT_KNOWN: Final = (
    "its outcome is not known: dbt's task is a success, but its journal does not contain the end of this node (the"
    " task was marked as success, or its XComs were deleted)"
)


def _cause(skipped: NodeResult) -> str:
    causes = skipped.skipped_because
    # dbt itself never skips anything because of a source; the message says what is the matter with it.
    if causes and not (skipped.message and causes[0].startswith("source.")):
        names = ", ".join(f"`{label_of(unique_id)}`" for unique_id in causes)
        return f"upstream {names} failed"
    return skipped.message or "skipped by dbt"


def _why(producer: Producer, said: str = "") -> str:
    """Return why the run ended, in brackets; empty if the end of the run has already been `said`, with its reason."""
    if producer.closed is None:
        return " (its task was marked as failed, or its worker died)" if producer.run is Run.DIED else ""
    return f" ({producer.closed.reason})" if producer.closed.reason and not said else ""
