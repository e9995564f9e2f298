"""
The lanes of a timeline: which thread of dbt did what, and when it did nothing. `reporting.assembly` asks.

dbt-core names the thread of each node. Fusion does not, and neither does a journal; then the lanes are worked out from the
times: as few as will do, which is as many as nodes ran at the same moment.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from dbt_watch.reporting.run_record import Bar, Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAIN_THREAD: Final = "MainThread"
"""The thread of dbt-core that runs the hooks of the project, and no other node."""
MAX_IDLE_LANES: Final = 64
"""How many threads that did nothing at all are shown."""


def lanes_of(
    bars: Sequence[Bar], names: Mapping[str, str], threads: int | None = None
) -> tuple[tuple[Lane, ...], bool]:
    """
    Return the lanes of one dbt command, and whether they are its threads.

    :param bars: what ran, in any order; no two of one node
    :param names: the thread that each node ran in, where it is known
    :param threads: how many threads dbt was to use, if that is known; those that did nothing are lanes too
    """
    ordered = sorted(bars, key=lambda bar: (bar.begin, bar.end, bar.node))
    by_thread = _by_thread(ordered, names)
    rows = [*by_thread.values()] if by_thread is not None else _packed(ordered)
    titles = [*by_thread] if by_thread is not None else [str(number + 1) for number in range(len(rows))]
    if bars and threads is not None:
        used = sum(title != MAIN_THREAD for title in titles)
        unused = min(max(threads - used, 0), MAX_IDLE_LANES)
        rows += [[] for _ in range(unused)]
        titles += [""] * unused
    begin = min((bar.begin for bar in bars), default=0.0)
    end = max((bar.end for bar in bars), default=0.0)
    lanes = (
        Lane(title, tuple(row), 0.0 if title == MAIN_THREAD else idle_seconds(row, begin, end))
        for title, row in zip(titles, rows, strict=True)
    )
    return tuple(lanes), by_thread is not None


def idle_seconds(bars: Sequence[Bar], begin: float, end: float) -> float:
    """Return for how long nothing of a lane ran between two moments; its bars lie between them."""
    return round(max(end - begin - sum(bar.end - bar.begin for bar in bars), 0.0), 6)


def _by_thread(bars: Sequence[Bar], names: Mapping[str, str]) -> dict[str, list[Bar]] | None:
    """Return the bars of each thread; None when that of some node is not known, or the names cannot be right."""
    rows: defaultdict[str, list[Bar]] = defaultdict(list)
    for bar in bars:
        name = names.get(bar.node)
        # All threads of Fusion have the same name.
        if name is None or (rows[name] and rows[name][-1].end > bar.begin):
            return None
        rows[name].append(bar)
    return {name: rows[name] for name in sorted(rows, key=lambda name: (len(name), name))}


def _packed(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Return rows in which no two bars overlap, as few as will do; each bar goes into the first row that is free."""
    rows: list[list[Bar]] = []
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for bar in bars:
        while busy and busy[0][0] <= bar.begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            free.append(len(rows))
            rows.append([])
        row = heapq.heappop(free)
        rows[row].append(bar)
        heapq.heappush(busy, (bar.end, row))
    return rows
