"""
Makes a `ProjectPlan` of the tasks of a group, when somebody asks for one: nothing of it is done while a DAG is merely parsed.

`DbtProject.plan` calls `plan_of`. Commands are made as `producers.pods.operator` and `producers.api.operator` make them for a first attempt, of options
that may still be templates.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.command import criteria, dbt_arguments, is_literal, server_arguments
from dbt_watch.core.event_time import VARIABLES
from dbt_watch.core.resume import selection_of_part
from dbt_watch.core.selection.run_time import Narrowed, narrowed
from dbt_watch.core.selection.state import needs_state
from dbt_watch.rendering.plan_reasons import PodOrder
from dbt_watch.rendering.plan_values import (
    Hidden,
    as_written,
    names_of_variables,
    names_of_vars,
    plain,
    written,
)
from dbt_watch.rendering.project_plan import (
    AwaitedTask,
    FollowingTask,
    PlannedPod,
    ProjectPlan,
    TaskAround,
)
from dbt_watch.rendering.task_ids import ALL_TESTS_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbt_watch.rendering.group import GroupTasks
    from dbt_watch.rendering.split import PlannedPart


def plan_of(tasks: GroupTasks) -> ProjectPlan:
    """
    Return what a project will run, as far as its DAG file has been read.

    :param tasks: the tasks of its group
    :raises ArgumentError: when edges were drawn too late for the project to be split by them
    :raises SelectionError: when dbt cannot be asked for the nodes of a pod
    """
    if tasks.barriers:
        tasks.check()
    return _Planner(tasks).plan()


class _Planner:
    def __init__(self, tasks: GroupTasks) -> None:
        self.tasks = tasks
        self.group = tasks.group
        self.barriers = tasks.barriers.known()
        defaults = [self.group.dag.default_args, self.group.default_args]
        self.defaults = {name: value for given in defaults for name, value in (given or {}).items()}

    def plan(self) -> ProjectPlan:
        part_of = self.tasks.part_of
        tests_of_all = part_of(ALL_TESTS_ID) if ALL_TESTS_ID in self.tasks.plan.tasks else None
        order = PodOrder(self.tasks.parts, self.barriers, part_of, self._part_of_node, tests_of_all)
        return ProjectPlan(
            dag_id=self.group.dag.dag_id,
            group_id=self.group.group_id or "",
            project=self.tasks.graph.project_name or "",
            is_mapped=any(self.group.iter_mapped_task_groups()),
            runs_in="invocation" if self._is_of_a_server else "pod",
            pods=tuple(self._pod(part, order) for part in order.parts()),
            around=tuple(self._around()),
        )

    @cached_property
    def _is_of_a_server(self) -> bool:
        return self.tasks.pods.runs_in == "invocation"

    def _part_of_node(self, unique_id: str) -> PlannedPart:
        return self.tasks.part_of(self.tasks.plan.node_tasks[unique_id])

    def _whole(self, task_id: str) -> str:
        whole: str = self.group.child_id(task_id)
        return whole

    # One pod.

    def _pod(self, part: PlannedPart, order: PodOrder) -> PlannedPod:
        pods = self.tasks.pods
        given = {**self.defaults, **pods.arguments_of(part, self.tasks.looks_of(part))}
        build = pods.build_of(part)
        hidden = self._hidden
        nodes = self._nodes(part)
        image = given.get("image")
        resources = given.get("container_resources")
        settings, hidden_settings = self._differences(part, given)
        return PlannedPod(
            task_id=self._whole(part.task_id),
            kind="producer" if part.home is None else "isolated",
            node=part.home,
            why=order.why(part, pods.asked_by(part)),
            nodes=tuple(sorted(nodes)),
            tasks=tuple(self._following(part)),
            waits_for=tuple(self._awaited(part)),
            image=None if image is None else hidden.of(written(image)),
            command=tuple(hidden.of(word) for word in self._command(given, build, nodes)),
            keeps_entrypoint="cmds" in given and not given["cmds"],
            narrowed_by={
                name: written(build[name]) for name in _NARROWING if not is_known(name, build.get(name))
            },
            resources=None if resources is None else plain(resources, hidden),
            pool=written(given.get("pool") or "default_pool"),
            env_vars=names_of_variables(given.get("env_vars")),
            vars=(*names_of_vars(build.get("vars")), *build.get(VARIABLES, ())),
            settings=settings,
            hidden_settings=hidden_settings,
        )

    @cached_property
    def _hidden(self) -> Hidden:
        """What is secret in any of the pods: what they have in common would show it."""
        pods = self.tasks.pods
        variables = [self.defaults.get("env_vars")]
        values = []
        for part in self.tasks.parts:
            given = pods.arguments_of(part, {}).get("env_vars")
            if not any(given is other for other in variables):
                variables.append(given)
            values.append(pods.build_of(part).get("vars"))
        return Hidden(variables, values)

    @cached_property
    def _left(self) -> Narrowed:
        """What the options of the build leave of the selection, as far as they are known."""
        part = self.tasks.parts[0]
        given = self.tasks.pods.arguments_of(part, self.tasks.looks_of(part))
        build = self.tasks.pods.build_of(part)
        known = {name: build[name] for name in _NARROWING if name in build and is_known(name, build[name])}
        return narrowed(self.tasks.graph, self.tasks.selected, given["selection"], known)

    def _nodes(self, part: PlannedPart) -> frozenset[str]:
        """Return the nodes of a pod; none where those that are left have no task of their own."""
        if not self.tasks.is_split:
            return self._left.nodes
        nodes = self._left.nodes & part.nodes
        return frozenset() if nodes.isdisjoint(self.tasks.plan.node_tasks) else nodes

    def _command(
        self, given: Mapping[str, Any], build: Mapping[str, Any], nodes: frozenset[str]
    ) -> list[str]:
        if not nodes:
            return []
        selection = self._left.selection
        if self.tasks.is_split:
            graph, selected = self.tasks.graph, self.tasks.selected
            selection = selection_of_part(graph, given["selection"], selected, nodes)
        if self._is_of_a_server:
            names = names_of_vars(build.get("vars"))
            options = {**as_written(build), "vars": dict.fromkeys(names, "...") or None}
            return ["dbt", *server_arguments(options, selection)]
        profile = given.get("profile")
        arguments = dbt_arguments(
            as_written(build),
            selection,
            project_dir=given["project_dir"],
            profiles_dir=given.get("profiles_dir"),
            profile=None if profile is None else profile.profile_name(self.tasks.graph.project_name),
        )
        return [*given.get("cmds", ("dbt",)), *arguments]

    def _following(self, part: PlannedPart) -> Iterable[FollowingTask]:
        for task_id in self._tasks_of[part.task_id]:
            if task_id != part.task_id:
                nodes = tuple(self.tasks.plan.tasks[task_id].unique_ids)
                yield FollowingTask(task_id=self._whole(task_id), nodes=nodes)

    @cached_property
    def _tasks_of(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {part.task_id: [] for part in self.tasks.parts}
        for task_id in self.tasks.plan.tasks:
            found[self.tasks.part_of(task_id).task_id].append(task_id)
        return found

    def _awaited(self, part: PlannedPart) -> Iterable[AwaitedTask]:
        found: dict[str, str | None] = {}
        for task_id in part.waits_for:
            found[self._whole(task_id)] = self.tasks.plan.tasks[task_id].home
        others = {*part.barriers, *(task.task_id for task in self.tasks.pods.needed_by(part))}
        made = self.tasks.pods.get(part.task_id)
        if made is not None:
            others |= made.upstream_task_ids - found.keys()
        found.update(dict.fromkeys(sorted(others)))
        return [AwaitedTask(task_id=task_id, node=node) for task_id, node in found.items()]

    def _differences(
        self, part: PlannedPart, given: Mapping[str, Any]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the arguments that differ from the project's, and the names of those that are not to be shown."""
        if part.home is None:
            return {}, ()
        names = sorted(
            name
            for name, value in given.items()
            if name not in _TOLD_ELSEWHERE
            and value != self._usual.get(name, _MISSING)
            and (name, value) != _ANY_NODES_PRIORITY
        )
        shown = {name: plain(given[name], self._hidden, name) for name in names if name in _SHOWN}
        return shown, tuple(name for name in names if name not in _SHOWN)

    @cached_property
    def _usual(self) -> dict[str, Any]:
        return {**self.defaults, **self.tasks.pods.usual_arguments}

    # What is not of the project.

    def _around(self) -> Iterable[TaskAround]:
        """Yield the tasks in front of nodes, then those behind nodes, as far as they are known."""
        for barrier in self.barriers:
            yield TaskAround(
                task_id=barrier.task_id,
                is_function=self.tasks.barriers.is_ours(barrier.task_id),
                before=tuple(sorted(barrier.before)),
                after=tuple(sorted(barrier.after)),
            )
        known = {barrier.task_id for barrier in self.barriers}
        for task_id, nodes in self._behind().items():
            if task_id not in known:
                is_function = task_id.startswith(self._whole(""))
                yield TaskAround(task_id=task_id, is_function=is_function, after=tuple(sorted(nodes)))

    def _behind(self) -> dict[str, set[str]]:
        """Return the tasks directly behind those of nodes, each with these nodes; not those behind the whole project."""
        tasks = self.group.dag.task_dict
        ours = {self._whole(task_id) for task_id in self.tasks.plan.tasks}
        producers = {self._whole(part.task_id) for part in self.tasks.parts if part.home is None}
        found: dict[str, set[str]] = {}
        for task_id, planned in self.tasks.plan.tasks.items():
            made = tasks.get(self._whole(task_id))
            if made is None or planned.home is None:
                continue
            for below in sorted(made.downstream_task_ids - ours - producers):
                if below in tasks and producers.isdisjoint(tasks[below].upstream_task_ids):
                    found.setdefault(below, set()).add(planned.home)
        return found


