"""
What differs between two runs, and what of it is worth a line. `reporting.assembly` asks.

The time of a node goes up and down a little from run to run. One is slower, or faster, by a second and a tenth at least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbt_watch.reporting.run_record import Before, Comparison

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbt_watch.reporting.run_record import NodeRecord, RunRecord

LEAST_SECONDS: Final = 1.0
LEAST_SHARE: Final = 0.1

_BAD: Final = frozenset({"failure", "skipped"})
_GOOD: Final = frozenset({"success", "warning"})


def is_clear(seconds_before: float, seconds: float) -> bool:
    """Return whether the times of a node in two runs differ by more than they always do."""
    difference = abs(seconds - seconds_before)
    return difference >= LEAST_SECONDS and difference >= LEAST_SHARE * seconds_before


def compared(run_nodes: Iterable[NodeRecord], run_seconds: float | None, other: RunRecord) -> Comparison:
    """
    Return what differs from another run.

    :param run_nodes: the nodes of this run
    :param run_seconds: how long it took
    :param other: the other run
    """
    before = {node.unique_id: Before(node.state, node.meaning, node.seconds) for node in other.nodes}
    nodes = {node.unique_id: node for node in run_nodes}
    shared = [(node, before[key]) for key, node in nodes.items() if key in before]
    changed = sorted(
        (
            (node.seconds - old.seconds, node.unique_id)
            for node, old in shared
            # A node that failed stopped somewhere; how long that took says nothing of how long it takes.
            if node.seconds is not None
            and old.seconds is not None
            and node.meaning in _GOOD
            and old.meaning in _GOOD
            and is_clear(old.seconds, node.seconds)
        ),
    )
    return Comparison(
        other=other.source,
        seconds=run_seconds,
        seconds_before=other.seconds,
        slower=tuple(key for change, key in reversed(changed) if change > 0),
        faster=tuple(key for change, key in changed if change < 0),
        broken=tuple(
            node.unique_id for node, old in shared if node.meaning in _BAD and old.meaning not in _BAD
        ),
        repaired=tuple(
            node.unique_id for node, old in shared if node.meaning in _GOOD and old.meaning in _BAD
        ),
        added=tuple(key for key in nodes if key not in before),
        removed=tuple(key for key in before if key not in nodes),
        before=before,
    )
