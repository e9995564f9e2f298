"""
From a plan to Airflow's tasks: the group, its sensors and its producer.

`decorators` calls it while a DAG file is parsed. On a worker, where one task alone will run, only that one is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from airflow.sdk import TriggerRule, get_parsing_context

from dbt_watch.compat import STARTS_FROM_TRIGGER
from dbt_watch.rendering.alone import LoneBuild
from dbt_watch.rendering.ids import PRODUCER_ID
from dbt_watch.sensors.operator import DbtNodeSensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import BaseOperator, TaskGroup

    from dbt_watch.core.graph import Graph
    from dbt_watch.rendering.plan import Plan

Sensors = Literal["auto", "eager", "lineage"]
SENSORS: Final[tuple[Sensors, ...]] = ("auto", "eager", "lineage")

EAGER_LIMIT: Final = 200


class SensorStart(msgspec.Struct, frozen=True):
    """
    How the sensors of a group start.

    :param from_trigger: in the triggerer, without a worker
    :param trigger_rule: with "always" all of them start at once; with "all_done" one level after the other
    """

    from_trigger: bool
    trigger_rule: TriggerRule


EAGER: Final = SensorStart(from_trigger=True, trigger_rule=TriggerRule.ALWAYS)
# "all_done" and not "all_success": what a failure upstream means for a node is the outcome table's to say.
LINEAGE: Final = SensorStart(from_trigger=False, trigger_rule=TriggerRule.ALL_DONE)


def sensor_start(sensors: Sensors, count: int) -> SensorStart:
    """
    Choose how sensors start.

    :param sensors: as the user wishes
    :param count: how many there are; each that starts from the trigger costs the triggerer time that grows with the
        size of the DAG (0.13 ms for each task of it, measured on Airflow 3.3.2)
    """
    if sensors == "auto":
        return EAGER if STARTS_FROM_TRIGGER and count <= EAGER_LIMIT else LINEAGE
    return EAGER if sensors == "eager" else LINEAGE


class GroupTasks:
    """
    The tasks of a group, made when they are asked for.

    :param plan: the tasks to be
    :param graph: the project
    :param group: the task group
    :param start: how the sensors start
    """

    def __init__(self, plan: Plan, graph: Graph, group: TaskGroup, start: SensorStart) -> None:
        self.plan = plan
        self.graph = graph
        self.group = group
        self._start = start
        self._sensors: dict[str, DbtNodeSensor] = {}
        self._producer_parts: tuple[Callable[[], type[Any]], Mapping[str, Any]]
        self._producer: BaseOperator | None = None

    def make_wanted(self) -> None:
        """Make all sensors, with dbt's lineage between them; on a worker only the one that will run there."""
        wanted = _wanted_task()
        for task_id in self.plan.tasks:
            if wanted is None or wanted == self.group.child_id(task_id):
                self.sensor(task_id)
        self._connect()

    def sensor(self, task_id: str) -> DbtNodeSensor:
        """
        Give a sensor by its id within the group.

        On a worker it may not be there yet, when another task of the DAG file names it.
        """
        if task_id not in self._sensors:
            planned = self.plan.tasks[task_id]
            self._sensors[task_id] = DbtNodeSensor(
                task_id=task_id,
                task_group=self.group,
                dag=self.group.dag,
                producer_task_id=self.group.child_id(PRODUCER_ID),
                unique_ids=planned.unique_ids,
                kind=_kind(self.graph, planned.unique_ids),
                looks_first=bool(planned.upstream),
                from_trigger=self._start.from_trigger,
                trigger_rule=self._start.trigger_rule,
                doc_md=_doc(self.graph, planned.unique_ids),
                retries=0,
                execution_timeout=None,
                weight_rule="absolute",
                priority_weight=1,
                lone_build=LoneBuild(self, task_id),
            )
        return self._sensors[task_id]

    def watched(self) -> dict[str, tuple[str, ...]]:
        """Give the unique_ids that each sensor stands for, by its whole task id."""
        tasks = self.plan.tasks.values()
        return {self.group.child_id(task.task_id): tuple(task.unique_ids) for task in tasks}

    def producer(
        self, operator_class: Callable[[], type[Any]], arguments: Mapping[str, Any]
    ) -> BaseOperator | None:
        """
        Make the producer; on a worker only if it will run there.

        :param operator_class: gives its class; called only then, since it imports Kubernetes
        :param arguments: its arguments, which win over our defaults
        """
        self._producer_parts = (operator_class, arguments)
        if _wanted_task() not in {None, self.group.child_id(PRODUCER_ID)}:
            return None
        return self.make_producer()

    def make_producer(self) -> BaseOperator:
        """Give the producer, also where it was not made at first."""
        if self._producer is None:
            defaults: dict[str, Any] = {
                "startup_check_interval_seconds": 1,
                "log_pod_spec_on_failure": False,  # it would print every environment variable of the pod
                "priority_weight": 1 + len(self.plan.tasks),  # as if its sensors came after it
            }
            operator_class, arguments = self._producer_parts
            self._producer = operator_class()(
                task_id=PRODUCER_ID, task_group=self.group, dag=self.group.dag, **{**defaults, **arguments}
            )
        return self._producer

    def _connect(self) -> None:
        """Draw the lineage; `set_upstream` would look at every task of the DAG for each edge."""
        for task_id, sensor in self._sensors.items():
            for upstream_id in self.plan.tasks[task_id].upstream:
                upstream = self._sensors.get(upstream_id)
                if upstream is not None:
                    sensor.upstream_task_ids.add(upstream.task_id)
                    upstream.downstream_task_ids.add(sensor.task_id)


def _wanted_task() -> str | None:
    """Give the one task that this process will run; None where the whole DAG is wanted."""
    return get_parsing_context().task_id


def _kind(graph: Graph, unique_ids: list[str]) -> str:
    """Say what a task stands for, in the words of dbt's own log."""
    types = {graph.nodes[unique_id].resource_type.replace("_", " ") for unique_id in unique_ids}
    return f"dbt {types.pop()}" if len(types) == 1 else "dbt nodes"


def _doc(graph: Graph, unique_ids: list[str]) -> str | None:
    """Describe a task by what dbt's own documentation says of its first node; short, since each DAG holds it whole."""
    description = graph.nodes[unique_ids[0]].description.strip()
    return description[:MAX_DOC] or None if len(unique_ids) == 1 else None


MAX_DOC: Final = 200
