"""
All results of a run as an argument for another task: `DbtProject.results`.

The values are read on that task's worker: from the producer's journal, and what the journal of a later attempt no
longer tells, from the sensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from dbt_watch.core.journal.format import HEAD_KEY
from dbt_watch.core.xcom_values import results_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import BaseOperator

    from dbt_watch.airflow.task_instances import TaskKey
    from dbt_watch.core.results import NodeResult
    from dbt_watch.rendering.group import GroupTasks
    from dbt_watch.rendering.split import PlannedPart


class ProjectResults(XComArg):
    """
    The results of all nodes of a project, as a list of dicts.

    :param tasks: the tasks of the project's group
    :param awaited: the tasks that must have run before
    :param part: the id, within the group, of the one task that runs dbt whose nodes are meant; None for all of them
    """

    def __init__(
        self, tasks: GroupTasks, awaited: Sequence[BaseOperator] = (), *, part: str | None = None
    ) -> None:
        self._tasks = tasks
        self._awaited = awaited
        self._part = part

    def __repr__(self) -> str:
        # In the serialized DAG, so without anything that changes from one parse to the next.
        return f"ProjectResults({self._tasks.group.group_id})"

    __str__ = __repr__

    def iter_references(self) -> Iterator[tuple[Any, str]]:
        """Name what must have run before: all that runs dbt."""
        for task in self._awaited:
            yield task, HEAD_KEY

    def resolve(self, context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """
        Read the results.

        :param context: of the task that takes them
        :returns: the results of each run of the project one after the other, where it is mapped
        """
        ti = context["ti"]
        return [
            result.to_dict() for map_index in self._map_indexes(ti) for result in self._read(ti, map_index)
        ]

    def _map_indexes(self, ti: Any) -> list[int]:
        mapped = next(iter(self._tasks.group.iter_mapped_task_groups()), None)
        if mapped is None:
            return [-1]
        around = ti.task.get_closest_mapped_task_group()
        if around is not None and around.group_id == mapped.group_id:
            return [ti.map_index]
        producer = self._tasks.group.child_id(self._parts[0].task_id)
        return list(range(ti.get_ti_count(dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=[producer])))

    def _read(self, ti: Any, map_index: int) -> list[NodeResult]:
        # For a worker, not for a DAG file to load.
        from dbt_watch.airflow.task_instances import TaskKey  # noqa: PLC0415
        from dbt_watch.producers.journal_store import stored_journal  # noqa: PLC0415

        group = self._tasks.group
        found: dict[str, NodeResult] = {}
        again = set()
        for part in self._parts:
            state = stored_journal(TaskKey(ti.dag_id, ti.run_id, group.child_id(part.task_id), map_index))
            found.update(state.entries)
            if state.attempt > 1:
                again.add(part.task_id)
        for planned in self._tasks.plan.tasks.values():
            is_whole = found.keys() >= set(planned.unique_ids)
            if not is_whole and self._tasks.part_of(planned.task_id).task_id in again:
                key = TaskKey(ti.dag_id, ti.run_id, group.child_id(planned.task_id), map_index)
                for result in _left_by(key):
                    found.setdefault(result.unique_id, result)
        return [result for result in found.values() if result.is_final]

    @property
    def _parts(self) -> list[PlannedPart]:
        return [part for part in self._tasks.parts if self._part in {None, part.task_id}]


def _left_by(key: TaskKey) -> list[NodeResult]:
    from dbt_watch.airflow.supervisor import read_xcom_now  # noqa: PLC0415

    return results_in(read_xcom_now(key, "return_value"))
