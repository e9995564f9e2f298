"""
What Airflow's database has of one project in one run: its tasks, and what they have left in XCom.

`page.run_source` and what it is made of ask. All of it blocks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from dbt_watch.core.packed import PackedError, piece_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from dbt_watch.airflow.api_server import DagRunRow, RunDatabase, TaskRow
    from dbt_watch.page.projects import ProjectKey

log = logging.getLogger(__name__)

_Unpacked = TypeVar("_Unpacked")


class ProjectDatabase:
    """
    The database, for one project in one run.

    :param database: what Airflow knows
    :param key: the project
    """

    def __init__(self, database: RunDatabase, key: ProjectKey) -> None:
        self.key = key
        self._database = database

    def run(self) -> DagRunRow | None:
        """Return the run; None where there is none."""
        return self._database.run(self.key.dag_id, self.key.run_id)

    def earlier_runs(self, limit: int) -> list[str]:
        """Return the ids of the runs before this one, the newest first."""
        found = self._database.runs(self.key.dag_id, limit=limit, before=self.key.run_id)
        return [run.run_id for run in found]

    def tasks(self, since: datetime | None) -> Iterable[TaskRow]:
        """
        Return the tasks of the project's group.

        :param since: leave out those that have not changed since then
        """
        key = self.key
        return self._database.tasks_below(key.dag_id, key.run_id, key.group, key.map_index, since=since)

    def tasks_with(self, name: str) -> set[str]:
        """Return the ids of the tasks of the run that have an XCom of a name, with the project's map index."""
        found = self._database.tasks_with(self.key.dag_id, self.key.run_id, name)
        return {task_id for task_id, index in found if index == self.key.map_index}

    def values(
        self, wanted: Iterable[tuple[str, str]], run_id: str | None = None
    ) -> dict[tuple[str, str], Any]:
        """
        Return XComs.

        :param wanted: the ids of tasks, each with the name of an XCom
        :param run_id: the run; this one by default
        """
        asked = list(wanted)
        if not asked:
            return {}
        key = self.key
        found = self._database.xcoms(key.dag_id, [run_id or key.run_id], asked, key.map_index)
        return {(xcom.task_id, xcom.key): xcom.value for xcom in found}

    def piece(self, task_id: str, name: str, number: int, run_id: str | None = None) -> Any:
        """Return a piece of a packed XCom (see `core.packed`), counted from 0; None where there is none."""
        wanted = task_id, piece_key(name, number)
        return self.values([wanted], run_id).get(wanted)

    def unpacked(
        self,
        task_id: str,
        name: str,
        unpack: Callable[[Any, Callable[[int], Any]], _Unpacked],
        run_id: str | None = None,
    ) -> _Unpacked | None:
        """
        Return a packed XCom as what it was; None where there is none that can be read.

        :param unpack: takes the first piece, and what the others are asked of
        """
        value = self.piece(task_id, name, 0, run_id)
        if value is None:
            return None
        try:
            return unpack(value, lambda number: self.piece(task_id, name, number, run_id))
        except PackedError as error:
            log.warning("%s of %s cannot be read: %s", name, task_id, error)
            return None
