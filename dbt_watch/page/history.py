"""
How long the nodes of a project took in earlier runs, from the summaries that these have left in XCom. `page.readers` asks.

A summary that was read is kept, as long as it stays the same: runs that have ended do not change.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.packed import PackedError, piece_key
from dbt_watch.core.run_notes import SUMMARY_KEY, unpack_summary
from dbt_watch.core.statuses import Meaning, meaning

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dbt_watch.airflow.api_server import RunDatabase, XComStamp
    from dbt_watch.core.run_notes import RunSummary
    from dbt_watch.page.projects import ProjectKey

log = logging.getLogger(__name__)

RUNS: Final = 20
"""How many earlier runs count."""
MAX_KEPT: Final = 500
"""How many summaries a process keeps."""

_WELL: Final = frozenset({Meaning.SUCCESS, Meaning.WARNING})


class EarlierRun(msgspec.Struct, frozen=True):
    """
    What an earlier run tells.

    :param seconds: how long each node took that ended well
    :param span: from the beginning of its first node to the end of its last, in seconds; None where it did not end well
    """

    run_id: str
    seconds: dict[str, float]
    span: float | None


class History(msgspec.Struct, frozen=True):
    """
    The earlier runs of a project.

    :param runs: the newest first
    """

    runs: tuple[EarlierRun, ...] = ()

    @property
    def nodes(self) -> set[str]:
        """All nodes of which any run tells."""
        return {node for run in self.runs for node in run.seconds}

    def medians(self, unique_ids: Iterable[str]) -> dict[str, float]:
        """Return the median of the seconds of each node that any run tells of."""
        found = {}
        for unique_id in unique_ids:
            known = [run.seconds[unique_id] for run in self.runs if unique_id in run.seconds]
            if known:
                found[unique_id] = round(median(known), 3)
        return found

    @property
    def width(self) -> float:
        """How many nodes ran at once, on average of the middle one of the runs; 1 at least."""
        widths = [sum(run.seconds.values()) / run.span for run in self.runs if run.span]
        return max(median(widths), 1.0) if widths else 1.0

    def fields(self, unique_ids: Iterable[str]) -> dict[str, Any]:
        """Return what the page is told."""
        nodes = sorted(unique_ids)
        medians = self.medians(nodes)
        return {
            "runs": [run.run_id for run in self.runs],
            "nodes": {
                node: {"seconds": [run.seconds.get(node) for run in self.runs], "median": medians[node]}
                for node in nodes
                if node in medians
            },
        }


class HistoryReader:
    """Reads the histories of projects; one for all of a process, used by several threads."""

    def __init__(self, database: RunDatabase) -> None:
        self._database = database
        self._kept: OrderedDict[tuple[str, str, str, int, datetime], RunSummary] = OrderedDict()
        self._lock = threading.Lock()

    def before(self, key: ProjectKey) -> History:
        """Return the runs before that of a project."""
        runs = [run.run_id for run in self._database.runs(key.dag_id, limit=RUNS, before=key.run_id)]
        if not runs:
            return History()
        stamps = self._database.stamps(key.dag_id, runs, SUMMARY_KEY, key.group, key.map_index)
        heads = [stamp for stamp in stamps if stamp.key == SUMMARY_KEY]
        summaries: dict[str, list[RunSummary]] = {}
        for stamp in heads:
            pieces = sorted(other.key for other in stamps if other[:2] == stamp[:2] and other != stamp)
            summary = self._summary(key, stamp, pieces)
            if summary is not None:
                summaries.setdefault(stamp.run_id, []).append(summary)
        return History(tuple(_run_of(run_id, summaries[run_id]) for run_id in runs if run_id in summaries))

    def _summary(self, key: ProjectKey, stamp: XComStamp, pieces: list[str]) -> RunSummary | None:
        place = (key.dag_id, stamp.run_id, stamp.task_id, key.map_index, stamp.written_at)
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        wanted = [(stamp.task_id, name) for name in (SUMMARY_KEY, *pieces)]
        found = self._database.xcoms(key.dag_id, [stamp.run_id], wanted, key.map_index)
        values = {xcom.key: xcom.value for xcom in found}
        try:
            summary = unpack_summary(
                values.get(SUMMARY_KEY), lambda number: values.get(piece_key(SUMMARY_KEY, number))
            )
        except PackedError as error:
            log.info("The summary of %s %s cannot be read: %s", stamp.run_id, stamp.task_id, error)
            return None
        with self._lock:
            self._kept[place] = summary
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return summary


def _run_of(run_id: str, summaries: list[RunSummary]) -> EarlierRun:
    seconds = {
        unique_id: took
        for summary in summaries
        for unique_id, state, took in zip(summary.ids, summary.states, summary.seconds, strict=True)
        if took is not None and meaning(state) in _WELL
    }
    begins = [summary.begin for summary in summaries if summary.begin is not None]
    ends = [summary.end for summary in summaries if summary.end is not None]
    went_well = all(summary.exit_code == 0 for summary in summaries)
    span = max(ends) - min(begins) if begins and ends and went_well else None
    return EarlierRun(run_id, seconds, span if span is not None and span > 0 else None)
