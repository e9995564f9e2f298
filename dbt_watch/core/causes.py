"""
Why a run did not go well: the nodes that failed by themselves first, each with what was not built because of it.

`reporting.assembly` asks for a report, and `core.log.task_log` for the log of the task that runs dbt, so that both name the same
cause. A node that was cancelled did not fail by itself, unless nothing else tells why.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.labels import label_of
from dbt_watch.core.results import NotRun
from dbt_watch.core.statuses import CANCELLED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult

NOT_TRACED: Final = "it is not known which failure caused which skip: there is no manifest to tell how the nodes depend on each other"
"""The note where skipped nodes cannot be told by their causes."""

_AT_THE_END: Final = frozenset({NotRun.ENDED_EARLY, NotRun.UNFINISHED})


class RootCause(msgspec.Struct, frozen=True):
    """
    One reason why the run did not go well.

    :param node: the node that failed by itself; None where it was none
    :param title: what happened, in a line
    :param message: what dbt said, where `node` does not have it
    :param blocked: the nodes that were not built because of it
    """

    node: str | None
    title: str
    message: str | None = None
    blocked: tuple[str, ...] = ()


def has_broken_off(closed: Closed, results: Mapping[str, NodeResult]) -> bool:
    """
    Return whether dbt stopped early, by the end of an attempt; with exit code 1 it may just have failed.

    :param closed: how the attempt ended
    :param results: the last word on each node
    """
    if closed.exit_code != 1:
        return closed.exit_code != 0
    found = results.values()
    # What was skipped may have been so for a failure in another pod.
    has_failed = any(result.is_failure or result.is_skipped for result in found)
    return not has_failed and any(result.not_run in _AT_THE_END for result in found)


def causes_of(results: Mapping[str, NodeResult], *, broke_off: bool, why: str) -> list[RootCause]:
    """
    Return the causes: what kept the most nodes from being built first, and of several such what failed first.

    :param results: the last word on each node
    :param broke_off: whether dbt stopped early
    :param why: why the run ended badly, where more than the nodes tells
    """
    failed = [result for result in results.values() if result.is_failure]
    own = [result for result in failed if result.status != CANCELLED]
    blocked = _blocked({result.unique_id for result in own}, results)
    # A failure that keeps nothing from being built comes last.
    own.sort(key=lambda result: (-len(blocked[result.unique_id]), _ended_at(result)))
    causes = [
        RootCause(result.unique_id, f"{result.label}: {result.status}", blocked=blocked[result.unique_id])
        for result in own
    ]
    causes += _elsewhere(results, is_all=not own)
    stopped = tuple(key for key, result in results.items() if result.not_run is NotRun.FAIL_FAST)
    if stopped:
        causes.append(RootCause(None, "dbt stopped at the first failure (--fail-fast)", blocked=stopped))
    at_end = tuple(
        key
        for key, result in results.items()
        if result.not_run in _AT_THE_END or (result.status == CANCELLED and not own)
    )
    if broke_off and (at_end or why or not causes):
        causes.append(RootCause(None, "dbt stopped early", why or None, at_end))
    unknown = tuple(key for key, result in results.items() if result.not_run is NotRun.NOT_KNOWN)
    if unknown:
        causes.append(RootCause(None, "the outcome of some nodes is not known", why or None, unknown))
    if why and not causes:
        causes.append(RootCause(None, "the run counts as failed", why))
    return causes


def has_untraced(results: Mapping[str, NodeResult]) -> bool:
    """Return whether nodes were skipped for one of several failures, and nothing tells for which."""
    own = sum(result.is_failure and result.status != CANCELLED for result in results.values())
    return own > 1 and any(result.is_skipped and not result.skipped_because for result in results.values())


def _ended_at(result: NodeResult) -> float:
    # Without a time it comes last: dbt had not told its end.
    return math.inf if result.finished_at is None else result.finished_at.timestamp()


def _blocked(own: set[str], results: Mapping[str, NodeResult]) -> defaultdict[str, tuple[str, ...]]:
    """Return what was not built because of each failure."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for result in results.values():
        if not (result.is_skipped or result.not_run is NotRun.STALE_SOURCE):
            continue
        because = set(result.skipped_because) & own
        if not result.skipped_because and len(own) == 1:
            because = own  # there is nothing else that it could be
        for cause in because:
            found[cause].append(result.unique_id)
    return defaultdict(tuple, {cause: tuple(nodes) for cause, nodes in found.items()})


def _elsewhere(results: Mapping[str, NodeResult], *, is_all: bool) -> list[RootCause]:
    """
    Return the causes that are none of these nodes: of a part of a project, what failed in another pod, or in the middle.

    :param is_all: whether none of these nodes has failed itself
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for result in results.values():
        if not result.is_skipped:
            continue
        for cause in result.skipped_because:
            if cause not in results:
                found[f"upstream `{label_of(cause)}` failed"].append(result.unique_id)
        if is_all and not result.skipped_because and result.message:
            found[result.message].append(result.unique_id)
    return [RootCause(None, title, blocked=tuple(nodes)) for title, nodes in found.items()]
