"""
What Airflow is told of a sensor: in which state it ends, since when it runs, and when it ended, as dbt has it.

`watcher` asks. What becomes of a sensor at all is for `core.outcome` to say.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dbt_watch.core.outcome import Verdict
from dbt_watch.core.results import NOT_DUE
from dbt_watch.core.task_states import FAILED, SKIPPED, SUCCESS, UPSTREAM_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dbt_watch.core.results import NodeResult
    from dbt_watch.sensors.updates import Update

_STATES = {Verdict.SUCCEED: SUCCESS, Verdict.SKIP: SKIPPED, Verdict.FAIL: FAILED}


def end_state(update: Update) -> str:
    """
    Return in which state a sensor ends.

    One that fails, though dbt has run none of its nodes, because a node before them failed, is `upstream_failed`.

    :param update: its last, which does not say that it is to build its nodes
    """
    state = _STATES[update.decision.verdict]
    return UPSTREAM_FAILED if state == FAILED and _is_held_back(update.results) else state


def _is_held_back(results: Iterable[NodeResult]) -> bool:
    rest = [result for result in results if result.not_run not in NOT_DUE]
    return bool(rest) and all(result.is_skipped for result in rest)


def start_of(results: Iterable[NodeResult]) -> datetime | None:
    """
    Return when dbt began with the first of some nodes; None while it has begun with none.

    :param results: what is known of them
    """
    return min(filter(None, map(_start, results)), default=None)


def _start(result: NodeResult) -> datetime | None:
    if result.started_at is not None or result.finished_at is None:
        return result.started_at
    return result.finished_at - timedelta(seconds=result.execution_time or 0.0)


def time_of(results: Iterable[NodeResult], now: datetime) -> tuple[datetime, datetime]:
    """
    Return from when to when a sensor ran that has ended.

    :param results: what became of its nodes
    :param now: what stands for either time that is not known
    """
    results = list(results)
    start = start_of(results)
    end = max((result.finished_at for result in results if result.finished_at is not None), default=now)
    return (min(start, end), end) if start is not None else (end, end)
