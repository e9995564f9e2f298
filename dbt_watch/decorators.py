"""
The public names that a DAG file imports: the decorators, `dbt_build`, and tasks for other dbt commands.

`authoring` does the work. Any invalid argument is reported while the DAG is parsed.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, overload

from dbt_watch.authoring.node_functions import After, Binding, Body, On
from dbt_watch.authoring.operations import Commands
from dbt_watch.authoring.project_factory import ProjectFactory
from dbt_watch.authoring.settings import DECORATORS, ProjectSettings
from dbt_watch.authoring.standalone_node import standalone
from dbt_watch.core.command import DbtBuild, check_literals
from dbt_watch.core.event_time import as_stored
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow.sdk import XComArg
    from typing_extensions import Unpack

    from dbt_watch.authoring.pod_types import (
        ApiProjectArguments,
        CommandArguments,
        FunctionArguments,
        ProjectArguments,
        StandaloneApiNodeArguments,
        StandaloneNodeArguments,
    )
    from dbt_watch.authoring.settings import RunsIn
    from dbt_watch.core.results import NodeResult

P = ParamSpec("P")


def dbt_build(
    *,
    vars: Mapping[str, Any] | str | XComArg | None = None,  # noqa: A002 - dbt's own word
    full_refresh: bool | str | XComArg | None = None,
    target: str | XComArg | None = None,
    threads: int | str | XComArg | None = None,
    fail_fast: bool | str | XComArg | None = None,
    empty: bool | str | XComArg | None = None,
    event_time_start: str | datetime | XComArg | None = None,
    event_time_end: str | datetime | XComArg | None = None,
    select: str | Sequence[str] | XComArg | None = None,
    exclude: str | Sequence[str] | XComArg | None = None,
    flags: Sequence[str] | XComArg = (),
    event_time: Literal["data_interval"] | timedelta | None = None,
    event_time_vars: tuple[str, str] | None = None,
    defer: bool | str | XComArg | None = None,
) -> DbtBuild:
    """
    Set how dbt builds the project; return it from a function under `@dbt_k8s_project`.

    Each argument may be a template or an XComArg; dbt gets its value when the producer runs.

    :param vars: dbt's variables, as a dict, or as YAML text
    :param full_refresh: rebuild incremental models and seeds; a template may render to "true" or "false"
    :param target: the target of the profile
    :param threads: how many nodes dbt builds in parallel
    :param fail_fast: stop at the first failure
    :param empty: build all models without rows
    :param event_time_start: the start of the period for which microbatch models are built, such as "{{ data_interval_start }}"
    :param event_time_end: its end
    :param select: the part of the project's nodes that this run builds, in dbt's selection syntax; the tasks of all others
        end skipped
    :param exclude: what this run leaves out
    :param flags: more options of `dbt build`, one list element each
    :param event_time: set both times from the run's dates: "data_interval", or the length of the period up to the run's date
    :param event_time_vars: the names of two variables that also get these times
    :param defer: read what this run does not build from where the run in `state=` built it; has no effect without a state
    :raises ArgumentError: when a value that is already known is invalid
    """
    build = DbtBuild(
        vars=vars,
        full_refresh=full_refresh,
        target=target,
        threads=threads,
        fail_fast=fail_fast,
        empty=empty,
        event_time_start=event_time_start,
        event_time_end=event_time_end,
        select=select,
        exclude=exclude,
        flags=list(flags) if isinstance(flags, tuple) and flags else flags,
        event_time=as_stored(event_time),
        event_time_vars=list(event_time_vars) if isinstance(event_time_vars, tuple) else event_time_vars,
        defer=defer,
    )
    check_literals(build)
    return build


@overload
def dbt_k8s_project(
    manifest: str | os.PathLike[str], **arguments: Unpack[ProjectArguments]
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]: ...


@overload
def dbt_k8s_project(
    manifest: str | os.PathLike[str], *, operator_class: type[Any], **arguments: Any
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]: ...


def dbt_k8s_project(
    manifest: str | os.PathLike[str], **arguments: Any
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]:
    """
    Make a task group from a dbt project: one pod that builds it, and one task for each node.

    The decorated function runs while the DAG is parsed, inside the group. It may bind functions to nodes with
    `@dbt_node`, and returns `dbt_build(...)` or nothing. Calling it returns a `DbtProject`; `expand` makes one run of the
    project for each value, as with Airflow's `@task_group`.

    :param manifest: the project's manifest.json: a path, resolved from the DAG file if relative, or the URL of an
        object store
    :param arguments: the options of `dbt_watch.authoring.options.ProjectOptions`, documented there, such as `select`,
        `tests` or `freshness`; and any argument of KubernetesPodOperator or `operator_class`, such as `image`,
        `namespace`, `secrets`, `retries`, or `cmds`, the command that calls dbt
    :raises ManifestError: when the manifest is missing or is not one
    :raises SelectionError: when the selection is invalid, or matches nothing
    :raises ArgumentError: when another argument is unknown, missing or invalid
    """
    return _decorator("pods", manifest, arguments)


def dbt_api_project(
    manifest: str | os.PathLike[str], **arguments: Unpack[ApiProjectArguments]
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]:
    """
    Make a task group from a dbt project that a dbt API server runs, such as `dbt-watch server`.

    The group is the same as with `@dbt_k8s_project`, with the same node tasks, retries and clears. There is no pod: the task
    that runs dbt posts an invocation and follows its log.

    :param manifest: the project's manifest.json: a path, resolved from the DAG file if relative, or the URL of an
        object store
    :param arguments: `conn_id`, Airflow's connection to the server, "dbt_api" by default; `deferrable`; the options of
        `dbt_watch.authoring.options.ApiOptions`; and any argument of BaseOperator that makes sense, such as `retries` or `pool`
    :raises ManifestError: when the manifest is missing or is not one
    :raises SelectionError: when the selection is invalid, or matches nothing
    :raises ArgumentError: when another argument is unknown, missing, invalid, or only makes sense for a pod
    """
    return _decorator("server", manifest, arguments)


def _decorator(
    runs_in: RunsIn, manifest: str | os.PathLike[str], arguments: Mapping[str, Any]
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]:
    settings = ProjectSettings.of(runs_in, manifest=manifest, **arguments)

    def decorate(function: Callable[P, DbtBuild | None]) -> ProjectFactory[P]:
        if not inspect.isfunction(function):
            raise ArgumentError(DECORATORS[runs_in], function, "a function to decorate")
        return ProjectFactory(function, settings)

    return decorate


@overload
def dbt_node(
    node: str, *, after: After = "tests", on: On = "success", **arguments: Unpack[FunctionArguments]
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, XComArg]]: ...


@overload
def dbt_node(
    *,
    select: str | Sequence[str],
    after: After = "tests",
    on: On = "success",
    **arguments: Unpack[FunctionArguments],
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, list[XComArg]]]: ...


@overload
def dbt_node(
    node: str, *, before: Literal[True], **arguments: Unpack[FunctionArguments]
) -> Callable[[Callable[P, Any]], Callable[P, XComArg]]: ...


@overload
def dbt_node(
    *, select: str | Sequence[str], before: Literal[True], **arguments: Unpack[FunctionArguments]
) -> Callable[[Callable[P, Any]], Callable[P, list[XComArg]]]: ...


@overload
def dbt_node(
    node: str,
    *,
    manifest: str | os.PathLike[str],
    after: After = "tests",
    on: On = "success",
    **arguments: Unpack[StandaloneNodeArguments],
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, XComArg]]: ...


@overload
def dbt_node(
    *,
    select: str | Sequence[str],
    manifest: str | os.PathLike[str],
    after: After = "tests",
    on: On = "success",
    **arguments: Unpack[StandaloneNodeArguments],
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, list[XComArg]]]: ...


@overload
def dbt_node(
    node: str,
    *,
    manifest: str | os.PathLike[str],
    conn_id: str,
    after: After = "tests",
    on: On = "success",
    **arguments: Unpack[StandaloneApiNodeArguments],
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, XComArg]]: ...


@overload
def dbt_node(
    *,
    select: str | Sequence[str],
    manifest: str | os.PathLike[str],
    conn_id: str,
    after: After = "tests",
    on: On = "success",
    **arguments: Unpack[StandaloneApiNodeArguments],
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, list[XComArg]]]: ...


def dbt_node(
    node: str | None = None,
    *,
    select: str | Sequence[str] | None = None,
    after: After = "tests",
    on: On = "success",
    before: bool = False,
    **arguments: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Turn a function into a Python task bound to a node of the surrounding project.

    Outside a project, with a `manifest`, an `image` and any other argument of `@dbt_k8s_project`, it makes a group
    of its own, whose pod builds just that node and its tests; with a `conn_id` and the arguments of `@dbt_api_project`, a
    server builds them.

    The function's first argument is the `NodeResult`; you pass the others when you call it, as with `@task`. The call returns
    the XComArg of the task, or for a selection a list with one for each matching node.

    :param node: the node's name, unique_id, `package.name` or `name.v2`; or a selection in dbt's syntax
    :param select: a selection in dbt's syntax, instead of `node`
    :param after: "tests": run when the node and its tests are done; "node": when the node is
    :param on: the outcome for which it runs; otherwise it is skipped: "success" (warnings included), "warn", "failure" or
        "any"; `project >> task` waits for those on "success" and "any"
    :param before: run before dbt builds the node, instead of after it. Then it takes no result, and its return value can be used
        as a dbt variable, `dbt_build(vars={"cutoff": cutoff()})`, for everything built after it. This splits the project: one
        pod builds what comes before, a later one the node and everything downstream
    :param arguments: any argument of `@task` except `trigger_rule`; outside a project, those of `@dbt_k8s_project` except
        `exclude` and `selector`, plus `build`, which takes the result of `dbt_build`
    :raises ArgumentError: when there is no such node, the function takes no result, or another argument is invalid
    :raises SelectionError: when a selection matches nothing
    """
    binding = Binding(node=node, select=select, after=after, on=on, before=before, task_arguments=arguments)
    is_standalone = "manifest" in arguments and Body.current.get() is None
    return standalone(binding) if is_standalone else binding.bind


