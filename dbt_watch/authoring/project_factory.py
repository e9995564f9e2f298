"""
How a function under `@dbt_k8s_project` or `@dbt_api_project` becomes a project's group, once or mapped.

Airflow's own `@task_group` creates and maps the group; its content is created here.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, cast, overload

import msgspec
from airflow.sdk import get_parsing_context, task_group

from dbt_watch.airflow.dag_authoring import current_task_group
from dbt_watch.authoring.api_arguments import check_api_arguments
from dbt_watch.authoring.assets import project_assets
from dbt_watch.authoring.isolation import isolation
from dbt_watch.authoring.node_functions import Body
from dbt_watch.authoring.operations import Commands
from dbt_watch.authoring.operators import ApiOperators, PodOperators
from dbt_watch.authoring.options import callbacks
from dbt_watch.authoring.parse_warnings import warn_of, warn_of_obstacle
from dbt_watch.authoring.pod_arguments import check_pod_arguments
from dbt_watch.authoring.settings import chosen, resolve_manifest
from dbt_watch.core.artifacts import LAST_SUCCESS, Artifacts, checked
from dbt_watch.core.command import check_flags_beside_profile, criteria, is_literal
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.selection.run_time import nodes_left
from dbt_watch.core.selection.state import check_sources, needs_sources, needs_state
from dbt_watch.exceptions import ArgumentError
from dbt_watch.project import DbtProject
from dbt_watch.rendering.callbacks import callbacks_of
from dbt_watch.rendering.group import GroupTasks
from dbt_watch.rendering.node_display import Looks
from dbt_watch.rendering.node_tasks import NodeTasks
from dbt_watch.rendering.plan import plan_tasks
from dbt_watch.rendering.pod_tasks import references
from dbt_watch.rendering.sensor_start import choose_start
from dbt_watch.rendering.source_tasks import add_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import TaskGroup
    from typing_extensions import Unpack

    from dbt_watch.authoring.pod_types import OverridingArguments
    from dbt_watch.authoring.settings import Chosen, ProjectSettings
    from dbt_watch.core.command import DbtBuild
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.selection import Written

P = ParamSpec("P")

_NOTHING: Mapping[str, Any] = MappingProxyType({})

made_projects: ContextVar[list[DbtProject] | None] = ContextVar("dbt_watch_made_projects", default=None)
"""A list to which each new project is added, for code that loads a DAG file and asks what is in it."""


class ProjectFactory(Generic[P]):
    """
    A decorated function; each call makes a task group.

    :param function: what was decorated
    :param settings: the arguments of the decorator
    :param fixed: arguments of the function set by `partial`
    """

    def __init__(
        self,
        function: Callable[P, DbtBuild | None],
        settings: ProjectSettings,
        fixed: Mapping[str, Any] = _NOTHING,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings
        self._fixed = fixed

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> DbtProject:
        """Make the task group, in the surrounding DAG or group."""
        made: Any = self._group()(*args, **{**self._fixed, **kwargs})
        return _project(made)

    @overload
    def override(self, **arguments: Unpack[OverridingArguments]) -> ProjectFactory[P]: ...

    @overload
    def override(self, *, operator_class: type[Any], **arguments: Any) -> ProjectFactory[P]: ...

    def override(self, **arguments: Any) -> ProjectFactory[P]:
        """
        Return the same project with other arguments.

        :param arguments: see `dbt_k8s_project`
        :raises ArgumentError: see there
        """
        return ProjectFactory(self._function, self._settings.override(**arguments), self._fixed)

    def partial(self, **arguments: Any) -> ProjectFactory[P]:
        """
        Set arguments of the function that are the same for all elements of a mapping.

        :param arguments: of the decorated function
        :raises TypeError: when it has no such argument
        """
        again = sorted(self._fixed.keys() & arguments)
        if again:
            raise TypeError(f"duplicate partial argument: {', '.join(again)}")
        self._group()._validate_arg_names("partial", arguments)  # noqa: SLF001 - Airflow's own check
        return ProjectFactory(self._function, self._settings, {**self._fixed, **arguments})

    def expand(self, **arguments: Any) -> DbtProject:
        """
        Make one run of the project, with its own pod and sensors, for each combination of values.

        :param arguments: of the decorated function, each a list, a dict or an XComArg, as with Airflow's `@task_group`
        """
        return _project(self._mapped().expand(**arguments))

    def expand_kwargs(self, arguments: Any) -> DbtProject:
        """
        Make one run of the project for each set of arguments.

        :param arguments: a list of dicts, or an XComArg that returns one
        """
        return _project(self._mapped().expand_kwargs(arguments))

    def _mapped(self) -> Any:
        group = self._group()
        return group.partial(**self._fixed) if self._fixed else group

    def _group(self) -> Any:
        @functools.wraps(self._function)
        def fill(*args: Any, **kwargs: Any) -> DbtProject:
            return self._fill(args, kwargs)

        return task_group(
            group_id=self._settings.options["group_id"] or self._function.__name__,
            tooltip=inspect.getdoc(self._function) or "",
        )(fill)

    def _fill(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> DbtProject:
        """Create the tasks, in the group that has just been opened."""
        settings, options = self._settings, self._settings.options
        is_by_server = settings.runs_in == "server"
        if is_by_server:
            check_api_arguments(settings)
        settings = _with_places(settings, current_task_group())
        options = settings.options
        settings = _with_whole_paths(settings, self._function)
        options = settings.options
        graph = load_manifest(settings.manifest)
        wanted = chosen(graph, settings)
        warn_of(wanted.unmatched, graph, self._function)
        plan = plan_tasks(graph, wanted.nodes, options["tests"])
        # What a node says of a pod of its own is nothing to a server.
        isolated = {} if is_by_server else isolation(graph, plan, settings, self._function)
        if not is_by_server:
            check_pod_arguments(settings.pod, isolated, options["operator_class"])
            if options["profile"] is not None:
                options["profile"].check_for(graph.facts.adapter_type)
        group = current_task_group()
        ends = callbacks_of(group, settings.pod)
        said = NodeTasks(graph, options["owners"], options["node_task"])
        looks = Looks(
            graph,
            group,
            group_by=options["group_by"],
            callbacks=ends,
            on_warning=callbacks("on_warning_callback", options["on_warning_callback"]),
            said=said,
        )
        sensor_options = options["sensor_options"] or {}
        start = choose_start(
            options["sensors"],
            group.dag,
            len(plan.tasks) - len(isolated),
            has_executor="executor" in sensor_options,
            is_mapped=any(group.iter_mapped_task_groups()),
            warn=lambda obstacle: warn_of_obstacle(obstacle, self._function),
        )
        made_by = ApiOperators if is_by_server else PodOperators
        operators = made_by(settings, graph, wanted, isolated, ends, manifest=str(settings.manifest))
        tasks = operators.tasks = GroupTasks(
            plan,
            graph,
            wanted.nodes,
            group,
            start=start,
            looks=looks,
            operators=operators,
            isolated=isolated,
            sensor_options=sensor_options,
            assets=project_assets(graph, plan, options, has_executor=start.executor is not None),
        )
        tasks.make_wanted()
        if options["sources"] == "all":
            add_sources(tasks, said)
        body = Body(DbtProject(tasks), tasks)
        build = body.run(self._function, args, kwargs)
        self._check_narrowing(build, graph, wanted)
        if options["profile"] is not None:
            check_flags_beside_profile(build.flags)
        tasks.begin(build.to_dict(), references([*args, *kwargs.values()]))
        project = DbtProject(tasks, body.ends, Commands(settings, graph))
        if (made := made_projects.get()) is not None:
            made.append(project)
        return project

    def _check_narrowing(self, build: DbtBuild, graph: Graph, wanted: Chosen) -> None:
        """Refuse a selection of `dbt_build` that is already known and leaves nothing, and warn of parts that match nothing."""
        if get_parsing_context().task_id is not None:
            return
        known = {name: getattr(build, name) for name in ("select", "exclude")}
        literal = {name: value for name, value in known.items() if is_literal(value)}
        if any(needs_state(criteria(name, value)) for name, value in literal.items()):
            if self._settings.options["state"] is None:
                name = next(name for name, value in literal.items() if needs_state(criteria(name, value)))
                raise ArgumentError(name, literal[name], "state=... of @dbt_k8s_project, to compare with")
            words = {name: criteria(name, literal.get(name)) for name in ("select", "exclude")}
            check_sources(
                words["select"],
                words["exclude"],
                are_checked=self._settings.options["freshness"] == "before",
            )
            if needs_sources(words["select"]) and self._settings.options["isolate"] is not None:
                raise ArgumentError("select", literal["select"], "no `source_status:` beside isolate=...")
            return  # what has changed is known when dbt runs
        if is_literal(build.defer) and build.defer and self._settings.options["state"] is None:
            raise ArgumentError("defer", build.defer, "state=... of @dbt_k8s_project, to read from")
        unmatched: list[Written] = []
        nodes_left(graph, wanted.nodes, wanted.selection, literal, unmatched.append)
        warn_of(unmatched, graph, self._function)


def _with_whole_paths(settings: ProjectSettings, function: Callable[..., Any]) -> ProjectSettings:
    """Return settings with absolute paths, so that they are the same wherever they are read."""
    state = settings.options["state"]
    if state not in {None, LAST_SUCCESS}:
        state = str(resolve_manifest(cast("str", state), function)).rstrip("/")
    manifest = resolve_manifest(settings.manifest, function)
    return msgspec.structs.replace(settings, manifest=manifest, options={**settings.options, "state": state})


def _with_places(settings: ProjectSettings, group: TaskGroup) -> ProjectSettings:
    """
    Return settings whose artifacts no other project of the DAG overwrites.

    :raises ArgumentError: when they go to the same place as another project's, or as those of all elements of a mapping
    """
    is_mapped = any(group.iter_mapped_task_groups())
    artifacts = checked("artifacts", settings.options["artifacts"], is_mapped=is_mapped)
    if artifacts is None:
        return settings
    if "{group_id}" not in artifacts.to and "{task_id}" not in artifacts.to:
        others = (getattr(task, "artifacts", None) for task in group.dag.task_dict.values())
        if any(isinstance(other, Artifacts) and other.to == artifacts.to for other in others):
            raise ArgumentError(
                "artifacts",
                artifacts.to,
                "a URL with {group_id} in it: another project of this DAG uses the same one",
            )
    return msgspec.structs.replace(settings, options={**settings.options, "artifacts": artifacts})


def _project(made: Any) -> DbtProject:
    # Airflow hands back what `fill` returned, but says it is some node of a DAG.
    if not isinstance(made, DbtProject):
        raise TypeError(f"a project was to be made, not {made!r}")
    return made
