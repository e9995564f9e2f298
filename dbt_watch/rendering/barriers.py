"""
Tasks in the middle of a project: functions bound before a node, and whatever else is put in front of one.

`rendering.group` asks which nodes each of them waits for. That is found by the edges of the DAG, upwards from the task to the
tasks of nodes, whatever lies between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbt_watch.core.labels import label_of
from dbt_watch.exceptions import ArgumentError
from dbt_watch.rendering.split import Barrier
from dbt_watch.rendering.task_ids import is_producer_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import BaseOperator, TaskGroup

    from dbt_watch.rendering.plan import Plan


class Barriers:
    """
    The tasks in the middle of one project.

    :param plan: its tasks
    :param group: its task group
    """

    def __init__(self, plan: Plan, group: TaskGroup) -> None:
        self._plan = plan
        self._group = group
        self._tasks: dict[str, BaseOperator] = {}
        self._before: dict[str, set[str]] = {}
        self._ours: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._tasks

    def add(self, unique_id: str, task: BaseOperator, *, is_ours: bool) -> None:
        """
        Put a task in front of a node.

        :param unique_id: the node
        :param task: the task
        :param is_ours: whether it was made for that
        :raises ArgumentError: when the node is a test that runs with the node that it tests
        """
        home = self._plan.tasks[self._plan.node_tasks[unique_id]].home
        if home != unique_id:
            raise ArgumentError(
                "dependency",
                f"{task.task_id} >> {label_of(unique_id)}",
                "a task upstream of a model, seed or snapshot: a test runs in the pod of the node that it tests",
            )
        self._tasks[task.task_id] = task
        self._before.setdefault(task.task_id, set()).add(unique_id)
        if is_ours:
            self._ours.add(task.task_id)

    def in_front_of(self, unique_ids: Iterable[str]) -> list[str]:
        """Return the ids of the tasks that are in front of some nodes, or in front of one that is tested by them."""
        nodes = set(unique_ids)
        return sorted(task_id for task_id, held in self._before.items() if held & nodes)

    def tasks(self, task_ids: Iterable[str]) -> list[BaseOperator]:
        """Return the tasks of these ids."""
        return [self._tasks[task_id] for task_id in task_ids]

    def is_ours(self, task_id: str) -> bool:
        """Whether a task was made to run in front of a node, by `@dbt_node`."""
        return task_id in self._ours

    def known(self) -> list[Barrier]:
        """Return all of them, as far as the edges of the DAG are drawn by now."""
        return [
            Barrier(task_id, self.nodes_before(task), frozenset(self._before[task_id]))
            for task_id, task in self._tasks.items()
        ]

    @property
    def first_functions(self) -> list[BaseOperator]:
        """The functions that wait for no node of the project."""
        return [
            self._tasks[task_id]
            for task_id in sorted(self._ours)
            if not self.nodes_before(self._tasks[task_id])
        ]

    def nodes_before(self, task: Any) -> frozenset[str]:
        """Return the nodes that a task waits for, directly or through other tasks."""
        found: set[str] = set()
        seen: set[str] = set()
        stack = _upstream(task)
        while stack:
            task_id = stack.pop()
            if task_id in seen:
                continue
            seen.add(task_id)
            nodes = self._nodes_of(task_id)
            found.update(nodes)
            if not nodes and (upstream := self._group.dag.task_dict.get(task_id)) is not None:
                stack += _upstream(upstream)
        return frozenset(found)

    def _nodes_of(self, task_id: str) -> Iterable[str]:
        """Return the nodes that a task of the project stands for; nothing for any other task."""
        prefix = self._group.child_id("")
        inner = task_id.removeprefix(prefix)
        if prefix and inner == task_id:
            return ()
        if is_producer_id(inner):
            # Nobody waits for a producer but who waits for the whole project.
            return self._plan.gates
        planned = self._plan.tasks.get(inner)
        if planned is None:
            return ()
        return self._plan.gates if planned.home is None else [planned.home]

    def came_late(self) -> ArgumentError:
        """Return the error for edges that were drawn when the project had been split already."""
        held = ", ".join(
            f"{task_id} >> {label_of(node)}" for task_id in self._tasks for node in self._before[task_id]
        )
        return ArgumentError(
            "dependency",
            held,
            "to come later in the DAG file: first the edges upstream of the task, then the edge from the task to the node",
        )


def _upstream(task: Any) -> list[str]:
    # What a sensor of another project waits for is no edge: the task that runs dbt there.
    producer = getattr(task, "producer_task_id", None)
    return [*task.upstream_task_ids, *([] if producer is None else [producer])]
