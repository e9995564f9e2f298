"""
The decorators: `@dbt_k8s_project`, `@dbt_node`, and `dbt_build`.

Everything that can be wrong with an argument is said here, while the DAG is parsed.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec

import msgspec
from airflow.sdk import TaskGroup, XComArg, get_parsing_context, task

from dbt_watch.core.command import DbtBuild, Selection
from dbt_watch.core.manifest import load_manifest
from dbt_watch.core.results import NodeResult
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import ArgumentError, SelectionError
from dbt_watch.project import DbtProject
from dbt_watch.rendering.group import SENSORS, GroupTasks, Sensors, sensor_start
from dbt_watch.rendering.plan import TEST_TYPES, TESTS, Tests, plan_tasks

if TYPE_CHECKING:
    from dbt_watch.core.graph import Graph

P = ParamSpec("P")


def dbt_build(
    *,
    vars: Mapping[str, Any] | str | None = None,  # noqa: A002 - dbt's own word
    full_refresh: bool | str | None = None,
    target: str | None = None,
    threads: int | str | None = None,
    fail_fast: bool | str | None = None,
    empty: bool | str | None = None,
    flags: Sequence[str] = (),
) -> DbtBuild:
    """
    Say how dbt builds the project, as the return value of a function under `@dbt_k8s_project`.

    Each argument may be a template or an XComArg; it reaches dbt when the producer runs.

    :param vars: dbt's variables, as a dict, or as YAML text
    :param full_refresh: rebuild incremental models and seeds; a template may render to "true" or "false"
    :param target: the target of the profile
    :param threads: how many nodes dbt builds at a time
    :param fail_fast: stop at the first failure
    :param empty: build all models without rows
    :param flags: more options of `dbt build`, each an element of its own
    """
    return DbtBuild(
        vars=vars,
        full_refresh=full_refresh,
        target=target,
        threads=threads,
        fail_fast=fail_fast,
        empty=empty,
        flags=list(flags) if isinstance(flags, tuple) else flags,
    )


class ProjectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `@dbt_k8s_project`."""

    manifest: str | os.PathLike[str]
    group_id: str | None
    project_dir: str | None
    profiles_dir: str | None
    select: str | Sequence[str] | None
    exclude: str | Sequence[str] | None
    selector: str | None
    tests: Tests
    sensors: Sensors
    operator_class: type[Any] | None
    pod: Mapping[str, Any]


def dbt_k8s_project(
    *,
    manifest: str | os.PathLike[str],
    group_id: str | None = None,
    project_dir: str | None = None,
    profiles_dir: str | None = None,
    select: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    selector: str | None = None,
    tests: Tests = "each",
    sensors: Sensors = "auto",
    operator_class: type[Any] | None = None,
    **pod: Any,
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]:
    """
    Make a task group of a dbt project: one pod that builds it, and one task for each node.

    The decorated function runs while the DAG is parsed, inside the group. It may bind functions to nodes with
    `@dbt_node`, and returns `dbt_build(...)` or nothing. Calling it gives a `DbtProject`.

    :param manifest: the project's manifest.json: a path (a relative one starts at the DAG file) or the URL of an
        object store
    :param group_id: the id of the task group; by default the function's name
    :param project_dir: where the project lies in the image
    :param profiles_dir: where profiles.yml lies in the image, if not with the project
    :param select: the nodes to build, in dbt's selection syntax; by default all
    :param exclude: the nodes to leave out
    :param selector: the name of a selector in the project's selectors.yml, instead of `select` and `exclude`
    :param tests: "each": one task for the tests of each node, between it and its children; "node": a node's task
        stands for its tests too; "one": one task for all tests; "none": no tests are run
    :param sensors: how the tasks of nodes start: "eager": all at once; "lineage": one level after the other; "auto":
        eager from Airflow 3.3 on for up to 200 tasks
    :param operator_class: KubernetesPodOperator (the default) or a subclass of it
    :param pod: any argument of that operator, such as `image`, `namespace`, `secrets`, `retries`
    :raises ManifestError: when the manifest is missing or is not one
    :raises SelectionError: when the selection cannot be understood, or matches nothing
    :raises ArgumentError: when another argument is unknown, missing or of the wrong kind
    """
    settings = ProjectSettings(
        manifest=manifest,
        group_id=group_id,
        project_dir=project_dir,
        profiles_dir=profiles_dir,
        select=select,
        exclude=exclude,
        selector=selector,
        tests=_one_of("tests", tests, TESTS),
        sensors=_one_of("sensors", sensors, SENSORS),
        operator_class=operator_class,
        pod=pod,
    )

    def decorate(function: Callable[P, DbtBuild | None]) -> ProjectFactory[P]:
        if not inspect.isfunction(function):
            raise ArgumentError("@dbt_k8s_project", function, "a function to decorate")
        return ProjectFactory(function, settings)

    return decorate


