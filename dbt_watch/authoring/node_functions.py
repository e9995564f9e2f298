"""
Functions bound to nodes, which run before or after them: `@dbt_node` in the body of a project.

`Body` is where `@dbt_node` finds its project; `Binding` creates the tasks.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import XComArg, get_current_context, task

from dbt_watch.airflow.compat import AirflowSkipException
from dbt_watch.authoring.options import DEFAULTS, one_of
from dbt_watch.authoring.parse_warnings import warn_of
from dbt_watch.authoring.pod_arguments import parameters_of
from dbt_watch.core.command import DbtBuild
from dbt_watch.core.labels import label_of
from dbt_watch.core.manifest.graph import Node
from dbt_watch.core.selection import Written, select_nodes
from dbt_watch.core.selection.near import alternatives
from dbt_watch.core.task_states import RED
from dbt_watch.core.xcom_values import result_of, results_in
from dbt_watch.exceptions import ArgumentError, SelectionError
from dbt_watch.rendering.plan import TEST_TYPES
from dbt_watch.rendering.task_ids import suffixed

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from dbt_watch.project import DbtNode, DbtProject
    from dbt_watch.rendering.group import GroupTasks

After = Literal["tests", "node"]
AFTER: Final[tuple[After, ...]] = ("tests", "node")
On = Literal["success", "warn", "failure", "any"]
ON: Final[tuple[On, ...]] = ("success", "warn", "failure", "any")

# What a bound function waits for. Those that do not run after every good build hold nothing back.
_TRIGGER_RULES: Final[dict[On, str]] = {
    "success": "all_success",
    "warn": "all_success",
    "failure": "all_done",
    "any": "all_done",
}
_ENDS: Final = frozenset({"success", "any"})


class Body:
    """
    The body of a decorated function, while it runs.

    :param project: the project whose group it fills
    :param tasks: the tasks of that group
    """

    current: ContextVar[Body | None] = ContextVar("dbt_watch_body", default=None)

    def __init__(self, project: DbtProject, tasks: GroupTasks) -> None:
        self.project = project
        self.tasks = tasks
        #: what the project is not done without
        self.ends: list[XComArg] = []
        #: the functions that are bound, with the decorator that did it
        self.bound: dict[Callable[..., Any], str] = {}
        #: those of them that have made no task yet, with the call that would
        self.uncalled: dict[Callable[..., Any], str] = {}

    @functools.cached_property
    def taken(self) -> Mapping[str, str]:
        """The ids of node tasks within the group, each with a node that it belongs to."""
        return {node.task_id: unique_id for unique_id, node in self.project.nodes.items()}

    def run(
        self, function: Callable[..., DbtBuild | None], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DbtBuild:
        """
        Run a body.

        :raises ArgumentError: when it returns anything but `dbt_build(...)` or nothing, or does not call a function
            that it has bound
        """
        token = self.current.set(self)
        try:
            build = function(*args, **kwargs)
        finally:
            self.current.reset(token)
        if self.uncalled:
            bound = min(self.uncalled, key=lambda bound: bound.__name__)
            raise ArgumentError(
                self.bound[bound],
                bound.__name__,
                f"a function that is called where it is defined, like any @task: {self.uncalled[bound]}",
            )
        if build is None:
            return DbtBuild()
        if not isinstance(build, DbtBuild):
            raise ArgumentError(f"return value of {function.__name__}", build, "dbt_build(...), or nothing")
        return build


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """
    How a function is bound.

    :param node: a name, a unique_id or a selection; None when `select` is given
    :param select: a selection in dbt's syntax
    :param after: "tests": when the node and its tests are done; "node": when the node is
    :param on: the outcome for which it runs
    :param before: whether it runs before the node, and takes no result
    :param task_arguments: arguments of `@task`
    """

    node: str | None
    select: str | Sequence[str] | None
    after: After
    on: On
    task_arguments: Mapping[str, Any]
    before: bool = False

    def __post_init__(self) -> None:
        """
        Check each argument on its own.

        :raises ArgumentError: naming the argument, the value and what was expected
        """
        if callable(self.node):
            raise ArgumentError("@dbt_node", self.node, 'a node in parentheses: @dbt_node("orders")')
        if (self.node is None) == (self.select is None):
            raise ArgumentError("@dbt_node", self.node, "either a node or select=...")
        if self.node is not None and not (isinstance(self.node, str) and self.node.strip()):
            raise ArgumentError(
                "node", self.node, "the name of a node, its unique_id, or a selection in dbt's syntax"
            )
        one_of("after", self.after, AFTER)
        one_of("on", self.on, ON)
        one_of("before", self.before, (True, False))
        for name, value, default in (("after", self.after, "tests"), ("on", self.on, "success")):
            if self.before and value != default:
                raise ArgumentError(
                    name, value, "to be left out with before=True: the node has no result yet"
                )
        if "trigger_rule" in self.task_arguments:
            raise ArgumentError(
                "trigger_rule",
                self.task_arguments["trigger_rule"],
                f"on=..., one of {', '.join(map(repr, ON))}",
            )

    @property
    def name(self) -> str:
        """The decorator, as errors name it."""
        return f"@dbt_node({self.node!r})" if self.select is None else f"@dbt_node(select={self.select!r})"

    def bind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """
        Return the function that creates the tasks when it is called.

        :raises ArgumentError: when the function takes no result, is already bound or is outside a project, or
            there is no such node
        :raises SelectionError: when a selection matches nothing
        """
        body = self._body_for(function)
        nodes = self._nodes(body, function)
        maker = self._maker_before if self.before else self._maker
        if isinstance(nodes, list):
            makers = [maker(function, node, body, apart=True) for node in nodes]
        else:
            makers = [maker(function, nodes, body, apart=False)]

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            body.uncalled.pop(function, None)
            made = [maker(*args, **kwargs) for maker in makers]
            return made if isinstance(nodes, list) else made[0]

        body.uncalled[function] = _call_of(function, takes_result=not self.before)
        body.bound.update(dict.fromkeys((function, call), self.name))
        return call

    def _body_for(self, function: Callable[..., Any]) -> Body:
        """Return the body around a function, in which it can be bound."""
        if not inspect.isfunction(function):
            raise ArgumentError("@dbt_node", function, "a function to decorate")
        if not self.before and not _takes_a_result(function):
            raise ArgumentError(
                self.name, function.__name__, "a function whose first parameter takes the NodeResult"
            )
        body = Body.current.get()
        if body is None:
            raise ArgumentError(
                self.name,
                function.__name__,
                "to be used inside a function under @dbt_k8s_project, or with its own manifest=...",
            )
        self._check_task_arguments()
        if function in body.bound:
            raise ArgumentError(
                self.name,
                function.__name__,
                f"a function that is not bound yet; this one is already bound by {body.bound[function]}",
            )
        return body

    def _check_task_arguments(self) -> None:
        """Refuse arguments unknown to `@task` by name, before Airflow lists them all in one error."""
        known = parameters_of(PythonOperator) | {"multiple_outputs"}
        for name, value in self.task_arguments.items():
            if name in _OF_THE_PROJECT:
                raise ArgumentError(name, value, "to be left out inside a project, which sets it itself")
            if name == "build":
                raise ArgumentError(name, value, "to be returned by the function under @dbt_k8s_project")
            if name not in known:
                raise ArgumentError(
                    name,
                    value,
                    "an argument of @dbt_node or of Airflow's @task; this one is unknown",
                    known=known | _OWN,
                    sought=name,
                )

    def _nodes(self, body: Body, function: Callable[..., Any]) -> DbtNode | list[DbtNode]:
        """Return one node for a name, and a list for a selection."""
        project, graph = body.project, body.tasks.graph
        if self.node is not None and (self.node in project or not is_selection(self.node)):
            return project[self.node]
        argument, criteria = ("node", self.node) if self.select is None else ("select", self.select)
        unmatched: list[Written] = []
        # With sources, which are not built.
        found = select_nodes(
            graph,
            select=criteria,
            indirect_selection="empty",
            buildable_only=False,
            on_unmatched=unmatched.append,
        )
        matches = [node for unique_id, node in sorted(project.nodes.items()) if unique_id in found]
        # A tag or a folder is often that of tests too; these are meant only where nothing else is.
        nodes = [node for node in matches if node.node.resource_type not in TEST_TYPES] or matches
        if not nodes:
            sought, known = alternatives(graph, unmatched[0].text) if unmatched else (None, [])
            raise SelectionError(
                argument,
                criteria,
                "a selection that matches at least one node of this project",
                known=known,
                sought=sought,
            )
        warn_of(unmatched, graph, function)
        return nodes

    def _maker(
        self, function: Callable[..., Any], node: DbtNode, body: Body, *, apart: bool
    ) -> Callable[..., XComArg]:
        """Return the function that creates one task, to run after one node."""
        arguments = {
            **self._named(function, node, body, apart=apart),
            "trigger_rule": _TRIGGER_RULES[self.on],
        }
        waits_for = [body.tasks.node_task(node.unique_id)]
        if self.after == "tests":
            waits_for = list(dict.fromkeys([*waits_for, body.tasks.gate(node.unique_id)]))
        watched = tuple(sensor.task_id for sensor in waits_for)
        runs = _Runs(node.node, self.on, watched)

        @functools.wraps(function)
        def with_result(values: Any, *args: Any, **kwargs: Any) -> Any:
            runs.or_skips(values)
            return function(result_of(runs.node, values[0]), *args, **kwargs)

        operator = task(**arguments)(with_result)

        def make(*args: Any, **kwargs: Any) -> XComArg:
            made: XComArg = operator([sensor.output for sensor in waits_for], *args, **kwargs)
            if self.on in _ENDS:
                body.ends.append(made)
            return made

        return make

    def _maker_before(
        self, function: Callable[..., Any], node: DbtNode, body: Body, *, apart: bool
    ) -> Callable[..., XComArg]:
        """Return the function that creates one task, to run before one node."""
        operator = task(**self._named(function, node, body, apart=apart))(function)
        waits_for = body.tasks.gates_before(node.unique_id)

        def make(*args: Any, **kwargs: Any) -> XComArg:
            made: XComArg = operator(*args, **kwargs)
            for gate in waits_for:
                gate.set_downstream(made)
            for made_by, _ in made.iter_references():
                body.tasks.hold_back(node.unique_id, cast("BaseOperator", made_by), is_ours=True)
            return made

        return make

    def _named(
        self, function: Callable[..., Any], node: DbtNode, body: Body, *, apart: bool
    ) -> dict[str, Any]:
        """Return the arguments of `@task`, with an id that no node task has."""
        arguments = dict(self.task_arguments)
        name = str(arguments.get("task_id", function.__name__))
        if apart:
            name = arguments["task_id"] = suffixed(name, node.task_id, node.unique_id)
        # Airflow would give it another id, which it has on no worker where that other task is not made.
        if name in body.taken:
            raise ArgumentError(
                "task_id",
                name,
                f"another name for the function under {self.name}, or task_id=...: this id belongs to the task of "
                f"{body.taken[name]}",
            )
        return arguments


class _Runs(msgspec.Struct, frozen=True):
    """
    When a bound function runs, decided on its worker.

    :param node: the node
    :param on: the outcome for which it runs
    :param watched: the ids of the sensors it waits for
    """

    node: Node
    on: On
    watched: tuple[str, ...]

    def or_skips(self, values: Sequence[Any]) -> None:
        """
        Continue if the outcome is the one that the function is for; otherwise skip the task.

        :param values: the XComs of the sensors
        :raises AirflowSkipException: if it is another outcome
        """
        if self.on == "warn" and not any(
            result.is_warning for value in values for result in results_in(value)
        ):
            raise AirflowSkipException(f"{label_of(self.node.unique_id)}: dbt reported no warning")
        if self.on == "failure" and not RED & set(self._states()):
            raise AirflowSkipException(f"{label_of(self.node.unique_id)}: did not fail")

    def _states(self) -> list[str]:
        ti: Any = get_current_context()["ti"]
        answer = ti.get_task_states(
            dag_id=ti.dag_id,
            run_ids=[ti.run_id],
            task_ids=list(self.watched),
            map_index=None if ti.map_index is None or ti.map_index < 0 else ti.map_index,
        )
        return [str(getattr(state, "value", state)) for state in answer.get(ti.run_id, {}).values()]


_OWN: Final = frozenset({"node", "select", "after", "on", "before"})
# What a function has of its own only where it stands alone.
_OF_THE_PROJECT: Final = frozenset(DEFAULTS) - {"select"} | {"manifest", "image", "namespace"}
# A name has none of these; dbt's selection syntax always does, unless it is a name.
_SYNTAX: Final = frozenset(":+@*,/ ?[")


def is_selection(text: str) -> bool:
    """Return whether a text can only be a selection in dbt's syntax, not a name."""
    return bool(_SYNTAX & set(text))


def _call_of(function: Callable[..., Any], *, takes_result: bool) -> str:
    """Return the call of a bound function as code, with the arguments that it needs."""
    others = list(inspect.signature(function).parameters.values())[int(takes_result) :]
    needed = [item.name for item in others if item.default is item.empty and item.kind not in _ANY_NUMBER]
    return f"{function.__name__}({', '.join(f'{name}=...' for name in needed)})"


_ANY_NUMBER: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _takes_a_result(function: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return bool(parameters) and parameters[0].kind in positional | {inspect.Parameter.VAR_POSITIONAL}
