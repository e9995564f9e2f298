"""
What the page asks of the api-server that it is a part of: who may see a DAG, and what the database says of its runs.

The api-server may use Airflow's database, as its own routes do; the page only reads. `page` asks, in a thread.
"""

import contextlib
import json
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.configuration import conf
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.sdk.bases.xcom import BaseXCom
from airflow.utils.session import create_session
from fastapi import Depends, Request
from sqlalchemy import and_, or_, select

from dbt_watch.airflow.configuration import own_address

# Of one statement.
_BATCH: Final = 400

# What the page shows is made of all three.
_SHOWN: Final = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)


async def signed_in(request: Request, user: GetUserDep) -> None:
    """Take note that whoever asks is known to Airflow."""
    del user
    request.state.is_signed_in = True


def viewer_rights() -> list[Any]:
    """
    Return what a route depends on that shows something of the DAG with the id in its query.

    Airflow answers with 401 to somebody whom it does not know, and with 403 to one who may not see the runs, tasks and XComs of
    the DAG.
    """
    return [Depends(signed_in), *(Depends(requires_access_dag("GET", entity)) for entity in _SHOWN)]


def root_path() -> str:
    """Return the path below which Airflow is reached, with a slash at its end."""
    path = urlsplit(own_address()).path
    return path if path.endswith("/") else f"{path}/"


class DagRunRow(NamedTuple):
    """A run of a DAG."""

    run_id: str
    state: str
    started_at: datetime | None
    ended_at: datetime | None


class TaskRow(NamedTuple):
    """An instance of a task; `map_index` is -1 for an unmapped one."""

    task_id: str
    map_index: int
    operator: str
    state: str | None
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None


class XComRow(NamedTuple):
    """An XCom, its value as the backend gives it back."""

    run_id: str
    task_id: str
    map_index: int
    key: str
    value: Any


class XComStamp(NamedTuple):
    """When an XCom was written."""

    run_id: str
    task_id: str
    key: str
    written_at: datetime


_RUN: Final = (DagRun.run_id, DagRun.state, DagRun.start_date, DagRun.end_date)
_TASK: Final = (
    TaskInstance.task_id, TaskInstance.map_index, TaskInstance.operator, TaskInstance.state, TaskInstance.try_number,
    TaskInstance.start_date, TaskInstance.end_date,
)  # fmt: skip
_XCOM: Final = (XComModel.run_id, XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value)


