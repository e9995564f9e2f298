"""
From a plan to Airflow's tasks: the group, its sensors and its producer.

`decorators` calls it while a DAG file is parsed. On a worker, where one task alone will run, only that one is made.
"""

from __future__ import annotations

import contextlib
import gc
from datetime import timedelta
from functools import cached_property
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule, get_parsing_context

from dbt_watch.airflow.dag_authoring import connect
from dbt_watch.rendering.rebuild import SensorRebuild
from dbt_watch.rendering.sensor_start import told
from dbt_watch.rendering.task_ids import PRODUCER_ID, START_ID
from dbt_watch.sensors.operator import DbtNodeSensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.sdk import BaseOperator, TaskGroup

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.rendering.node_display import Looks
    from dbt_watch.rendering.plan import Plan
    from dbt_watch.rendering.sensor_start import SensorStart


class GroupTasks:
    """
    The tasks of a group, made when they are asked for.

    :param plan: the tasks to be
    :param graph: the project
    :param group: the task group
    :param start: how the sensors start
    :param looks: what a person sees of them
    """

    def __init__(self, plan: Plan, graph: Graph, group: TaskGroup, start: SensorStart, looks: Looks) -> None:
        self.plan = plan
        self.graph = graph
        self.group = group
        self._start = start
        self._looks = looks
        self._run_by: dict[str, Any] = {} if start.executor is None else {"executor": start.executor}
        self._sensors: dict[str, DbtNodeSensor] = {}
        self._producer_parts: tuple[Callable[[], type[Any]], Mapping[str, Any]]
        self._producer: BaseOperator | None = None

    def make_wanted(self) -> None:
        """Make all sensors, with dbt's lineage between them; on a worker only the one that will run there."""
        wanted = _wanted_task()
        with _without_collector():
            for task_id in self.plan.tasks:
                if wanted is None or wanted == self.group.child_id(task_id):
                    self.sensor(task_id)
        self._connect()
        if self._start.gated and wanted in {None, self.group.child_id(START_ID)}:
            self._add_gate()

    def sensor(self, task_id: str) -> DbtNodeSensor:
        """
        Return a sensor by its id within the group.

        On a worker it may not be there yet, when another task of the DAG file names it.
        """
        if task_id not in self._sensors:
            planned = self.plan.tasks[task_id]
            self._sensors[task_id] = DbtNodeSensor(
                dag=self.group.dag,
                producer_task_id=self.group.child_id(PRODUCER_ID),
                unique_ids=planned.unique_ids,
                looks_first=bool(planned.upstream),
                from_trigger=self._start.from_trigger,
                trigger_rule=self._start.trigger_rule,
                retries=0,
                # One that is cleared while it runs is tried once more by the scheduler, as any task: at once, then.
                retry_delay=timedelta(0),
                execution_timeout=None,
                weight_rule="absolute",
                rebuild=SensorRebuild(self, task_id),
                **self._looks.of(planned),
                **self._run_by,
            )
        return self._sensors[task_id]

    def node_sensor(self, unique_id: str) -> DbtNodeSensor:
        """Return the sensor that stands for a node."""
        return self.sensor(self.plan.node_tasks[unique_id])

    def gate(self, unique_id: str) -> DbtNodeSensor:
        """Return the sensor after which the children of a node come: that of its tests, or its own where it has none."""
        return self.sensor(self.plan.gates.get(unique_id, self.plan.node_tasks[unique_id]))

    @cached_property
    def order(self) -> dict[str, int]:
        """The place of each sensor, by its id within the group, in an order that goes along the lineage."""
        tasks = self.plan.tasks
        order = TopologicalSorter({task_id: tasks[task_id].upstream for task_id in sorted(tasks)})
        return {task_id: number for number, task_id in enumerate(order.static_order())}

    def watched(self) -> dict[str, tuple[str, ...]]:
        """Return the unique_ids that each sensor stands for, by its whole task id."""
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
        """Return the producer, also where it was not made at first."""
        if self._producer is None:
            defaults: dict[str, Any] = {
                "startup_check_interval_seconds": 1,
                "log_pod_spec_on_failure": False,  # it would print every environment variable of the pod
                "priority_weight": 1 + len(self.plan.tasks),  # as if its sensors came after it
            }
            operator_class, arguments = self._producer_parts
            self._producer = operator_class()(
                task_id=PRODUCER_ID,
                task_group=self.group,
                dag=self.group.dag,
                watched=self.watched(),
                sensors_told=told(self._start, len(self.plan.tasks)),
                **{**defaults, **arguments},
            )
        return self._producer

    def _add_gate(self) -> None:
        """Put an empty task in front of all sensors; without callbacks, for which a worker would have to run it."""
        gate = EmptyOperator(
            task_id=START_ID,
            task_group=self.group,
            dag=self.group.dag,
            trigger_rule=TriggerRule.ALL_SUCCESS,
            on_execute_callback=None,
            on_success_callback=None,
        )
        for sensor in self._sensors.values():
            connect(gate, sensor)

    def _connect(self) -> None:
        """Draw the lineage."""
        for task_id, sensor in self._sensors.items():
            for upstream_id in self.plan.tasks[task_id].upstream:
                upstream = self._sensors.get(upstream_id)
                if upstream is not None:
                    connect(upstream, sensor)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """
    Make many objects that stay without Python's looking for garbage among them again and again.

    Of the 1.3 s for 15,000 nodes it takes 0.4 s (docs/benchmarks.md).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _wanted_task() -> str | None:
    """Return the one task that this process will run; None where the whole DAG is wanted."""
    return get_parsing_context().task_id
