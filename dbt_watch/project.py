"""What a decorated function returns: a project in a DAG, with its nodes by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from dbt_watch.airflow.dag_authoring import DependencyMixin
from dbt_watch.core.manifest.node_names import node_named
from dbt_watch.core.selection.source_freshness import all_sources_read_by
from dbt_watch.rendering.results import ProjectResults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import BaseOperator, EdgeModifier, XComArg
    from typing_extensions import Unpack

    from dbt_watch.authoring.operations import Commands
    from dbt_watch.authoring.pod_types import CommandArguments
    from dbt_watch.core.manifest.graph import Node
    from dbt_watch.rendering.group import GroupTasks
    from dbt_watch.rendering.project_plan import ProjectPlan


class DbtNode(DependencyMixin):
    """
    One node of a project in a DAG.

    `project["customers"] >> task` runs the task when the node is built and its tests have passed. `task >>
    project["customers"]` runs it before dbt builds the node: one pod builds what comes before the node, a later one the node and
    everything downstream.

    :param node: the node in the manifest
    :param tasks: the tasks of its group

    :ivar node: the node in the manifest, with its name, tags, description and so on
    """

    def __init__(self, node: Node, tasks: GroupTasks) -> None:
        self.node = node
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<DbtNode {self.node.unique_id}>"

    @property
    def unique_id(self) -> str:
        """The id of the node in dbt."""
        return self.node.unique_id

    @property
    def task_id(self) -> str:
        """The id of its task within the group."""
        return self._tasks.plan.node_tasks[self.unique_id]

    @property
    def result(self) -> XComArg:
        """
        What dbt reported, to pass to another task: a `NodeResult` as a dict.

        If its task covers its tests too (`tests="build"`): a dict with a list of all results under the key `nodes`. The results
        of more than 100 nodes are packed; `DbtProject.results` has them unpacked.
        """
        return self._tasks.node_task(self.unique_id).output

    @property
    def roots(self) -> Sequence[DependencyMixin]:
        """The tasks that `task >> node` connects to: the task that runs dbt for the node."""
        return self._tasks.runs_dbt_for(self.unique_id)

    @property
    def leaves(self) -> Sequence[DependencyMixin]:
        """The tasks that another task waits for. The tests never succeed unless the node did."""
        return [self._tasks.gate(self.unique_id)]

    def update_relative(
        self,
        other: DependencyMixin,
        upstream: bool = True,
        edge_modifier: EdgeModifier | None = None,  # noqa: ARG002 - Airflow's signature
    ) -> None:
        """
        Record a task upstream or downstream of the node.

        :raises ArgumentError: when an upstream task waits for the node
        """
        if upstream:
            self._hold_back(other)

    def set_downstream(self, other: Any, edge_modifier: EdgeModifier | None = None) -> None:
        """Make other tasks wait for this node."""
        self._tasks.gate(self.unique_id).set_downstream(other, edge_modifier)
        self._tasks.look_again()

    def set_upstream(self, other: Any, edge_modifier: EdgeModifier | None = None) -> None:
        """
        Make this node wait for other tasks.

        :raises ArgumentError: when one of them waits for the node
        """
        for item in other if isinstance(other, Sequence) else [other]:
            self._hold_back(item)
            for root in self.roots:
                root.set_upstream(item, edge_modifier)

    def _hold_back(self, other: DependencyMixin) -> None:
        for task in other.leaves:
            self._tasks.hold_back(self.unique_id, cast("BaseOperator", task))


class DbtProject(DependencyMixin):
    """
    A dbt project in a DAG: its nodes by name, and its dependencies on other tasks.

    With `task >> project`, the task that runs dbt waits for `task`; `project >> task` waits for the whole run.

    :param tasks: the tasks of its group
    :param ends: other tasks that belong to the project's end: the functions bound to nodes
    :param commands: makes tasks that run other dbt commands where the project runs

    :ivar nodes: the nodes that have a task, by unique_id, tests included; `project["orders"]` finds one by its name
    :ivar group: Airflow's task group
    :ivar plan: what it will run, and why
    :ivar producers: the tasks that run dbt: one, unless the project is split; on a worker only the one that runs there
    """

    def __init__(self, tasks: GroupTasks, ends: Sequence[Any] = (), commands: Commands | None = None) -> None:
        self._commands = commands
        self._graph = tasks.graph
        self.group = tasks.group
        self._ends = ends
        self._tasks = tasks

    @property
    def producers(self) -> Sequence[BaseOperator]:
        """The tasks that run dbt for all nodes without a pod of their own."""
        return self._tasks.producers

    @property
    def producer(self) -> BaseOperator | None:
        """The task that runs dbt, the first if there are several; None on a worker that runs another task."""
        return next(iter(self.producers), None)

    @cached_property
    def nodes(self) -> Mapping[str, DbtNode]:
        """The nodes that have a task, by unique_id."""
        nodes = self._graph.nodes
        return MappingProxyType(
            {unique_id: DbtNode(nodes[unique_id], self._tasks) for unique_id in self._tasks.plan.node_tasks}
        )

    def __repr__(self) -> str:
        return f"<DbtProject {self._graph.project_name}: {len(self.nodes)} nodes>"

    def __getitem__(self, name: str) -> DbtNode:
        """
        Return a node.

        :param name: its unique_id, its name, `package.name` or `name.v2`; `source.table` for a source
        :raises ArgumentError: when there is no such node, it has no task (with the reason), or several have this name
        """
        return self.nodes[node_named(self._graph, name, self.nodes)]

    def __contains__(self, name: object) -> bool:
        return any(node.unique_id in self.nodes for node in self._graph.find(str(name)))

    @property
    def sources(self) -> Mapping[str, Node]:
        """The sources that its nodes read, directly or through ephemeral models, by unique_id, as in the manifest."""
        read = all_sources_read_by(self._graph, self.nodes)
        return {unique_id: self._graph.nodes[unique_id] for unique_id in sorted(read)}

    @property
    def results(self) -> ProjectResults:
        """
        What dbt reported for all nodes, to pass to another task: a list of `NodeResult` as dicts.

        The task waits for the run. To report on failed runs too, give it the trigger rule "all_done".
        """
        return ProjectResults(self._tasks, self._tasks.last)

    def run_operation(
        self,
        macro: str,
        args: Mapping[str, Any] | str | XComArg | None = None,
        **arguments: Unpack[CommandArguments],
    ) -> XComArg:
        """
        Make a task that runs a macro with `dbt run-operation` where the project runs: in a pod like the project's, or on its server.

        The task has no order relative to the project: `project >> project.run_operation("grant_select")` runs it afterwards. Its
        output is a dict: see docs/operations.md.

        :param macro: its name, or `package.macro`
        :param args: its arguments, as a dict or YAML text; each value may be a template or an XComArg
        :param arguments: `vars` and `target` of dbt; `task_id`, by default the macro's name; and whatever differs from the
            project: any argument of its operator, `project_dir`, `profiles_dir`, `deps`, `keep_entrypoint`
        :raises ArgumentError: when an argument is invalid, or about nodes
        """
        return self._commands_of_project.run_operation(macro, args, arguments)

    def command(self, words: Sequence[str | XComArg], **arguments: Unpack[CommandArguments]) -> XComArg:
        """
        Make a task that runs a dbt command other than `build`, such as `["docs", "generate"]`, where the project runs.

        :param words: the sub-command and its options; a template or an XComArg may follow the sub-command
        :param arguments: see `run_operation`
        :raises ArgumentError: when an argument is invalid, for `build`, and for options that would change dbt's log
        """
        return self._commands_of_project.command(words, arguments)

    @property
    def _commands_of_project(self) -> Commands:
        if self._commands is None:
            raise RuntimeError(
                "the project is not complete yet: call run_operation and command on the return value of the decorated function"
            )
        return self._commands

    @property
    def plan(self) -> ProjectPlan:
        """
        Which pods, tasks and commands the project will have, and why, based on the DAG file read so far; `dbt-watch plan` prints it.

        :raises ArgumentError: when edges upstream of a task were added after that task had split the project
        """
        from dbt_watch.rendering.project_planner import plan_of  # noqa: PLC0415 - no parse of a DAG needs it

        return plan_of(self._tasks)

    @property
    def roots(self) -> Sequence[DependencyMixin]:
        """The tasks that wait in `task >> project`."""
        return self._tasks.first

    @property
    def leaves(self) -> Sequence[DependencyMixin]:
        """What `project >> task` waits for."""
        return [*self._tasks.last, *self._ends]

    def set_downstream(self, other: Any, edge_modifier: EdgeModifier | None = None) -> None:
        """Make other tasks wait for the whole run."""
        for task in self.leaves:
            task.set_downstream(other, edge_modifier)

    def set_upstream(self, other: Any, edge_modifier: EdgeModifier | None = None) -> None:
        """Make the run wait for other tasks."""
        for task in self.roots:
            task.set_upstream(other, edge_modifier)
