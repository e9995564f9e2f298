"""
Which tasks a project becomes: pure, from a graph and a selection to a list of `PlannedTask`.

`rendering.group` makes Airflow's tasks of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from dbt_watch.exceptions import ArgumentError
from dbt_watch.rendering.task_ids import ALL_TESTS_ID, node_task_id, suffixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from dbt_watch.core.manifest.graph import Graph, Node

Tests = Literal["after_each", "build", "after_all", "none"]
TESTS: Final[tuple[Tests, ...]] = ("after_each", "build", "after_all", "none")

TEST_TYPES: Final = frozenset({"test", "unit_test"})
# What dbt runs; exposures and the like have no task. A source is in a selection only when its freshness is checked.
RUN_TYPES: Final = frozenset({"model", "seed", "snapshot", "function", "saved_query", "source"}) | TEST_TYPES


class PlannedTask(msgspec.Struct):
    """
    A task to be.

    :param task_id: its id within the group
    :param unique_ids: the nodes that it stands for
    :param upstream: the ids of the tasks before it
    :param home: the node that it belongs to: the one it stands for, or whose tests they are; None for tests of all
    """

    task_id: str
    unique_ids: list[str]
    upstream: list[str]
    home: str | None = None


class Plan(msgspec.Struct):
    """
    The tasks of a project.

    :param tasks: by task id, each after those it depends on is not promised
    :param node_tasks: the id of the task that stands for each node
    :param gates: for each node, the id of the task after which its children come: its tests, or itself
    :param parents: for each node that has a task, the nearest nodes before it that have one, tests not counted
    """

    tasks: dict[str, PlannedTask]
    node_tasks: dict[str, str]
    gates: dict[str, str]
    parents: dict[str, list[str]]


def plan_tasks(graph: Graph, selected: AbstractSet[str], tests: Tests = "after_each") -> Plan:
    """
    Plan the tasks of a selection.

    :param graph: the project
    :param selected: the unique_ids that dbt is asked to build, or to check
    :param tests: "after_each": one task for the tests of a node, between it and its children; "build": a node's task
        stands for its tests too; "after_all": one task for all tests; "none": no tests
    :raises ArgumentError: when two nodes would get the same id, naming both
    """
    planner = _Planner(graph, selected)
    planner.add_nodes()
    _ADD_TESTS[tests](planner)
    planner.connect()
    return planner.plan


def is_run(node: Node) -> bool:
    """Return whether dbt runs a node at all; an ephemeral model only ever becomes part of others."""
    return node.resource_type in RUN_TYPES and node.materialized != "ephemeral"


class _Planner:
    def __init__(self, graph: Graph, selected: AbstractSet[str]) -> None:
        self.graph = graph
        nodes = [graph.nodes[unique_id] for unique_id in sorted(selected)]
        self.run = [node for node in nodes if is_run(node) and node.resource_type not in TEST_TYPES]
        self.tests = [node for node in nodes if node.resource_type in TEST_TYPES]
        self.plan = Plan({}, {}, {}, {})
        self.before: dict[str, str] = {}  # what runs before a node and after its parents: its unit tests
        self._nearest: dict[str, tuple[str, ...]] = {}

    def add(
        self, task_id: str, unique_ids: Iterable[str], upstream: Sequence[str] = (), home: str | None = None
    ) -> None:
        task = self.plan.tasks.setdefault(task_id, PlannedTask(task_id, [], [], home))
        if task.home != home:
            raise ArgumentError(
                "task_id",
                task_id,
                f"an id of its own for each node: {task.home} and {home} would share this one. Rename one of them, or"
                " leave it out with exclude=...",
            )
        task.unique_ids += unique_ids
        if upstream:
            self.wait_for(task_id, upstream)
        self.plan.node_tasks.update((unique_id, task_id) for unique_id in task.unique_ids)

    def wait_for(self, task_id: str, upstream: Iterable[str]) -> None:
        task = self.plan.tasks[task_id]
        task.upstream = list(dict.fromkeys([*task.upstream, *upstream]))

    def add_nodes(self) -> None:
        for node in self.run:
            task_id = node_task_id(node, self.graph.project_name)
            self.add(task_id, [node.unique_id], home=node.unique_id)
            self.plan.gates[node.unique_id] = task_id

    def owner(self, test: Node) -> str | None:
        """Return the one node of the selection that a test belongs to; None when there are several, or none."""
        tested = self.tested(test)
        return tested[0] if len(tested) == 1 else None

    def tested(self, test: Node) -> list[str]:
        if test.unique_id not in self.plan.parents:
            found = {nearest for parent in test.depends_on for nearest in self.nearest(parent)}
            self.plan.parents[test.unique_id] = sorted(found)
        return self.plan.parents[test.unique_id]

    def nearest(self, unique_id: str) -> tuple[str, ...]:
        """Return a node itself if it has a task, else the nearest ones before it that do."""
        found = self._nearest
        stack = [unique_id]
        while stack:
            current = stack[-1]
            if current in found:
                stack.pop()
            elif current in self.plan.gates:
                found[current] = (current,)
            elif current not in self.graph.nodes:
                found[current] = ()
            elif open_parents := [item for item in self.graph.parents(current) if item not in found]:
                stack += open_parents
            else:
                parents = (nearest for item in self.graph.parents(current) for nearest in found[item])
                found[current] = tuple(dict.fromkeys(parents))
        return found[unique_id]

    def add_test_of_its_own(self, test: Node) -> None:
        upstream = [self.plan.node_tasks[unique_id] for unique_id in self.tested(test)]
        self.add(node_task_id(test, self.graph.project_name), [test.unique_id], upstream, home=test.unique_id)

    def tests_after_each(self) -> None:
        for test in self.tests:
            owner = self.owner(test)
            if owner is None:
                self.add_test_of_its_own(test)
                continue
            node_task = self.plan.node_tasks[owner]
            if test.resource_type == "unit_test":
                # dbt runs these before the model: on fixtures, not on what the model has built.
                self.before[owner] = suffixed(node_task, "unit_test", owner)
                self.add(self.before[owner], [test.unique_id], home=owner)
            else:
                self.plan.gates[owner] = suffixed(node_task, "test", owner)
                self.add(self.plan.gates[owner], [test.unique_id], [node_task], home=owner)

    def tests_in_the_build(self) -> None:
        for test in self.tests:
            owner = self.owner(test)
            if owner is None:
                self.add_test_of_its_own(test)
            else:
                self.add(self.plan.node_tasks[owner], [test.unique_id], home=owner)

    def tests_after_all(self) -> None:
        if self.tests:
            upstream = {self.plan.node_tasks[item] for test in self.tests for item in self.tested(test)}
            self.add(ALL_TESTS_ID, [test.unique_id for test in self.tests], sorted(upstream))

    def connect(self) -> None:
        """Draw dbt's lineage: from each node's gate to its children."""
        for node in self.run:
            found = (item for parent in self.graph.parents(node.unique_id) for item in self.nearest(parent))
            parents = self.plan.parents[node.unique_id] = list(dict.fromkeys(found))
            gates = [self.plan.gates[parent] for parent in parents]
            own = self.plan.node_tasks[node.unique_id]
            first = self.before.get(node.unique_id)
            if first is not None:
                self.wait_for(first, gates)
                gates = [first]
            self.wait_for(own, gates)


_ADD_TESTS: Final[dict[str, Callable[[_Planner], None]]] = {
    "after_each": _Planner.tests_after_each,
    "build": _Planner.tests_in_the_build,
    "after_all": _Planner.tests_after_all,
    "none": lambda _: None,
}
