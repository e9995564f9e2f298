"""
Which nodes of a part are not built, because of what came before them in other parts.

In one process dbt skips what depends on a failed node; over several pods the same has to come out. `producers.upstreams` asks
when a part is about to run.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.labels import label_of
from dbt_watch.core.log.stale_sources import fault_of
from dbt_watch.core.results import NOT_DUE, NodeResult, NotRun
from dbt_watch.core.selection.evaluator import reach
from dbt_watch.core.selection.source_freshness import is_source
from dbt_watch.core.task_states import RED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.log.stale_sources import OnStale
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.part import Upstream

MAX_NAMES: Final = 10


class UpstreamEnd(msgspec.Struct, frozen=True):
    """
    How such a task has ended.

    :param state: its state; of a mapped task, the worst of its instances
    :param results: what it left in XCom
    """

    state: str | None
    results: tuple[NodeResult, ...] = ()


class HeldBack(msgspec.Struct, frozen=True):
    """
    The nodes of a part that are not built, because of what came before them.

    :param entries: what the journal tells of each
    :param reason: why, for the task that runs dbt; empty when nothing has failed
    """

    entries: tuple[NodeResult, ...] = ()
    reason: str = ""

    @property
    def nodes(self) -> frozenset[str]:
        """Their unique_ids."""
        return frozenset(entry.unique_id for entry in self.entries)

    def caused(self, closed: Closed) -> bool:
        """Return whether an attempt has ended badly for this reason only."""
        return bool(self.reason) and closed.exit_code == 1 and closed.reason == self.reason

    def end(self, closed: Closed) -> Closed:
        """
        Return how an attempt ends: badly when something was held back by a failure, as it would be in one pod.

        :param closed: how dbt ended
        """
        if closed.exit_code != 0 or not self.reason:
            return closed
        return msgspec.structs.replace(closed, exit_code=1, reason=self.reason)


def held_back(
    graph: Graph,
    nodes: Collection[str],
    upstreams: Iterable[Upstream],
    ends: Mapping[str, UpstreamEnd],
    *,
    on_stale: OnStale = "fail",
    attempt: int = 1,
) -> HeldBack:
    """
    Return which nodes are held back, and by what.

    :param graph: the project
    :param nodes: the unique_ids of those that the part would build
    :param upstreams: the tasks that it waits for
    :param ends: how each of them has ended, by its id
    :param on_stale: what becomes of nodes behind a stale source
    :param attempt: of the task that runs dbt
    """
    failures: defaultdict[str, dict[str, None]] = defaultdict(dict)
    skips: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for upstream in upstreams:
        end = ends[upstream.task_id]
        because, is_skip = _because(upstream, end, on_stale)
        if because:
            found = skips if is_skip else failures
            affected = {*upstream.behind, *reach(graph.child_map, upstream.behind)}
            for unique_id in affected.intersection(nodes):
                found[unique_id].update(dict.fromkeys(because))
    sources = {
        result.unique_id: result
        for end in ends.values()
        for result in end.results
        if is_source(result.unique_id)
    }
    entries = []
    for unique_id in sorted({*failures, *skips}):
        node = graph.nodes[unique_id]
        entry = NodeResult(
            unique_id=unique_id,
            name=node.name,
            resource_type=node.resource_type,
            status=statuses.NOT_RUN,
            attempt=attempt,
        )
        if unique_id in failures:
            entry = _failed(entry, tuple(failures[unique_id]), sources)
        else:
            entry = _skipped(entry, tuple(skips[unique_id]), sources)
        entries.append(entry)
    causes = dict.fromkeys(cause for because in failures.values() for cause in because)
    return HeldBack(tuple(entries), _reason(len(failures), list(causes)))


# What stands for a task among causes; no unique_id has a blank.
_TASK: Final = "task "


def _because(upstream: Upstream, end: UpstreamEnd, on_stale: OnStale) -> tuple[Sequence[str], bool]:
    """Return what holds back the nodes behind a task, nothing if nothing does, and whether they are skipped or have failed."""
    name = upstream.node or f"{_TASK}{upstream.task_id}"
    if end.state == SUCCESS:
        return (), False
    if end.state in RED:
        roots = [
            cause
            for result in end.results
            for cause in (result.skipped_because if result.is_skipped else (result.unique_id,))
            if result.is_skipped or result.is_failure
        ]
        is_stale = upstream.node is not None and is_source(upstream.node)
        return list(dict.fromkeys(roots)) or [name], is_stale and on_stale == "skip"
    # It was skipped, and so is what needs it, unless dbt simply had nothing to do there.
    is_harmless = bool(end.results) and all(result.not_run in _HARMLESS for result in end.results)
    return ([] if is_harmless else [name]), True


_HARMLESS: Final = NOT_DUE - {NotRun.STALE_SOURCE, NotRun.UPSTREAM_SKIPPED}


def _failed(entry: NodeResult, causes: tuple[str, ...], sources: Mapping[str, NodeResult]) -> NodeResult:
    named = tuple(cause for cause in causes if not cause.startswith(_TASK))
    # The message counts where dbt itself would never skip: behind a source, or a task that is none of the project's.
    message = None
    if not named or is_source(named[0]):
        message = ", ".join(_fault(cause, sources) for cause in causes)
    return msgspec.structs.replace(entry, status=statuses.SKIPPED, skipped_because=named, message=message)


def _skipped(entry: NodeResult, causes: tuple[str, ...], sources: Mapping[str, NodeResult]) -> NodeResult:
    is_stale = any(cause in sources for cause in causes)
    message = ", ".join(_fault(cause, sources, "was skipped") for cause in causes)
    not_run = NotRun.STALE_SOURCE if is_stale else NotRun.UPSTREAM_SKIPPED
    return msgspec.structs.replace(entry, not_run=not_run, message=message)


def _fault(cause: str, sources: Mapping[str, NodeResult], otherwise: str = "failed") -> str:
    if cause in sources:
        return f"source `{label_of(cause)}` {fault_of(sources[cause].status) or otherwise}"
    if cause.startswith(_TASK):
        return f"task `{cause.removeprefix(_TASK)}` {otherwise}"
    return f"upstream `{label_of(cause)}` {otherwise}"


def _reason(count: int, causes: Sequence[str]) -> str:
    if not count:
        return ""
    names = ", ".join(
        f"`{cause.removeprefix(_TASK) if cause.startswith(_TASK) else label_of(cause)}`"
        for cause in causes[:MAX_NAMES]
    )
    more = f" and {len(causes) - MAX_NAMES} more" if len(causes) > MAX_NAMES else ""
    what = "1 node was" if count == 1 else f"{count} nodes were"
    return f"{what} not built: upstream {names}{more} failed"
