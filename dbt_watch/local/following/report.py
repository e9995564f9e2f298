"""The summary of a run: one row per node and a few figures, as a table or as JSON. Used by the commands of `demo` and `run`."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dbt_watch.local.following.observation import Observation, Task

STYLES = {
    "success": "green",
    "pass": "green",
    "no-op": "dim",
    "running": "cyan",
    "deferred": "magenta",
    "queued": "dim",
    "scheduled": "dim",
    "failed": "bold red",
    "error": "bold red",
    "fail": "bold red",
    "warn": "yellow",
    "skipped": "dim",
    "upstream_failed": "dark_orange",
}
"""Colours of Airflow's states and of dbt's statuses."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node: what dbt said, and what became of its task; `lag_s` is None where dbt did not run it."""

    unique_id: str
    dbt_status: str
    seconds: float | None
    task_id: str
    task_state: str | None
    lag_s: float | None
    message: str | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """
    A finished run.

    :ivar run_state: of the DAG run, `success` or `failed`
    :ivar wall_s: seconds from its trigger to its end
    :ivar dbt_s: seconds from the creation of each pod to the end of dbt in it, together
    :ivar tail_s: seconds from the end of the last task that runs dbt to the end of the last sensor; 0 if that was earlier
    :ivar pods: how many pods were created
    :ivar worker_starts: how often a sensor was started on a worker
    :ivar other_worker_starts: the same for all other tasks
    :ivar nodes: the nodes in the order in which dbt was done with them
    """

    run_state: str
    wall_s: float
    dbt_s: float | None
    tail_s: float | None
    pods: int
    worker_starts: int
    other_worker_starts: int
    nodes: tuple[NodeRow, ...]

    @property
    def median_lag_s(self) -> float | None:
        """The median lag of the nodes that dbt ran."""
        lags = [row.lag_s for row in self.nodes if row.lag_s is not None]
        return statistics.median(lags) if lags else None

    def to_json(self) -> dict[str, Any]:
        """Return it in builtins, seconds rounded to milliseconds."""
        return {**_rounded(dataclasses.asdict(self)), "median_lag_s": _rounded(self.median_lag_s)}


def make_report(
    observation: Observation,
    *,
    producers: Collection[str],
    wall_s: float,
    dbt_s: float | None,
    pods: int,
    starts: Collection[str],
) -> RunReport:
    """
    Sum up a run.

    :param observation: its last look
    :param producers: the ids of the tasks that run dbt
    :param wall_s: seconds from trigger to end
    :param dbt_s: seconds that dbt ran in its pod, or by the server, if that is known
    :param pods: how many pods were created
    :param starts: the id of the task instance for each start on a worker
    """
    sensors = [task for task in observation.tasks if task.is_sensor]
    sensor_ids = {task.instance.id for task in sensors}
    on_worker = sum(start in sensor_ids for start in starts)
    return RunReport(
        run_state=observation.run_state,
        wall_s=wall_s,
        dbt_s=dbt_s,
        tail_s=_tail(observation.tasks, sensors, producers),
        pods=pods,
        worker_starts=on_worker,
        other_worker_starts=len(starts) - on_worker,
        nodes=tuple(_rows(observation.tasks)),
    )


def _tail(tasks: Sequence[Task], sensors: Sequence[Task], producers: Collection[str]) -> float | None:
    producer_ends = [task.instance.end_date for task in tasks if task.instance.task_id in producers]
    ends = [task.instance.end_date for task in sensors if task.instance.end_date]
    known = [end for end in producer_ends if end is not None]
    if not ends or not known or len(known) < len(producer_ends):
        return None
    return max(0.0, (max(ends) - max(known)).total_seconds())


def _rows(tasks: Sequence[Task]) -> list[NodeRow]:
    finished = []
    for task in tasks:
        for node in task.nodes:
            row = NodeRow(
                unique_id=node.unique_id,
                dbt_status=node.status,
                seconds=node.seconds,
                task_id=task.instance.task_id,
                task_state=task.instance.state,
                lag_s=task.lag_s,
                message=node.message,
            )
            finished.append((node.finished_at.timestamp() if node.finished_at else float("inf"), row))
    return [row for _, row in sorted(finished, key=lambda entry: entry[0])]


def render(report: RunReport) -> Table:
    """Return the table of the nodes."""
    table = Table(
        title=f"run {report.run_state}", title_style=STYLES[report.run_state], caption=_caption(report)
    )
    for heading in ("node", "dbt status", "seconds", "task", "task state", "lag (s)"):
        table.add_column(
            heading, justify="right" if heading in ("seconds", "lag (s)") else "left", overflow="fold"
        )
    for row in report.nodes:
        table.add_row(
            row.unique_id,
            coloured(row.dbt_status),
            _seconds(row.seconds),
            row.task_id,
            coloured(row.task_state),
            _seconds(row.lag_s),
        )
    return table


def coloured(state: str | None) -> Text:
    """Return a state in its colour."""
    return Text(state or "-", style=STYLES.get(state or "", ""))


def _caption(report: RunReport) -> str:
    figures = {
        "run": _seconds(report.wall_s),
        "dbt": _seconds(report.dbt_s),
        "tail": _seconds(report.tail_s),
        "median lag": _seconds(report.median_lag_s),
    }
    told = ", ".join(f"{name} {value} s" for name, value in figures.items())
    return (
        f"{told}\n{report.pods} pod(s), {report.worker_starts} worker starts for sensors,"
        f" {report.other_worker_starts} for other tasks"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    return value
