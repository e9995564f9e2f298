"""
The tasks that run dbt: a producer, or several where the project is split, and those of isolated nodes.

`rendering.group` asks for them. They are made before it is known how dbt is called, since functions may be bound to the tasks of
isolated nodes, and are changed when the project turns out to be split in another way. On a worker that runs another task none of
them is made; where that task names one, something cheaper stands in for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule, XComArg, get_parsing_context

from dbt_watch.airflow.dag_authoring import connect, disconnect, withdraw
from dbt_watch.core.part import Part, Upstream
from dbt_watch.exceptions import ArgumentError
from dbt_watch.rendering.sensor_start import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow.sdk import BaseOperator, TaskGroup

    from dbt_watch.rendering.barriers import Barriers
    from dbt_watch.rendering.sensor_start import SensorStart
    from dbt_watch.rendering.split import PlannedPart


class Operators(Protocol):
    """How the tasks that run dbt are made; `authoring.operators` implements it."""

    def operator_class(self) -> type[Any]:
        """Return their class; where they run dbt in pods, this imports Kubernetes."""

    def arguments(self, home: str | None) -> Mapping[str, Any]:
        """Return their arguments, those of an isolated node or those of a producer; they win over our defaults."""

    def leading(self, home: str | None) -> Sequence[str]:
        """Return the words in front of dbt's arguments."""

    def asked_by(self, home: str) -> Sequence[str]:
        """Return what asks for an isolated node's own pod, as it is written."""