class ProjectFactory(Generic[P]):
    """A decorated function; each call makes a task group."""

    def __init__(self, function: Callable[P, DbtBuild | None], settings: ProjectSettings) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings

    def override(self, **arguments: Any) -> ProjectFactory[P]:
        """
        Give the same project with other arguments.

        :param arguments: as of `dbt_k8s_project`
        """
        own = {name: value for name, value in arguments.items() if name in ProjectSettings.__struct_fields__}
        pod = {name: value for name, value in arguments.items() if name not in own}
        current = msgspec.structs.asdict(self._settings)
        merged = {**current, **own, "pod": {**self._settings.pod, **pod}}
        return dbt_k8s_project(**{k: v for k, v in merged.items() if k != "pod"}, **merged["pod"])(
            self._function
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> DbtProject:
        """Make the task group, in the DAG or group around it."""
        settings = self._settings
        check_pod_arguments(settings.pod, settings.operator_class)
        graph = load_manifest(resolve_manifest(settings.manifest, self._function))
        selected = selected_nodes(graph, settings)
        plan = plan_tasks(graph, selected, settings.tests)
        with TaskGroup(
            settings.group_id or self._function.__name__,
            tooltip=inspect.getdoc(self._function) or "",
            add_suffix_on_collision=True,
        ) as group:
            tasks = GroupTasks(plan, graph, group, sensor_start(settings.sensors, len(plan.tasks)))
            tasks.make_wanted()
            body = _Body(DbtProject(tasks))
            build = body.run(self._function, args, kwargs)
            producer = tasks.producer(
                functools.partial(_producer_class, settings.operator_class),
                {
                    **settings.pod,
                    "build": build.to_dict(),
                    "selection": selection_of(settings),
                    "graph": graph,
                    "selected": selected,
                    "watched": tasks.watched(),
                    "project_dir": settings.project_dir,
                    "profiles_dir": settings.profiles_dir,
                    "cmds": settings.pod.get("cmds", ["dbt"]),
                },
            )
        project = DbtProject(tasks, producer, body.bound)
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, XComArg):
                project.set_upstream(argument)
        return project


