"""
What a task that runs dbt is there for: the project, its nodes, the tasks that stand for them, and what this means for an attempt.

`producers.dbt_task` says so anew whenever it is asked: `rendering.pod_tasks` sets some of it while a DAG file is parsed, and
`producers.single_node` has a copy of the task build some nodes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbt_watch.core.log.drift import Drift, OnDrift
from dbt_watch.core.log.stale_sources import OnStale, StaleSources
from dbt_watch.core.selection.gaps import selected_nodes
from dbt_watch.core.selection.source_freshness import readers_of
from dbt_watch.producers.upstreams import held_back_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from dbt_watch.core.command import Selection
    from dbt_watch.core.held_back import HeldBack
    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.core.part import Part
    from dbt_watch.producers.attempt import Attempt


@dataclass(frozen=True, slots=True)
class BuildScope:
    """
    What a task builds.

    :param graph: the project
    :param selection: the nodes to build, and the sources to check
    :param selected: the unique_ids of both
    :param watched: the unique_ids that each sensor stands for, by its task id
    :param part: what it builds of a project that is split; None where it builds all of it
    :param on_stale: what becomes of nodes that read from a stale source
    :param on_drift: what becomes of an attempt in which dbt ran another project than the manifest's
    """

    graph: Graph
    selection: Selection
    selected: frozenset[str]
    watched: Mapping[str, Sequence[str]]
    part: Part | None = None
    on_stale: OnStale = "fail"
    on_drift: OnDrift = "warn"

    @property
    def own(self) -> frozenset[str]:
        """All that it builds where a run narrows nothing."""
        return self.selected if self.part is None else self.part.nodes

    @property
    def stands_for(self) -> tuple[str, ...]:
        """The nodes whose task this is: of an isolated node; none for a producer."""
        return () if self.part is None else self.part.stands_for

    def wanted(self, attempt: Attempt) -> frozenset[str]:
        """Return the nodes that are wanted of an attempt: all of its own, unless it was narrowed when it ran."""
        return self.own if attempt.wanted is None else attempt.wanted

    def shown(self, attempt: Attempt) -> frozenset[str]:
        """Return the nodes that are wanted of an attempt, with those that tasks stand for."""
        return self.wanted(attempt).union(*self.watched.values())

    def nodes(self, unique_ids: Iterable[str]) -> dict[str, Node]:
        """Return nodes of the project, with what they depend on across nodes that are not among them."""
        return selected_nodes(self.graph, unique_ids)

    def held_back(self, task_instance: Any, part: Part, nodes: Collection[str]) -> HeldBack:
        """Return which of some nodes of its part are held back now by what came before."""
        return held_back_of(task_instance, part, nodes, self.graph, on_stale=self.on_stale)

    def stale(self, nodes: Collection[str], attempt: Attempt) -> StaleSources:
        """Return what stale sources mean for an attempt that builds some nodes."""
        return StaleSources(readers_of(self.graph, nodes), self.on_stale, attempt.left_to_dbt)

    def drift(self, nodes: Collection[str], attempt: Attempt) -> Drift:
        """Return what it means for such an attempt when dbt runs another project than the manifest's."""
        return Drift(tuple(sorted(self.shown(attempt).difference(nodes))), self.on_drift)
