"""
What can be seen of a run at one moment: its tasks, and what dbt said of the nodes that finished. Used by the commands of `demo` and `run`.

`Observer.look` asks Airflow once and returns what is new; `progress` shows it, `report` sums it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.task_states import OVER
from dbt_watch.local.airflow.deployment import FINAL_STATES
from dbt_watch.local.airflow.rest import parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from dbt_watch.local.airflow.rest import AirflowClient, TaskInstance

SENSOR_OPERATOR: Final = "DbtNodeSensor"
"""The class of the tasks that stand for nodes, as Airflow tells it."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What dbt reported of a node; `seconds` and `finished_at` are None for one that it did not run."""

    unique_id: str
    status: str
    seconds: float | None
    finished_at: datetime | None
    message: str | None

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> NodeReport:
        """Read the value that a sensor left: a `NodeResult` as a dict."""
        return cls(
            unique_id=result["unique_id"],
            status=result["status"],
            seconds=result.get("execution_time"),
            finished_at=parse_time(result.get("finished_at")),
            message=result.get("message"),
        )


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the run with the nodes that it stood for, which are known once it has ended."""

    instance: TaskInstance
    nodes: tuple[NodeReport, ...] = ()

    @property
    def is_sensor(self) -> bool:
        """Whether it stands for nodes of dbt."""
        return self.instance.operator == SENSOR_OPERATOR

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.instance.state in OVER

    @property
    def lag_s(self) -> float | None:
        """Seconds from the moment dbt was done with the last of its nodes to its own end."""
        finished = [node.finished_at for node in self.nodes if node.finished_at]
        if not finished or not self.instance.end_date:
            return None
        return (self.instance.end_date - max(finished)).total_seconds()


@dataclass(frozen=True, slots=True)
class Observation:
    """A run at one moment; `changed` holds the tasks whose state is another than at the last look."""

    run_state: str
    tasks: tuple[Task, ...]
    changed: tuple[Task, ...]

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.run_state in FINAL_STATES


class Observer:
    """
    Looks at one run, again and again.

    :param client: of the Airflow that runs it
    :param dag_id: the DAG
    :param run_id: the run
    :param builders: the ids of tasks that run dbt, of which those of isolated nodes stand for nodes as well
    """

    def __init__(
        self, client: AirflowClient, dag_id: str, run_id: str, builders: Collection[str] = ()
    ) -> None:
        self._client = client
        self._dag_id = dag_id
        self._run_id = run_id
        self._builders = builders
        self._tasks: dict[tuple[str, int], Task] = {}

    def look(self) -> Observation:
        """Ask Airflow for the run and its tasks, and for the nodes of the sensors that ended since the last look."""
        # The run first: once it has ended, the tasks that are read afterwards have too.
        run_state = str(self._client.dag_run(self._dag_id, self._run_id)["state"])
        changed = []
        for instance in self._client.task_instances(self._dag_id, self._run_id):
            key = (instance.task_id, instance.map_index)
            before = self._tasks.get(key)
            if before is None or before.instance.state != instance.state:
                task = self._with_nodes(Task(instance))
                changed.append(task)
                self._tasks[key] = task
        return Observation(run_state, tuple(self._tasks.values()), tuple(changed))

    def _with_nodes(self, task: Task) -> Task:
        instance = task.instance
        if not (task.is_final and (task.is_sensor or instance.task_id in self._builders)):
            return task
        value = self._client.xcom(self._dag_id, self._run_id, instance.task_id, map_index=instance.map_index)
        return Task(instance, node_reports(value))


def node_reports(value: Any) -> tuple[NodeReport, ...]:
    """
    Read the return value of a sensor.

    :param value: the result of its node, `{"nodes": [...]}` where it stands for several, or None
    """
    if not isinstance(value, dict):
        return ()
    results = value.get("nodes", [value])
    if not isinstance(results, list):
        return ()
    return tuple(NodeReport.from_result(result) for result in results if "unique_id" in result)
