"""
Why a run did not go well: the nodes that failed by themselves first, each with what was not built because of it.

`reporting.assembly` asks. A node that was cancelled did not fail by itself, unless nothing else tells why.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from dbt_watch.core.results import NotRun
from dbt_watch.core.statuses import CANCELLED
from dbt_watch.reporting.run_record import RootCause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.core.results import NodeResult
    from dbt_watch.reporting.run_record import Outcome

NOT_TRACED: Final = "which failure a skipped node waited for is not known: nothing tells what depends on what (a manifest does)"
"""The note where skipped nodes cannot be told by their causes."""

_AT_THE_END: Final = frozenset({NotRun.ENDED_EARLY, NotRun.UNFINISHED})


def causes_of(results: Mapping[str, NodeResult], outcome: Outcome, why: str) -> list[RootCause]:
    """
    Return the causes: what kept the most nodes from being built first.

    :param results: the last word on each node
    :param outcome: how the run ended
    :param why: why dbt ended before it was through, where it did
    """
    failed = [result for result in results.values() if result.is_failure]
    own = [result for result in failed if result.status != CANCELLED]
    blocked = _blocked({result.unique_id for result in own}, results)
    causes = [
        RootCause(result.unique_id, f"{result.label}: {result.status}", blocked=blocked[result.unique_id])
        for result in own
    ]
    # Sorted as they failed before; a failure that keeps nothing from being built comes last.
    causes.sort(key=lambda cause: -len(cause.blocked))
    stopped = tuple(key for key, result in results.items() if result.not_run is NotRun.FAIL_FAST)
    if stopped:
        causes.append(RootCause(None, "dbt stopped at the first failure (--fail-fast)", blocked=stopped))
    at_end = tuple(
        key
        for key, result in results.items()
        if result.not_run in _AT_THE_END or (result.status == CANCELLED and not own)
    )
    if outcome == "error" and (at_end or why or not causes):
        causes.append(RootCause(None, "dbt ended before it was through", why or None, at_end))
    unknown = tuple(key for key, result in results.items() if result.not_run is NotRun.NOT_KNOWN)
    if unknown:
        causes.append(RootCause(None, "what became of some nodes is not known", why or None, unknown))
    return causes


def has_untraced(results: Mapping[str, NodeResult]) -> bool:
    """Return whether nodes were skipped for one of several failures, and nothing tells for which."""
    own = sum(result.is_failure and result.status != CANCELLED for result in results.values())
    return own > 1 and any(result.is_skipped and not result.skipped_because for result in results.values())


def _blocked(own: set[str], results: Mapping[str, NodeResult]) -> Mapping[str, tuple[str, ...]]:
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