class PodTasks:
    """
    The tasks that run dbt in one group.

    :param group: the task group
    :param operators: how they are made
    :param start: how the sensors start
    :param count: how many tasks of nodes there are
    """

    def __init__(self, group: TaskGroup, operators: Operators, start: SensorStart, count: int) -> None:
        self._group = group
        self._makers = operators
        self._start = start
        self._count = count
        self._operators: dict[str, Any] = {}
        self._stand_ins: dict[str, BaseOperator] = {}
        self._upstream: dict[str, list[BaseOperator]] = {}
        self._build: Mapping[str, Any] | None = None
        self._needed: list[BaseOperator] = []
        self._barriers: Barriers | None = None

    def get(self, task_id: str) -> BaseOperator | None:
        """Return one by its id within the group, if it was made."""
        found: BaseOperator | None = self._operators.get(task_id, self._stand_ins.get(task_id))
        return found

    def made(self, parts: Iterable[PlannedPart]) -> list[BaseOperator]:
        """Return those of some parts, as far as they were made."""
        return [self._operators[part.task_id] for part in parts if part.task_id in self._operators]

    def named(self, part: PlannedPart, looks: Mapping[str, Any]) -> BaseOperator:
        """Return the one of a part, or on a worker that runs another task what stands in for it where it is named."""
        whole_id = self._group.child_id(part.task_id)
        if part.task_id in self._operators or wanted_task() in {None, whole_id}:
            return self.real(part, looks)
        if part.task_id not in self._stand_ins:
            self._stand_ins[part.task_id] = EmptyOperator(
                task_id=part.task_id, task_group=self._group, dag=self._group.dag
            )
        return self._stand_ins[part.task_id]

    def real(self, part: PlannedPart, looks: Mapping[str, Any]) -> BaseOperator:
        """
        Return the one of a part, made if it was not yet.

        :param part: the part
        :param looks: what a person sees of the task of an isolated node
        """
        if part.task_id not in self._operators:
            stand_in = self._stand_ins.pop(part.task_id, None)
            if stand_in is not None:
                withdraw(stand_in)
            operator: Any = self._makers.operator_class()(
                dag=self._group.dag,
                build={},
                watched={},
                sensors_told="" if part.home else told(self._start, self._count),
                **self.arguments_of(part, looks),
            )
            operator.project_group = self._group.group_id or ""
            if "kind" in looks:
                operator.custom_operator_name = looks["kind"]
            self._operators[part.task_id] = operator
        made: BaseOperator = self._operators[part.task_id]
        return made

    def arguments_of(self, part: PlannedPart, looks: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the arguments of the one of a part.

        :param part: the part
        :param looks: see `real`
        """
        return {
            **self._defaults,
            "task_id": part.task_id,
            "task_group": self._group,
            **self._makers.arguments(part.home),
            **_without_sensors_own(looks),
        }

    @property
    def usual_arguments(self) -> dict[str, Any]:
        """The arguments of a producer, from which those of an isolated node may differ."""
        return {**self._defaults, **self._makers.arguments(None)}

    @property
    def _defaults(self) -> dict[str, Any]:
        return {"priority_weight": 1 + self._count}  # as if its sensors came after it

    @property
    def runs_in(self) -> str:
        """What dbt runs in, in a word: "pod", or "invocation" where a server runs it."""
        word: str = self._makers.operator_class().attempt_class.runs_in
        return word

    def asked_by(self, part: PlannedPart) -> Sequence[str]:
        """Return what asks for the pod of a part, as it is written; nothing for a producer's."""
        return () if part.home is None else self._makers.asked_by(part.home)

    def needed_by(self, part: PlannedPart) -> list[BaseOperator]:
        """Return the tasks whose values the body of the project was given, for a part that waits for them."""
        return [] if part.waits_for else self._needed

    # What they do.

    @property
    def has_build(self) -> bool:
        """Whether it is known how dbt is called."""
        return self._build is not None

    def take_build(
        self, build: Mapping[str, Any], needed: Sequence[BaseOperator], barriers: Barriers
    ) -> None:
        """
        Learn how dbt is called.

        :param build: the options of `dbt_build(...)`
        :param needed: the tasks whose values the body of the project was given
        :param barriers: the tasks in the middle of the project
        :raises ArgumentError: when a value comes from a task that waits for the project itself
        """
        self._build, self._needed, self._barriers = build, list(needed), barriers
        for name, value in build.items():
            for task in references(value):
                if name != "vars" and task.task_id in barriers:
                    raise ArgumentError(
                        name,
                        task.task_id,
                        "a value that is known before dbt runs; the return value of a function that runs before a node"
                        " can only be one of the vars",
                    )
                if task.task_id not in barriers and barriers.nodes_before(task):
                    raise ArgumentError(
                        name,
                        task.task_id,
                        f"a value that is known before dbt runs, but {task.task_id} waits for dbt. A function that runs before"
                        " a node, @dbt_node(..., before=True), can return one of its vars",
                    )

    def settle(
        self,
        operator: Any,
        part: PlannedPart,
        *,
        watched: Mapping[str, Sequence[str]],
        homes: Mapping[str, str | None] | None,
        upstream: Sequence[BaseOperator],
        check: Callable[[], None] | None,
    ) -> None:
        """
        Have a task run dbt for its part.

        :param operator: the task
        :param part: the part
        :param watched: the unique_ids that each of its sensors stands for, and it itself, by task id
        :param homes: for each task that it waits for, by its id within the group, the node that it belongs to; None where the
            project is not split
        :param upstream: the same tasks, and those in front of its nodes, as far as they were made
        :param check: see `DbtTaskMixin`
        """
        operator.build = self.build_of(part)
        operator.watched = watched
        operator.check = check
        stands_for = watched.get(self._group.child_id(part.task_id), ())
        operator.part = None if homes is None else self._part(part, stands_for, homes)
        is_held = operator.part is not None and bool(operator.part.upstreams)
        # What has failed before it holds back some of its nodes only.
        operator.trigger_rule = TriggerRule.ALL_DONE if is_held else TriggerRule.ALL_SUCCESS
        for task in self._upstream.get(part.task_id, ()):
            disconnect(task, operator)
        self._upstream[part.task_id] = list(upstream)
        needed = self.needed_by(part)
        for task in [*upstream, *needed]:
            connect(task, operator)
        operator.needs = frozenset(task.task_id for task in [*needed, *references(operator.build)])

    def _part(self, part: PlannedPart, stands_for: Sequence[str], homes: Mapping[str, str | None]) -> Part:
        upstreams = [
            Upstream(self._group.child_id(task_id), homes[task_id], tuple(nodes))
            for task_id, nodes in part.waits_for.items()
        ]
        upstreams += [Upstream(task_id, None, tuple(nodes)) for task_id, nodes in part.barriers.items()]
        return Part(frozenset(part.nodes), tuple(stands_for), tuple(upstreams))

    def build_of(self, part: PlannedPart) -> dict[str, Any]:
        """Return the options of one part: of the variables, those that are known when it begins."""
        build = dict(self._build or {})
        leading = list(self._makers.leading(part.home))
        if leading:
            build["leading"] = leading
        variables = build.get("vars")
        if isinstance(variables, dict):
            build["vars"] = {name: value for name, value in variables.items() if self._is_known(value, part)}
        elif not self._is_known(variables, part):
            del build["vars"]
        return build

    def _is_known(self, value: Any, part: PlannedPart) -> bool:
        tasks = (task.task_id for task in references(value))
        return all(task_id in part.behind or task_id not in (self._barriers or ()) for task_id in tasks)


def _without_sensors_own(looks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the looks of an isolated node's task, as what runs dbt takes them."""
    given = {name: value for name, value in looks.items() if name not in {"kind", "worker_for"}}
    return {"on_warning" if name == "on_warning_callback" else name: value for name, value in given.items()}


def wanted_task() -> str | None:
    """Return the one task that this process will run; None where the whole DAG is wanted."""
    return get_parsing_context().task_id


def references(value: Any) -> list[BaseOperator]:
    """Return the tasks that a value refers to, itself or what is in it."""
    return [cast("BaseOperator", task) for task, _ in XComArg.iter_xcom_references(value)]
