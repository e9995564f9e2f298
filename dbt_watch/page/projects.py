"""
Which dbt projects a run of a DAG has, and by which tasks dbt runs for each of them. `page.routes` asks; `page.run_source` reads one of them.

A project is a task group in which a task runs dbt. A producer says by its id which group that is; the task of an isolated node
does so in its phase (`core.run_notes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dbt_watch.core.run_notes import PHASE_KEY, decode_phase
from dbt_watch.rendering.task_ids import is_producer_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbt_watch.airflow.api_server import RunDatabase, TaskRow

OPERATOR_PREFIX: Final = "Dbt"
"""How the names of the operators begin that run dbt."""
SENSOR: Final = "DbtNodeSensor"


class ProjectKey(NamedTuple):
    """A project in a run of a DAG; `map_index` is -1 where it is not mapped."""

    dag_id: str
    run_id: str
    group: str
    map_index: int


class RunProject(NamedTuple):
    """
    A project of a run.

    :param producers: the ids of the tasks that run dbt for it
    """

    key: ProjectKey
    producers: tuple[str, ...]

    @property
    def label(self) -> str:
        """What a person calls it."""
        group, index = self.key.group, self.key.map_index
        return group if index < 0 else f"{group} [{index}]"

    def has_task(self, task_id: str, map_index: int) -> bool:
        """Return whether a task is one of its group."""
        return self.key.map_index == map_index and task_id.startswith(f"{self.key.group}.")

    def fields(self) -> dict[str, Any]:
        """Return what the page is told of it."""
        return {
            "group_id": self.key.group,
            "map_index": self.key.map_index,
            "label": self.label,
            "producers": self.producers,
        }


def projects_of(database: RunDatabase, dag_id: str, run_id: str) -> list[RunProject]:
    """Return the projects of a run, by their ids and map indexes; of a mapped one whose instances are not known, none."""
    rows = database.tasks_of_type(dag_id, run_id, prefix=OPERATOR_PREFIX, but=SENSOR)
    groups = {(row.task_id, row.map_index): _group_of_producer(row) for row in rows}
    if not all(groups.values()):
        for xcom in database.xcoms_of(dag_id, run_id, PHASE_KEY):
            note = decode_phase(xcom.value)
            place = (xcom.task_id, xcom.map_index)
            if note is not None and note.group and not groups.get(place, "-"):
                groups[place] = note.group
    known = sorted(filter(None, groups.values()), key=len, reverse=True)
    producers: dict[tuple[str, int], list[str]] = {}
    for (task_id, map_index), group in groups.items():
        found = group or next((name for name in known if task_id.startswith(f"{name}.")), "")
        if found:
            producers.setdefault((found, map_index), []).append(task_id)
    return [
        RunProject(ProjectKey(dag_id, run_id, *place), tuple(sorted(producers[place])))
        for place in sorted(producers)
    ]


def _group_of_producer(row: TaskRow) -> str:
    group, _, own = row.task_id.rpartition(".")
    return group if is_producer_id(own) else ""


def project_with(projects: Iterable[RunProject], task_id: str, map_index: int) -> RunProject | None:
    """Return the project that a task belongs to; the innermost, should one group lie in another."""
    found = [project for project in projects if project.has_task(task_id, map_index)]
    return max(found, key=lambda project: len(project.key.group), default=None)
