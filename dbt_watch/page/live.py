"""
What happens at this moment in a run: counts, what runs, the phase before the first node, and when it may be over.

`page.readers` makes a `Live` of what `page.run_source` has read.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.log.entries import TESTS
from dbt_watch.core.results import NotRun
from dbt_watch.core.run_notes import Phase
from dbt_watch.core.statuses import Meaning, meaning
from dbt_watch.core.task_states import DEFERRED, OVER, RUNNING, UP_FOR_RETRY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbt_watch.core.results import NodeResult
    from dbt_watch.page.history import History
    from dbt_watch.page.run_source import RunSource

_AT_WORK: Final = frozenset({RUNNING, DEFERRED})


class RunningNode(msgspec.Struct, frozen=True):
    """A node that runs, and since when."""

    node: str
    since: datetime | None


class Counts(msgspec.Struct):
    """
    How many nodes there are.

    :ivar done: that dbt is done with, failed ones among them
    :ivar skipped: that were passed over, for whatever reason
    :ivar total: all of them: done, running, waiting and skipped
    """

    done: int = 0
    running: int = 0
    waiting: int = 0
    failed: int = 0
    warned: int = 0
    skipped: int = 0
    total: int = 0


class NodeTask(msgspec.Struct, frozen=True):
    """The task of a node, as Airflow has it."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """
    A run at one moment.

    :param now: by the clock of the api-server
    :param tasks: with a change, those that have changed; else all
    :param sources: where the results come from, in words
    """

    is_over: bool
    phase: Phase
    phase_text: str
    now: datetime
    running: tuple[RunningNode, ...]
    counts: Counts
    estimated_end: datetime | None
    attempt: int
    tasks: dict[str, NodeTask]
    sources: tuple[str, ...]
    notes: tuple[str, ...]


def live_of(source: RunSource, history: History, now: datetime) -> Live:
    """
    Return a run as it is now.

    :param source: what is known of it
    :param history: its earlier runs
    :param now: the time
    """
    results = source.all_results
    phase, text = _phase(source, results.values())
    running = sorted(
        (RunningNode(unique_id, result.started_at) for unique_id, result in results.items() if _runs(result)),
        key=lambda node: (node.since is None, node.since, node.node),
    )
    return Live(
        is_over=source.is_over,
        phase=phase,
        phase_text=text,
        now=now,
        running=() if source.is_over else tuple(running),
        counts=counts_of(results.values(), is_over=source.is_over),
        estimated_end=None if source.is_over else estimated_end(source, results, history, now),
        attempt=source.attempt,
        tasks={
            node: NodeTask(row.task_id, row.map_index, row.state, row.try_number)
            for node, row in source.task_rows(source.task_of).items()
        },
        sources=tuple(source.sources),
        notes=tuple(_notes(source)),
    )


def counts_of(results: Iterable[NodeResult], *, is_over: bool) -> Counts:
    """Return how many nodes are in which state."""
    counts = Counts()
    for result in results:
        means = meaning(result.status)
        if result.not_run is NotRun.EPHEMERAL:
            continue
        counts.total += 1
        if means is Meaning.OPEN and not is_over:
            counts.running += 1
        elif means is Meaning.NOT_RUN and result.not_run is None and not is_over:
            counts.waiting += 1
        elif means in {Meaning.SKIPPED, Meaning.NOT_RUN, Meaning.OPEN}:
            counts.skipped += 1
        else:
            counts.done += 1
            counts.failed += means is Meaning.FAILURE
            counts.warned += means is Meaning.WARNING
    return counts


def _runs(result: NodeResult) -> bool:
    return meaning(result.status) is Meaning.OPEN


def _phase(source: RunSource, results: Iterable[NodeResult]) -> tuple[Phase, str]:
    if source.is_over:
        return "over", ""
    if any(result.started_at is not None for result in results) and not source.is_between_attempts:
        return "running", ""
    notes = sorted(source.phases, key=lambda note: note.at)
    if notes:
        return notes[-1].phase, notes[-1].text
    producers = source.producers
    if any(row.state in _AT_WORK for row in producers):
        return "pod", "the task that runs dbt has started"
    states = ", ".join(sorted({row.state or "not scheduled" for row in producers if row.state not in OVER}))
    return "waiting", f"the task that runs dbt is {states}" if states else ""


def _notes(source: RunSource) -> Iterable[str]:
    if source.outline_of_run:
        yield f"dbt has not started: the nodes shown are those of the run {source.outline_of_run}"
    if source.is_between_attempts:
        states = {row.state for row in source.producers}
        again = "is tried again" if UP_FOR_RETRY in states else "is to run again"
        yield f"the task that runs dbt {again}: the previous attempt is shown"


# The estimate.


def estimated_end(
    source: RunSource, results: Mapping[str, NodeResult], history: History, now: datetime
) -> datetime | None:
    """
    Return when the run may be over, judged by earlier ones; None where these tell too little.

    Each node that is left is taken to last as long as the median of its earlier runs, or of all nodes of its kind. The rest takes as
    long as the longest chain of such nodes, or as all of them divided by how many ran at once before: whichever is longer.
    """
    left = {
        unique_id: result
        for unique_id, result in results.items()
        if meaning(result.status) in {Meaning.OPEN, Meaning.NOT_RUN} and result.not_run is None
    }
    medians = history.medians(results)
    if not medians or not left:
        return None
    usual = {kind: _middle(medians, kind) for kind in ("tests", "nodes")}
    rest: dict[str, float] = {}
    for unique_id, result in left.items():
        expected = medians.get(unique_id, usual[_kind(unique_id)])
        elapsed = (now - result.started_at).total_seconds() if result.started_at is not None else 0.0
        rest[unique_id] = max(expected - elapsed, 0.0)
    chain = _longest_chain(rest, source.facts.graph.parent_map)
    return now + timedelta(seconds=round(max(chain, sum(rest.values()) / history.width), 1))


def _kind(unique_id: str) -> str:
    return "tests" if unique_id.partition(".")[0] in TESTS else "nodes"


def _middle(medians: Mapping[str, float], kind: str) -> float:
    of_kind = sorted(seconds for node, seconds in medians.items() if _kind(node) == kind)
    return of_kind[len(of_kind) // 2] if of_kind else 0.0


def _longest_chain(rest: Mapping[str, float], parents: Mapping[str, tuple[str, ...]]) -> float:
    """
    Return how long the longest chain of nodes takes that are left.

    What is not left takes no time, but does not end a chain: an ephemeral model lies between two nodes, and is never run.
    """
    longest: dict[str, float] = {}
    begun: set[str] = set()
    for start in rest:
        waiting = [start]
        while waiting:
            node = waiting[-1]
            before = parents.get(node, ())
            # In a graph with a cycle, a node that has begun is not waited for.
            if node not in begun and (unknown := [parent for parent in before if parent not in begun]):
                begun.add(node)
                waiting += unknown
                continue
            begun.add(node)
            waiting.pop()
            if node not in longest:
                usual = rest.get(node, 0.0)
                longest[node] = usual + max((longest.get(parent, 0.0) for parent in before), default=0.0)
    return max(longest.values(), default=0.0)