class RunDatabase:
    """What Airflow's database says of runs of DAGs. All of its methods block."""

    def run(self, dag_id: str, run_id: str | None) -> DagRunRow | None:
        """Return a run, the last one where none is named; None where there is none."""
        if run_id is None:
            return next(iter(self.runs(dag_id, limit=1)), None)
        with _session() as session:
            row = session.execute(
                select(*_RUN).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
            ).first()
        return None if row is None else _run_row(row)

    def runs(self, dag_id: str, *, limit: int, before: str | None = None) -> list[DagRunRow]:
        """
        Return runs of a DAG, the newest first.

        :param limit: how many at most
        :param before: only those that come before this one
        """
        statement = select(*_RUN).where(DagRun.dag_id == dag_id)
        with _session() as session:
            if before is not None:
                own = session.execute(
                    select(DagRun.run_after, DagRun.id).where(
                        DagRun.dag_id == dag_id, DagRun.run_id == before
                    )
                ).first()
                if own is None:
                    return []
                earlier = and_(DagRun.run_after == own[0], DagRun.id < own[1])
                statement = statement.where(or_(DagRun.run_after < own[0], earlier))
            rows = session.execute(
                statement.order_by(DagRun.run_after.desc(), DagRun.id.desc()).limit(limit)
            ).all()
        return [_run_row(row) for row in rows]

    def tasks_of_type(self, dag_id: str, run_id: str, *, prefix: str, but: str) -> list[TaskRow]:
        """
        Return the tasks of a run whose operator's name begins so.

        :param but: the name of an operator that is left out
        """
        statement = select(*_TASK).where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id == run_id,
            TaskInstance.operator.startswith(prefix, autoescape=True),
            TaskInstance.operator != but,
        )
        with _session() as session:
            return [_task_row(row) for row in session.execute(statement).all()]

    def tasks_below(
        self, dag_id: str, run_id: str, group: str, map_index: int, *, since: datetime | None = None
    ) -> list[TaskRow]:
        """
        Return the tasks of a task group.

        :param group: its id
        :param map_index: of a mapped group, which instance
        :param since: only those that have changed since then
        """
        statement = select(*_TASK).where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id == run_id,
            TaskInstance.map_index == map_index,
            TaskInstance.task_id.startswith(f"{group}.", autoescape=True),
        )
        if since is not None:
            statement = statement.where(TaskInstance.updated_at >= since)
        with _session() as session:
            return [_task_row(row) for row in session.execute(statement).all()]

    def tasks_with(self, dag_id: str, run_id: str, key: str) -> list[tuple[str, int]]:
        """Return the id and the map index of each task of a run that left an XCom under a key."""
        statement = select(XComModel.task_id, XComModel.map_index).where(
            XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == key
        )
        with _session() as session:
            return [(str(row[0]), int(row[1])) for row in session.execute(statement).all()]

    def xcoms(
        self, dag_id: str, run_ids: Collection[str], wanted: Collection[tuple[str, str]], map_index: int
    ) -> list[XComRow]:
        """
        Return XComs.

        :param run_ids: of which runs
        :param wanted: the ids of tasks, each with a key
        :param map_index: of the tasks
        """
        found: list[XComRow] = []
        with _session() as session:
            for batch in _batches(sorted(set(wanted))):
                statement = select(*_XCOM).where(
                    XComModel.dag_id == dag_id,
                    XComModel.run_id.in_(list(run_ids)),
                    XComModel.map_index == map_index,
                    XComModel.task_id.in_(sorted({task_id for task_id, _ in batch})),
                    XComModel.key.in_(sorted({key for _, key in batch})),
                )
                asked = set(batch)
                found += [
                    _xcom_row(row) for row in session.execute(statement).all() if (row[1], row[3]) in asked
                ]
        return found

    def xcoms_of(self, dag_id: str, run_id: str, key: str) -> list[XComRow]:
        """Return the XComs of all tasks of a run that have a key."""
        statement = select(*_XCOM).where(
            XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == key
        )
        with _session() as session:
            return [_xcom_row(row) for row in session.execute(statement).all()]

    def stamps(
        self, dag_id: str, run_ids: Collection[str], key: str, group: str, map_index: int
    ) -> list[XComStamp]:
        """Return when the tasks of a group have written the XCom of a key, and of longer ones that begin so."""
        statement = select(XComModel.run_id, XComModel.task_id, XComModel.key, XComModel.timestamp).where(
            XComModel.dag_id == dag_id,
            XComModel.run_id.in_(list(run_ids)),
            XComModel.map_index == map_index,
            XComModel.key.startswith(key, autoescape=True),
            XComModel.task_id.startswith(f"{group}.", autoescape=True),
        )
        with _session() as session:
            return [XComStamp(*row) for row in session.execute(statement).all()]


def _session() -> contextlib.AbstractContextManager[Any]:
    return create_session(scoped=False)


def _batches(wanted: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(wanted), _BATCH):
        yield wanted[start : start + _BATCH]


def _run_row(row: Any) -> DagRunRow:
    return DagRunRow(str(row[0]), str(row[1] or ""), row[2], row[3])


def _task_row(row: Any) -> TaskRow:
    task_id, map_index, operator, state, try_number, started_at, ended_at = row
    return TaskRow(
        task_id,
        map_index,
        operator or "",
        None if state is None else str(state),
        try_number,
        started_at,
        ended_at,
    )


def _xcom_row(row: Any) -> XComRow:
    run_id, task_id, map_index, key, value = row
    return XComRow(run_id, task_id, map_index, key, _given_back(key, value))


class _Stored(NamedTuple):
    key: str
    value: Any


def _given_back(key: str, value: Any) -> Any:
    """Return a value as the XCom backend gives it back; a backend that cannot do so here has none."""
    backend = conf.getimport("core", "xcom_backend", fallback=None)
    if backend is None or backend is BaseXCom:
        return _decoded(value)
    try:
        return _decoded(backend.deserialize_value(_Stored(key, value)))
    except Exception:  # noqa: BLE001 - it may need what only workers have
        return None


def _decoded(value: Any) -> Any:
    """Return a value without the encodings as JSON that it may bear besides."""
    with contextlib.suppress(ValueError):
        while isinstance(value, (str, bytes)):
            value = json.loads(value)
    return value
