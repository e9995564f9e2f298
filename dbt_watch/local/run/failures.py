"""Why a run failed: of each dbt project what failed by itself, as `dbt-watch report` tells it; of any other task the end of its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.exceptions import DbtWatchError
from dbt_watch.local.following.run_to_the_end import excerpt, failed_by_itself
from dbt_watch.reporting.assembly import record_of
from dbt_watch.reporting.dag_runs import evidence_of_dag_run
from dbt_watch.reporting.terminal import causes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.console import RenderableType

    from dbt_watch.local.following.observation import Observation
    from dbt_watch.local.following.run_to_the_end import FollowedRun
    from dbt_watch.reporting.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class Failures:
    """
    Why a run failed.

    :ivar builds: the runs of dbt that did not go well
    :ivar logs: the ends of the logs of other tasks, by their ids
    """

    builds: tuple[RunRecord, ...] = ()
    logs: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """Return a list with one object for each cause."""
        causes: list[dict[str, Any]] = []
        for record in self.builds:
            nodes = {node.unique_id: node for node in record.nodes}
            for cause in record.causes:
                node = nodes.get(cause.node or "")
                told = msgspec.to_builtins(cause)
                told["message"] = cause.message or (node.message if node is not None else None)
                causes.append(told)
        return [*causes, *({"task_id": task_id, "log": log} for task_id, log in self.logs)]


def failures_of(
    run: FollowedRun, observation: Observation, groups: Sequence[str], builders: Collection[str]
) -> Failures:
    """
    Find out why a run failed.

    :param run: the run, which has ended
    :param observation: the last look at it
    :param groups: the task groups of its dbt projects
    :param builders: the ids of the tasks that run dbt
    """
    builds, explained = [], set()
    for group, map_index in _projects(observation, groups):
        try:
            client = run.airflow.client
            evidence = evidence_of_dag_run(
                run.airflow.url, run.dag_id, run.run_id, token=client.token, group=group, map_index=map_index
            )
            record = record_of(evidence)
        except DbtWatchError:
            continue  # dbt has left nothing: the log of its task tells why
        if record.causes:
            builds.append(record)
            explained.add((group, map_index))
    logs = []
    for task in observation.tasks:
        task_id, map_index = task.instance.task_id, task.instance.map_index
        group = next((group for group in groups if task_id.startswith(f"{group}.")), "")
        is_of_dbt = task.is_sensor or task_id in builders
        is_told = is_of_dbt and (group, map_index if map_index >= 0 else None) in explained
        if failed_by_itself(task) and not is_told:
            logs.append((task_id, run.end_of_log(task)))
    return Failures(tuple(builds), tuple(logs))


def shown(failures: Failures) -> Iterable[RenderableType]:
    """Yield what to print, for a person to read."""
    for record in failures.builds:
        yield causes_of(record)
    for task_id, log in failures.logs:
        yield excerpt(task_id, log)


def _projects(observation: Observation, groups: Sequence[str]) -> list[tuple[str, int | None]]:
    """Return each project, and of one that is mapped each of its instances."""
    found: dict[tuple[str, int | None], None] = {}
    for group in groups:
        for task in observation.tasks:
            if task.instance.task_id.startswith(f"{group}."):
                map_index = task.instance.map_index
                found[group, map_index if map_index >= 0 else None] = None
    return list(found)