_MISSING: Final = object()
_ANY_NODES_PRIORITY: Final = ("priority_weight", 1)
_NARROWING: Final = ("select", "exclude")
# In other fields of the plan, or none of the operator's own.
_TOLD_ELSEWHERE: Final = frozenset(
    {
        "cmds", "container_resources", "doc_md", "env_vars", "image", "on_warning", "pool", "task_display_name",
        "task_group", "task_id", "selection", "graph", "selected",
        "on_execute_callback", "on_success_callback", "on_failure_callback", "on_retry_callback", "on_skipped_callback",
    }
)  # fmt: skip
# What holds no secrets: places, names, numbers and times. Whatever else differs is named without its value.
_SHOWN: Final = frozenset(
    {
        "active_deadline_seconds", "affinity", "automount_service_account_token", "cluster_context", "deferrable",
        "dnspolicy", "execution_timeout", "executor", "hostnetwork", "image_pull_policy", "in_cluster",
        "kubernetes_conn_id", "labels", "max_active_tis_per_dag", "max_active_tis_per_dagrun", "max_retry_delay",
        "namespace", "node_selector", "on_finish_action", "owner", "pool_slots", "priority_class_name",
        "priority_weight", "queue", "retries", "retry_delay", "retry_exponential_backoff", "runtime_class_name",
        "schedule_timeout_seconds", "schedulername", "service_account_name", "startup_timeout_seconds",
        "termination_grace_period", "tolerations", "weight_rule",
    }
)  # fmt: skip


def is_known(name: str, value: Any) -> bool:
    """Return whether it is known before dbt runs what a part of the build's selection leaves."""
    return is_literal(value) and not needs_state(criteria(name, value))
