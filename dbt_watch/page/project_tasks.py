"""The tasks of a project in a run: which run dbt, which stand for nodes, and how they stand. Used by `page.run_source`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from dbt_watch.core.task_states import OVER
from dbt_watch.page.projects import OPERATOR_PREFIX, SENSOR

if TYPE_CHECKING:
    from dbt_watch.airflow.api_server import TaskRow
    from dbt_watch.page.project_database import ProjectDatabase

# How much longer than the pause between two looks the states of tasks are read back, for clocks that differ.
_OVERLAP: Final = timedelta(seconds=10)
_ALL_TASKS_EVERY: Final = timedelta(seconds=20)


class ProjectTasks:
    """
    The tasks of one project.

    :param database: that of the project
    """

    def __init__(self, database: ProjectDatabase) -> None:
        self.rows: dict[str, TaskRow] = {}
        """The tasks by their ids."""
        self._database = database
        self._looked_at: datetime | None = None
        self._looked_at_all: datetime | None = None

    def look(self) -> set[str]:
        """Read what may have changed; return the ids of the tasks that have."""
        now = datetime.now(timezone.utc)
        is_due = self._looked_at_all is None or now - self._looked_at_all >= _ALL_TASKS_EVERY
        since = None if is_due or self._looked_at is None else self._looked_at - _OVERLAP
        rows = self._database.tasks(since)
        self._looked_at = now
        if since is None:
            self._looked_at_all = now
        changed = {row.task_id: row for row in rows if self.rows.get(row.task_id) != row}
        self.rows.update(changed)
        return set(changed)

    @property
    def producers(self) -> list[TaskRow]:
        """The tasks that run dbt."""
        return [
            row
            for row in self.rows.values()
            if row.operator.startswith(OPERATOR_PREFIX) and row.operator != SENSOR
        ]

    @property
    def sensors(self) -> list[TaskRow]:
        """The tasks that stand for nodes, and run dbt only where they were cleared alone."""
        return [row for row in self.rows.values() if row.operator == SENSOR]

    @property
    def are_over(self) -> bool:
        """Whether there are any, and all of them have ended."""
        return bool(self.rows) and all(row.state in OVER for row in self.rows.values())

    def is_sensor(self, task_id: str) -> bool:
        """Return whether a task is known to stand for nodes."""
        row = self.rows.get(task_id)
        return row is not None and row.operator == SENSOR
