"""
How a sensor of a group builds its own nodes: which sensors come before it, and with what pod.

A sensor holds one; only on a worker, and only for a sensor that was cleared alone, is more of it needed than its being.
"""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context

    from dbt_watch.core.journal import Closed
    from dbt_watch.core.results import NodeResult
    from dbt_watch.producers.alone import LonePod
    from dbt_watch.rendering.group import GroupTasks


class LoneBuild:
    """
    The build of one sensor's nodes.

    :param tasks: the sensor's group
    :param task_id: the sensor's id within the group
    """

    def __init__(self, tasks: GroupTasks, task_id: str) -> None:
        self._tasks = tasks
        self._task_id = task_id
        self._pod: LonePod | None = None

    def parents(self) -> list[str]:
        """Give the whole ids of the sensors directly before this one."""
        tasks = self._tasks
        return [tasks.group.child_id(task_id) for task_id in tasks.plan.tasks[self._task_id].upstream]

    def earlier(self) -> list[str]:
        """
        Give the whole ids of all sensors that have their turn before this one.

        The order is the same for all sensors of a group and goes along the lineage, so of several that were cleared
        together each comes after those it needs, and never two at a time.
        """
        plan, group = self._tasks.plan, self._tasks.group
        order = list(
            TopologicalSorter(
                {task_id: plan.tasks[task_id].upstream for task_id in sorted(plan.tasks)}
            ).static_order()
        )
        return [group.child_id(task_id) for task_id in order[: order.index(self._task_id)]]

    def run(self, context: Context) -> tuple[list[NodeResult], Closed]:
        """
        Build the nodes.

        :param context: the sensor's
        :returns: what became of them, and how dbt ended
        """
        from dbt_watch.producers.alone import LonePod  # noqa: PLC0415 - it imports Kubernetes

        self._pod = LonePod(self._tasks.make_producer(), self._tasks.plan.tasks[self._task_id].unique_ids)
        return self._pod.run(context)

    def kill(self) -> None:
        """End the build, if there is one."""
        if self._pod is not None:
            self._pod.kill()
