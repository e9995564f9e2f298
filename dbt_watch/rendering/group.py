"""
From a plan to Airflow's tasks: the group, its sensors, and the tasks that run dbt.

`authoring.project_factory` calls it while a DAG file is parsed. On a worker, where one task alone will run, only that one is made.
"""

from __future__ import annotations

import contextlib
import gc
from datetime import timedelta
from functools import cached_property
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule

from dbt_watch.airflow.dag_authoring import connect
from dbt_watch.rendering.asset_tasks import AssetTasks
from dbt_watch.rendering.barriers import Barriers
from dbt_watch.rendering.pod_tasks import PodTasks, wanted_task
from dbt_watch.rendering.rebuild import SensorRebuild
from dbt_watch.rendering.split import split
from dbt_watch.rendering.task_ids import START_ID, report_id
from dbt_watch.sensors.operator import DbtNodeSensor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from airflow.sdk import BaseOperator, TaskGroup

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.rendering.asset_tasks import ProjectAssets
    from dbt_watch.rendering.node_display import Looks
    from dbt_watch.rendering.plan import Plan
    from dbt_watch.rendering.pod_tasks import Operators
    from dbt_watch.rendering.sensor_start import SensorStart
    from dbt_watch.rendering.split import PlannedPart


class GroupTasks:
    """
    The tasks of a group, made when they are asked for.

    :param plan: the tasks to be
    :param graph: the project
    :param selected: the unique_ids that dbt is asked to build, or to check
    :param group: the task group
    :param start: how the sensors start
    :param looks: what a person sees of them
    :param operators: how the tasks that run dbt are made
    :param isolated: the unique_ids of the nodes that get a pod of their own
    :param sensor_options: where the sensors run when they need a worker, as arguments of them
    :param assets: of which builds Airflow is told by assets, and by which tasks; None for none
    """

    def __init__(
        self,
        plan: Plan,
        graph: Graph,
        selected: frozenset[str],
        group: TaskGroup,
        *,
        start: SensorStart,
        looks: Looks,
        operators: Operators,
        isolated: Collection[str] = (),
        sensor_options: Mapping[str, Any] = MappingProxyType({}),
        assets: ProjectAssets | None = None,
    ) -> None:
        self.plan = plan
        self.graph = graph
        self.group = group
        self.parts: list[PlannedPart] = []
        self.selected = selected
        self._start = start
        self._looks = looks
        self._sensor_options = sensor_options
        self._run_by: dict[str, Any] = {} if start.executor is None else {"executor": start.executor}
        self._sensors: dict[str, DbtNodeSensor] = {}
        self._isolated = frozenset(isolated)
        self._isolated_tasks = {plan.node_tasks[unique_id] for unique_id in isolated}
        self.barriers = Barriers(plan, group)
        self._asset_tasks = AssetTasks(group, assets, sensor_options)
        self.pods = PodTasks(group, operators, start, count=len(plan.tasks))
        self._split()

    def make_wanted(self) -> None:
        """Make all tasks of nodes, with dbt's lineage between them; on a worker only the one that will run there."""
        wanted = wanted_task()
        with _without_collector():
            for task_id in self.plan.tasks:
                if wanted is None or wanted == self.group.child_id(task_id):
                    self.task(task_id)
        self._connect()
        if self._start.gated and wanted in {None, self.group.child_id(START_ID)}:
            self._add_gate()

    def task(self, task_id: str) -> BaseOperator:
        """
        Return the task of a node, or of tests, by its id within the group: a sensor, or what runs dbt for an isolated node.

        On a worker it may not be there yet, when another task of the DAG file names it.
        """
        if task_id in self._isolated_tasks:
            part = self.part_of(task_id)
            return self.pods.named(part, self.looks_of(part))
        if task_id not in self._sensors:
            planned = self.plan.tasks[task_id]
            self._sensors[task_id] = DbtNodeSensor(
                dag=self.group.dag,
                producer_task_id=self.group.child_id(self.part_of(task_id).task_id),
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
                **self._asset_tasks.of_sensor(planned),
                **{"priority_weight": 1, **self._sensor_options, **self._looks.of(planned)},
                **self._run_by,
            )
        return self._sensors[task_id]

    def node_task(self, unique_id: str) -> BaseOperator:
        """Return the task that stands for a node."""
        return self.task(self.plan.node_tasks[unique_id])

    def gate(self, unique_id: str) -> BaseOperator:
        """Return the task after which the children of a node come: that of its tests, or its own where it has none."""
        return self.task(self.plan.gates.get(unique_id, self.plan.node_tasks[unique_id]))

    def gates_before(self, unique_id: str) -> list[BaseOperator]:
        """Return the tasks after which a node may be built."""
        return [self.gate(parent) for parent in self.plan.parents[unique_id]]

    @cached_property
    def order(self) -> dict[str, int]:
        """The place of each task of nodes, by its id within the group, in an order that goes along the lineage."""
        tasks = self.plan.tasks
        order = TopologicalSorter({task_id: tasks[task_id].upstream for task_id in sorted(tasks)})
        return {task_id: number for number, task_id in enumerate(order.static_order())}

    # The tasks that run dbt.

    def part_of(self, task_id: str) -> PlannedPart:
        """Return the part whose pod tells what becomes of a task, by its id within the group."""
        return self._part_of_task[task_id] if self._part_of_task else self.parts[0]

    def producer_of(self, task_id: str) -> BaseOperator:
        """Return the task that runs dbt for a task, by its id within the group, also where it was not made at first."""
        part = self.part_of(task_id)
        self._settle(part, self._watched()[part.task_id])
        return self._runs_dbt(part)

    def _runs_dbt(self, part: PlannedPart) -> BaseOperator:
        return self.pods.real(part, self.looks_of(part))

    def looks_of(self, part: PlannedPart) -> dict[str, Any]:
        """Return what a person sees of the task that runs dbt for a part; of a producer, nothing of its own."""
        return self._looks.of(self.plan.tasks[part.task_id]) if part.home else {}

    @property
    def is_split(self) -> bool:
        """Whether the project takes more than one pod, its one node is isolated, or a task is in its middle."""
        return len(self.parts) > 1 or any(part.home or part.barriers for part in self.parts)

    @property
    def producers(self) -> list[BaseOperator]:
        """The tasks that run dbt for more than one node; on a worker only the one that will run there."""
        return self.pods.made(part for part in self.parts if part.home is None)

    def runs_dbt_for(self, unique_id: str) -> list[BaseOperator]:
        """Return the task that runs dbt for a node; nothing on a worker that runs another one."""
        return self.pods.made([self.part_of(self.plan.node_tasks[unique_id])])

    @property
    def first(self) -> list[BaseOperator]:
        """What is held back with the project: the tasks that run dbt before any other, and the functions before them."""
        return [
            *self.pods.made(part for part in self.parts if part.is_first),
            *self.barriers.first_functions,
        ]

    @property
    def last(self) -> list[BaseOperator]:
        """What must be done before the project is: all that runs dbt, and the tests of isolated nodes."""
        tests = [
            sensor for task_id, sensor in self._sensors.items() if self.part_of(task_id).home is not None
        ]
        return [*self.pods.made(self.parts), *tests]

    def begin(self, build: Mapping[str, Any], needed: Sequence[BaseOperator]) -> None:
        """
        Let the tasks that run dbt be as the body of the project says; on a worker only if one of them will run there.

        :param build: the options of `dbt_build(...)`
        :param needed: the tasks whose values the body was given
        """
        self.pods.take_build(build, needed, self.barriers)
        self._arrange()

    def hold_back(self, unique_id: str, task: BaseOperator, *, is_ours: bool = False) -> None:
        """
        Let a task run before a node is built.

        :param unique_id: the node
        :param task: the task
        :param is_ours: whether it was made for that, by `@dbt_node`
        :raises ArgumentError: when the task waits for a node that waits for it
        """
        self.barriers.add(unique_id, task, is_ours=is_ours)
        if self.pods.has_build:
            self._arrange()

    def look_again(self) -> None:
        """Take note that other tasks of the DAG may wait for nodes by now."""
        if self.barriers:
            self._arrange()

    def check(self) -> None:
        """
        Find out whether the parts are still what the edges of the DAG ask for, when all of its file has been read.

        :raises ArgumentError: when they are not, or cannot be
        """
        before = self.parts
        self._split()
        if self.parts != before:
            raise self.barriers.came_late()

    def _split(self) -> None:
        self.parts = split(self.graph, self.selected, self.plan, self._isolated, self.barriers.known())
        self._part_of_task: dict[str, PlannedPart] = {}
        if len(self.parts) > 1:
            part_of = {unique_id: part for part in self.parts for unique_id in part.nodes}
            self._part_of_task = {
                task.task_id: part_of[task.unique_ids[0]] for task in self.plan.tasks.values()
            }

    def _arrange(self) -> None:
        """Have everything follow the parts that the project is split into now."""
        if self.barriers:
            self._split()
            for task_id, sensor in self._sensors.items():
                sensor.follow(self.group.child_id(self.part_of(task_id).task_id))
        made = [part for part in self.parts if self._is_wanted(part.task_id)]
        reports = [
            part
            for part in self.parts
            if self._asset_tasks.has_report(part) and self._is_wanted(report_id(part.task_id))
        ]
        watched = self._watched() if made or reports else {}
        for part in made:
            self._settle(part, watched[part.task_id])
        for part in reports:
            producer = self._runs_dbt(part) if part in made else None
            self._asset_tasks.add_report(part, watched[part.task_id], producer)

    def _is_wanted(self, task_id: str) -> bool:
        """Return whether this process makes a task, by its id within the group: any, but for a worker, which runs one."""
        return wanted_task() in {None, self.group.child_id(task_id)}

    def _watched(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return the unique_ids that each task of nodes stands for, by its whole id, for each part."""
        watched: dict[str, dict[str, tuple[str, ...]]] = {part.task_id: {} for part in self.parts}
        for task_id, task in self.plan.tasks.items():
            watched[self.part_of(task_id).task_id][self.group.child_id(task_id)] = tuple(task.unique_ids)
        return watched

    def _settle(self, part: PlannedPart, watched: Mapping[str, Sequence[str]]) -> None:
        """Have the task that runs dbt for a part do that, after the right tasks."""
        upstream = [self.task(task_id) for task_id in part.waits_for] if wanted_task() is None else []
        homes = {task_id: self.plan.tasks[task_id].home for task_id in part.waits_for}
        self.pods.settle(
            self._runs_dbt(part),
            part,
            watched=watched,
            homes=homes if self.is_split else None,
            upstream=[*upstream, *self.barriers.tasks(part.barriers)],
            check=self.check if self.barriers else None,
        )
        self._asset_tasks.settle(self._runs_dbt(part), part)

    # The group.

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
                upstream = self.pods.get(upstream_id) or self._sensors.get(upstream_id)
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
