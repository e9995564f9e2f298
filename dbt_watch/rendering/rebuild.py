"""
How a sensor of a group builds its own nodes: which sensors come before it, and by what task that runs dbt.

A sensor holds one; only on a worker, and only for a sensor that was cleared alone, is more of it needed than its being.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult
    from dbt_watch.producers.single_node import LoneBuild
    from dbt_watch.rendering.group import GroupTasks


class SensorRebuild:
    """
    The rebuild of one sensor's nodes: the `Rebuild` that `sensors.operator` asks for.

    :param tasks: the sensor's group
    :param task_id: the sensor's id within the group
    """

    def __init__(self, tasks: GroupTasks, task_id: str) -> None:
        self._tasks = tasks
        self._task_id = task_id
        self._build: LoneBuild | None = None

    def parents(self) -> list[str]:
        """Return the whole ids of the sensors directly before this one."""
        tasks = self._tasks
        return [tasks.group.child_id(task_id) for task_id in tasks.plan.tasks[self._task_id].upstream]

    def barriers(self) -> list[str]:
        """Return the whole ids of the tasks in the middle of the project that come directly before this one's nodes."""
        tasks = self._tasks
        return tasks.barriers.in_front_of(tasks.plan.tasks[self._task_id].unique_ids)

    @property
    def turn(self) -> int:
        """
        The place of the sensor in an order of all sensors of its group, counted from 0.

        It goes along the lineage: of several that were cleared together each comes after those it needs.
        """
        return self._tasks.order[self._task_id]

    def others(self) -> Iterator[str]:
        """Yield the whole ids of all other sensors, in their order."""
        tasks = self._tasks
        return (tasks.group.child_id(task_id) for task_id in tasks.order if task_id != self._task_id)

    def run(self, context: Context) -> tuple[list[NodeResult], Closed]:
        """
        Build the nodes.

        :param context: the sensor's
        :returns: what became of them, and how dbt ended
        """
        producer = self._tasks.producer_of(self._task_id)
        from dbt_watch.producers.single_node import LoneBuild  # noqa: PLC0415 - a parse needs none of it

        self._build = LoneBuild(producer, self._tasks.plan.tasks[self._task_id].unique_ids)
        return self._build.run(context)

    def kill(self) -> None:
        """End the build, if there is one."""
        if self._build is not None:
            self._build.kill()