class _Body:
    """The body of a decorated function, while it runs: where `@dbt_node` finds its project."""

    current: ContextVar[_Body | None] = ContextVar("dbt_watch_body", default=None)

    def __init__(self, project: DbtProject) -> None:
        self.project = project
        self.bound: list[XComArg] = []

    def run(
        self, function: Callable[..., DbtBuild | None], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DbtBuild:
        token = self.current.set(self)
        try:
            build = function(*args, **kwargs)
        finally:
            self.current.reset(token)
        if build is None:
            return DbtBuild()
        if not isinstance(build, DbtBuild):
            raise ArgumentError(f"return value of {function.__name__}", build, "dbt_build(...), or nothing")
        return build


def dbt_node(node: str, **task_arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., XComArg]]:
    """
    Make a Python task of a function and bind it to a node of the project around it.

    It runs when the node is built and its tests have passed. Its first argument is the `NodeResult`; the others are
    given when it is called, as with `@task`.

    :param node: the node's name, unique_id, `package.name` or `name.v2`
    :param task_arguments: any argument of `@task`
    :raises ArgumentError: when there is no such node, or the function takes no result
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., XComArg]:
        if not inspect.isfunction(function):
            raise ArgumentError("@dbt_node", function, "a function to decorate")
        if not _takes_a_result(function):
            raise ArgumentError(
                f"@dbt_node({node!r})",
                function.__name__,
                "a function whose first parameter takes the NodeResult",
            )
        body = _Body.current.get()
        if body is None:
            raise ArgumentError(
                f"@dbt_node({node!r})",
                function.__name__,
                "to be used inside a function under @dbt_k8s_project",
            )
        bound_to = body.project[node]

        @functools.wraps(function)
        def with_result(result: Any, *args: Any, **kwargs: Any) -> Any:
            return function(_result(result), *args, **kwargs)

        operator = task(**task_arguments)(with_result) if task_arguments else task(with_result)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> XComArg:
            made: XComArg = operator(bound_to.result, *args, **kwargs)
            bound_to.set_downstream(made)
            body.bound.append(made)
            return made

        return call

    return decorate


def _result(value: Any) -> NodeResult:
    # What a trigger leaves in XCom, Airflow encodes twice, so that it arrives as text.
    return NodeResult.from_dict(msgspec.json.decode(value) if isinstance(value, str) else value)


def _takes_a_result(function: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return bool(parameters) and parameters[0].kind in positional | {inspect.Parameter.VAR_POSITIONAL}


def resolve_manifest(
    manifest: str | os.PathLike[str], function: Callable[..., Any]
) -> str | os.PathLike[str]:
    """
    Let a relative path start at the file that holds a function: a DAG file's own place, wherever it is parsed.

    :param manifest: a path or a URL
    :param function: the decorated function
    """
    if not isinstance(manifest, str | os.PathLike):
        raise ArgumentError("manifest", manifest, "the path or the URL of the project's manifest.json")
    text = os.fspath(manifest)
    if "://" in text or Path(text).is_absolute():
        return manifest
    return Path(function.__code__.co_filename).resolve().parent / text


def selection_of(settings: ProjectSettings) -> Selection:
    """Give the selection as dbt will be asked for it."""
    return Selection(
        select=_words("select", settings.select),
        exclude=_words("exclude", settings.exclude),
        selector=settings.selector,
        exclude_resource_types=tuple(sorted(TEST_TYPES)) if settings.tests == "none" else (),
    )


def selected_nodes(graph: Graph, settings: ProjectSettings) -> frozenset[str]:
    """
    Give the nodes that dbt will build.

    :raises SelectionError: when the selection cannot be understood, or matches nothing
    """
    selection = selection_of(settings)
    selected = select_nodes(
        graph,
        select=selection.select or None,
        exclude=selection.exclude or None,
        selector=selection.selector,
        exclude_resource_types=selection.exclude_resource_types,
    )
    if not selected:
        given = {"select": settings.select, "exclude": settings.exclude, "selector": settings.selector}
        used = {name: value for name, value in given.items() if value is not None}
        name, value = next(iter(used.items()), ("manifest", settings.manifest))
        raise SelectionError(
            name,
            value,
            f"a selection that matches at least one node of {graph.project_name or 'the project'};"
            f" {', '.join(f'{key}={item!r}' for key, item in used.items()) or 'its manifest'} matches none",
        )
    return selected


def _words(argument: str, value: str | Sequence[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise ArgumentError(argument, value, "a selection in dbt's syntax, or a list of them")
    return tuple(word for item in items for word in item.split())


def _one_of(argument: str, value: Any, allowed: Sequence[Any]) -> Any:
    if value not in allowed:
        raise ArgumentError(argument, value, f"one of {', '.join(map(repr, allowed))}", known=allowed)
    return value


def _producer_class(operator_class: Any) -> Any:
    # Imported here: a worker that runs a sensor needs no Kubernetes.
    from dbt_watch.producers.pod import producer_class  # noqa: PLC0415

    return producer_class() if operator_class is None else producer_class(operator_class)


def check_pod_arguments(pod: Mapping[str, Any], operator_class: type[Any] | None) -> None:
    """
    Refuse what the operator does not know, what is ours to set, and a pod without an image.

    :raises ArgumentError: naming the argument
    """
    if get_parsing_context().task_id is not None:
        return  # on a worker: all of this was checked when the DAG was parsed
    for name, reason in _REFUSED.items():
        if name in pod and pod[name] not in _HARMLESS.get(name, ()):
            raise ArgumentError(name, pod[name], reason)
    known = _argument_names(_producer_class(operator_class))
    for name, value in pod.items():
        if name not in known:
            raise ArgumentError(
                name,
                value,
                "an argument of @dbt_k8s_project or of the operator below it; this one is unknown",
                known=known,
                sought=name,
            )
    if not any(pod.get(name) for name in _IMAGE_SOURCES):
        raise ArgumentError(
            "image",
            pod.get("image"),
            "the image that holds dbt and the project, or a pod template that names one",
        )


@functools.cache
def _argument_names(operator_class: Any) -> frozenset[str]:
    """Give the names of all arguments that a class and its bases take."""
    names: set[str] = set()
    for base in operator_class.__mro__:
        if "__init__" in vars(base):
            names.update(inspect.signature(vars(base)["__init__"]).parameters)
    return frozenset(names - {"self", "args", "kwargs"} - _OURS - set(_REFUSED) | _OPTIONS)


_IMAGE_SOURCES: Final = ("image", "pod_template_file", "pod_template_dict", "full_pod_spec")
_OURS: Final = frozenset(
    {"build", "selection", "graph", "selected", "watched", "task_id", "dag", "task_group"}
)
_OPTIONS: Final = frozenset(ProjectSettings.__struct_fields__) - {"pod"}
_REFUSED: Final = {
    "arguments": "dbt's options in dbt_build(...); the command line is made from them",
    "get_logs": "True: what dbt does is known from the pod's log only",
    "deferrable": "False: the log is followed by the worker that runs the producer",
    "trigger_rule": "to be left out: put tasks in front of the project instead",
    "task_id": "group_id, the name of the task group",
}
_HARMLESS: Final[dict[str, tuple[Any, ...]]] = {
    "get_logs": (True,),
    "deferrable": (False,),
    "trigger_rule": ("all_success",),
}
