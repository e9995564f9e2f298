"""What the page shows of one node beside its record: its log, its SQL, its tries, and where its task is. `page.routes.data` asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dbt_watch.core.log.task_log import finished_lines, started_line
from dbt_watch.core.statuses import Meaning, meaning
from dbt_watch.reporting.assembly import node_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbt_watch.airflow.api_server import TaskRow
    from dbt_watch.core.results import NodeResult
    from dbt_watch.page.projects import ProjectKey
    from dbt_watch.page.readers import SharedReader

_LEVELS = {Meaning.FAILURE: "error", Meaning.WARNING: "warning", Meaning.SKIPPED: "warning"}


def details_of(reader: SharedReader, unique_id: str) -> dict[str, Any] | None:
    """Return what is shown of a node; None where there is no such node."""
    source = reader.source
    if unique_id not in source.results and unique_id not in source.nodes:
        return None
    result = source.result(unique_id)
    task = source.task_rows([unique_id]).get(unique_id)
    tries = [
        node_record(one)
        for one in sorted(source.evidence().tries.values(), key=lambda one: one.attempt)
        if one.unique_id == unique_id
    ]
    return {
        "unique_id": unique_id,
        "log": list(_log(result)),
        "sql_sent": result.sql,
        "task_url": None if task is None else task_url(source.key, task),
        "attempts": tries,
    }


def _log(result: NodeResult) -> Iterator[dict[str, Any]]:
    """Yield what the log of the node's task says of it, line by line."""
    if result.started_at is not None:
        yield {"at": result.started_at, "level": "info", "text": started_line(result)}
    means = meaning(result.status)
    if means is Meaning.OPEN:
        return
    level = _LEVELS.get(means, "info")
    if result.is_final and not (result.was_not_run and result.not_run is None):
        for text in finished_lines(result):
            yield {"at": result.finished_at, "level": level, "text": text}
    if result.message and not result.is_warning:
        for text in result.message.splitlines():
            yield {"at": result.finished_at, "level": level, "text": text}


def task_url(key: ProjectKey, task: TaskRow) -> str:
    """Return where Airflow shows a task, relative to the address of the page."""
    mapped = f"/mapped/{task.map_index}" if task.map_index >= 0 else ""
    dag, run, own = (quote(part, safe="") for part in (key.dag_id, key.run_id, task.task_id))
    return f"../dags/{dag}/runs/{run}/tasks/{own}{mapped}"