def dbt_run_operation(
    macro: str, args: Mapping[str, Any] | str | XComArg | None = None, **arguments: Unpack[CommandArguments]
) -> XComArg:
    """
    Make a task that runs a macro with `dbt run-operation`, without a project; within one, use `DbtProject.run_operation`.

    :param macro: its name, or `package.macro`
    :param args: its arguments, as a dict or YAML text; each value may be a template or an XComArg
    :param arguments: `vars` and `target` of dbt; `task_id`, by default the macro's name; and the arguments of `@dbt_k8s_project` that
        are not about nodes, such as `image` and `project_dir`; with a `conn_id`, those of `@dbt_api_project`
    :raises ArgumentError: when an argument is invalid
    """
    return Commands.without_project(arguments).run_operation(macro, args, arguments)


def dbt_command(words: Sequence[str | XComArg], **arguments: Unpack[CommandArguments]) -> XComArg:
    """
    Make a task that runs a dbt command other than `build`, without a project; within one, use `DbtProject.command`.

    :param words: the sub-command and its options, such as `["docs", "generate"]`
    :param arguments: see `dbt_run_operation`
    :raises ArgumentError: when an argument is invalid, for `build`, and for options that would change dbt's log
    """
    return Commands.without_project(arguments).command(words, arguments)
