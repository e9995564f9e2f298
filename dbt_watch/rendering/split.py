"""
How a project is split into parts, each for a pod of its own: as few as its graph allows.

A node that is isolated has a part to itself, with its tests. All other nodes are built by producers, and a second producer is
needed only behind an isolated node, or behind a task that runs in the middle of the project, which itself waits for a node
of the first. So the number of a node's producer is how often, on the way to it, a producer has to be done before another pod
or task begins. Two producers can never be made one: of each two that follow one another, a node of the later one waits
for something that waits for a node of the earlier one.

Pure, from a graph, the plan of its tasks and the names of what is isolated to a list of `PlannedPart`. `rendering.group` makes
Airflow's tasks of it.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.labels import label_of
from dbt_watch.exceptions import ArgumentError
from dbt_watch.rendering.plan import TEST_TYPES
from dbt_watch.rendering.task_ids import ALL_TESTS_ID, PRODUCER_ID, producer_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.rendering.plan import Plan


class Barrier(msgspec.Struct, frozen=True):
    """
    A task that is none of the project's, and runs in the middle of it.

    :param task_id: its whole id
    :param after: the unique_ids of the nodes that it waits for, directly or through other tasks
    :param before: those of the nodes that wait for it
    """

    task_id: str
    after: frozenset[str]
    before: frozenset[str]


class PlannedPart(msgspec.Struct):
    """
    A part to be.

    :param task_id: the id, within the group, of the task that runs dbt
    :param nodes: the unique_ids that dbt is asked for
    :param home: the isolated node; None for the part of a producer
    :param waits_for: for the id of each of the project's tasks that it waits for, the nodes directly behind it
    :param barriers: likewise, by the whole ids of tasks that are none of the project's
    :param behind: all such tasks that have ended when it begins
    """

    task_id: str
    nodes: set[str]
    home: str | None = None
    waits_for: dict[str, list[str]] = {}
    barriers: dict[str, list[str]] = {}
    behind: frozenset[str] = frozenset()

    @property
    def is_first(self) -> bool:
        """Whether nothing of the project comes before it."""
        return not self.waits_for


def split(
    graph: Graph,
    selected: AbstractSet[str],
    plan: Plan,
    isolated: Collection[str] = (),
    barriers: Sequence[Barrier] = (),
) -> list[PlannedPart]:
    """
    Split a project; without anything that is isolated, and without barriers, there is one part.

    :param graph: the project
    :param selected: the unique_ids that dbt is asked to build, or to check
    :param plan: its tasks
    :param isolated: the unique_ids of nodes with a task of their own that get a pod of their own
    :param barriers: the tasks in the middle of the project
    :returns: the producers in their order, then the isolated nodes
    :raises ArgumentError: when a barrier waits for a node that waits for it, naming all three
    """
    if not isolated and not barriers:
        return [PlannedPart(PRODUCER_ID, set(selected))]
    return _Splitter(graph, selected, plan, frozenset(isolated), barriers).parts()


class _Splitter:
    """
    Splits one project.

    :ivar level: the number of the producer of each node that is not isolated, from 0
    :ivar passed: likewise of what dbt does not run on its own, such as an exposure
    """

    def __init__(
        self,
        graph: Graph,
        selected: AbstractSet[str],
        plan: Plan,
        isolated: frozenset[str],
        barriers: Sequence[Barrier],
    ) -> None:
        self.graph = graph
        self.selected = selected
        self.plan = plan
        self.isolated = isolated
        self.barriers = {f"{_BARRIER}{barrier.task_id}": barrier for barrier in barriers}
        self.level: dict[str, int] = {}
        self.passed: dict[str, int] = {}
        self.behind: dict[str, frozenset[str]] = {}

    def parts(self) -> list[PlannedPart]:
        self._walk()
        parts = self._producers()
        for unique_id in sorted(self.isolated):
            parts[unique_id] = PlannedPart(self.plan.node_tasks[unique_id], set(), home=unique_id)
        where = self._assign(parts)
        for unique_id, key in where.items():
            part = parts[key]
            part.nodes.add(unique_id)
            part.behind |= self.behind.get(unique_id, frozenset())
        self._connect(parts, where)
        return list(parts.values())

    def _producers(self) -> dict[str | int, PlannedPart]:
        count = 1 + max(self.level.values(), default=-1)
        # Tests of all nodes come when everything is built: where that takes several pods, in one more.
        count += ALL_TESTS_ID in self.plan.tasks
        return {number: PlannedPart(producer_id(number), set()) for number in range(count)}

    def _assign(self, parts: Mapping[str | int, PlannedPart]) -> dict[str, str | int]:
        """Return the part of each node of the selection: an isolated node, or the number of a producer."""
        last = sum(isinstance(key, int) for key in parts) - 1
        where: dict[str, str | int] = {}
        for unique_id in self.selected:
            home = self.home_of(unique_id)
            if home in self.isolated:
                where[unique_id] = home
            elif home is None:
                where[unique_id] = last
            elif home in self.level:
                where[unique_id] = self.level[home]
            elif last >= 0:
                where[unique_id] = min(self.passed[home], max(self.level.values(), default=last))
        return where

    def home_of(self, unique_id: str) -> str | None:
        """Return the node by which the place of a node is known: itself, or the one that it tests; None for a test of all."""
        task_id = self.plan.node_tasks.get(unique_id)
        return unique_id if task_id is None else self.plan.tasks[task_id].home

    def _walk(self) -> None:
        """Find the number of each node's producer."""
        before = self._predecessors()
        # For each key, the number of the first producer that may build what comes after it: next to it in the same pod, and
        # in another one.
        together: dict[str, int] = {}
        apart: dict[str, int] = {}
        try:
            order = list(TopologicalSorter(before).static_order())
        except CycleError as error:
            raise self._cycle(error.args[1]) from None
        for key in order:
            parents = before.get(key, ())
            together[key] = max((together[parent] for parent in parents), default=0)
            apart[key] = max((apart[parent] for parent in parents), default=0)
            self.behind[key] = frozenset().union(*(self.behind[parent] for parent in parents))
            if key in self.barriers:
                self.behind[key] |= {self.barriers[key].task_id}
                together[key] = apart[key]
            elif key in self.isolated:
                together[key] = apart[key]
            elif self._is_of_its_own(key):
                self.level[key] = together[key]
                apart[key] = max(apart[key], together[key] + 1)
            else:
                self.passed[key] = together[key]

    def _predecessors(self) -> dict[str, list[str]]:
        """Return what comes before each node, and before each barrier; a test of one node goes with it."""
        before = {
            unique_id: list(parents)
            for unique_id, parents in self.graph.parent_map.items()
            if self.graph.nodes[unique_id].resource_type not in TEST_TYPES or self._is_of_its_own(unique_id)
        }
        for key, barrier in self.barriers.items():
            before[key] = sorted(barrier.after)
            for unique_id in barrier.before:
                before[unique_id].append(key)
        for test, behind in self.held_by_tests:
            for unique_id in self._with_tasks(behind):
                before[unique_id].append(test)
        return before

    def _is_of_its_own(self, unique_id: str) -> bool:
        return unique_id in self.plan.node_tasks and self.home_of(unique_id) == unique_id

    @cached_property
    def held_by_tests(self) -> list[tuple[str, str]]:
        """
        Each test of several nodes, with each node that is the first to depend on all of them.

        dbt does not build such a node when the test has failed (`add_test_edges` of its `compilation.py`, 1.8 to 1.12).
        """
        tests = [
            unique_id
            for unique_id in self.plan.node_tasks
            if self.graph.nodes[unique_id].resource_type in TEST_TYPES and self._is_of_its_own(unique_id)
        ]
        if not tests:
            return []
        bits, ancestors = self._ancestors()
        found = []
        for test in tests:
            tested = self.graph.parents(test)
            if tested:
                mask = sum(bits[parent] for parent in dict.fromkeys(tested))
                found += [(test, unique_id) for unique_id in self._first_behind(tested[0], mask, ancestors)]
        return found

    def _ancestors(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return a bit for each node, and for each node the bits of all that it depends on."""
        bits: dict[str, int] = {}
        ancestors: dict[str, int] = {}
        built = {
            unique_id: parents
            for unique_id, parents in self.graph.parent_map.items()
            if self.graph.nodes[unique_id].resource_type not in TEST_TYPES
        }
        for unique_id in TopologicalSorter(built).static_order():
            bits[unique_id] = 1 << len(bits)
            ancestors[unique_id] = 0
            for parent in built[unique_id]:
                ancestors[unique_id] |= ancestors[parent] | bits[parent]
        return bits, ancestors

    def _first_behind(self, start: str, mask: int, ancestors: Mapping[str, int]) -> Iterator[str]:
        """Yield the nodes behind one that are the first to have all of some ancestors."""
        seen = {start}
        layer = [start]
        while layer:
            children = {child for item in layer for child in self.graph.child_map.get(item, ())} - seen
            seen |= children
            layer = []
            for child in sorted(children):
                if self.graph.nodes[child].resource_type in TEST_TYPES:
                    continue
                if ancestors[child] & mask == mask:
                    yield child
                else:
                    layer.append(child)

    def _cycle(self, cycle: Sequence[str]) -> ArgumentError:
        """Say what is wrong with a barrier: each of a cycle comes before the next."""
        number, key = next((number, key) for number, key in enumerate(cycle) if key in self.barriers)
        ring = cycle[:-1]
        number %= len(ring)
        held, awaited = ring[(number + 1) % len(ring)], ring[number - 1]
        task_id = self.barriers[key].task_id
        return ArgumentError(
            "dependency",
            f"{task_id} >> {label_of(held)}",
            f"no cycle: {task_id} waits for {label_of(awaited)}, which dbt builds after {label_of(held)}",
        )

    def _connect(self, parts: Mapping[str | int, PlannedPart], where: Mapping[str, str | int]) -> None:
        """Find what each part waits for in others."""
        waits: dict[str | int, dict[str, set[str]]] = {key: defaultdict(set) for key in parts}
        for task_id, awaited, unique_id in self._edges(where):
            if where[awaited] != where[unique_id]:
                waits[where[unique_id]][task_id].add(unique_id)
        barred: dict[str | int, dict[str, set[str]]] = {key: defaultdict(set) for key in parts}
        for barrier in self.barriers.values():
            for unique_id in barrier.before:
                barred[where[unique_id]][barrier.task_id].add(unique_id)
        for key, part in parts.items():
            part.waits_for, part.barriers = _in_order(waits[key]), _in_order(barred[key])

    def _edges(self, where: Mapping[str, str | int]) -> Iterator[tuple[str, str, str]]:
        """Yield each task of the project that a node waits for, with a node that it stands for, and the node."""
        for unique_id in where:
            if unique_id in self.plan.node_tasks:
                yield from (
                    (task_id, awaited, unique_id) for task_id, awaited in self._tasks_before(unique_id)
                )
        for test, behind in self.held_by_tests:
            for unique_id in self._with_tasks(behind):
                yield self.plan.node_tasks[test], test, unique_id

    def _tasks_before(self, unique_id: str) -> Iterator[tuple[str, str]]:
        """Yield the tasks before a node, each with a node that it stands for: the tests of a node, or for a test the node itself."""
        is_test = self.graph.nodes[unique_id].resource_type in TEST_TYPES
        gates = self.plan.node_tasks if is_test else self.plan.gates
        for parent in self.plan.parents[unique_id]:
            yield gates[parent], parent

    def _with_tasks(self, unique_id: str) -> Iterable[str]:
        """Return a node, or the first behind it that have tasks; tests do not wait for tests."""
        found, seen, stack = [], {unique_id}, [unique_id]
        while stack:
            current = stack.pop()
            if current in self.plan.node_tasks:
                found.append(current)
                continue
            children = self.graph.child_map.get(current, ())
            new = {
                child for child in children if self.graph.nodes[child].resource_type not in TEST_TYPES
            } - seen
            seen |= new
            stack += new
        return found


def _in_order(nodes: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {task_id: sorted(nodes[task_id]) for task_id in sorted(nodes)}


# What stands for a barrier among the unique_ids of nodes, which have no blanks.
_BARRIER: Final = "barrier "
