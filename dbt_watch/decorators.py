"""
The public names that a DAG file imports: the decorators, `dbt_build`, and the tasks of other commands of dbt.

`authoring` does the work. Everything that can be wrong with an argument is said while the DAG is parsed.
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
    Say how dbt builds the project, as the return value of a function under `@dbt_k8s_project`.

    Each argument may be a template or an XComArg; it reaches dbt when the producer runs.

    :param vars: dbt's variables, as a dict, or as YAML text
    :param full_refresh: rebuild incremental models and seeds; a template may render to "true" or "false"
    :param target: the target of the profile
    :param threads: how many nodes dbt builds at a time
    :param fail_fast: stop at the first failure
    :param empty: build all models without rows
    :param event_time_start: from when on microbatch models are built, such as "{{ data_interval_start }}"
    :param event_time_end: until when
    :param select: the part of the project's nodes that this run builds, in dbt's selection syntax; the tasks of all others
        end skipped
    :param exclude: what this run leaves out
    :param flags: more options of `dbt build`, each an element of its own
    :param event_time: both times at once, by the dates of the run: "data_interval", or the length of the time up to its date
    :param event_time_vars: the names of two variables that get these times, too
    :param defer: let what is not built here be read where the run of `state=` has built it; without a state nothing is deferred
    :raises ArgumentError: when a value that is known already is of the wrong kind
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
    Make a task group of a dbt project: one pod that builds it, and one task for each node.

    The decorated function runs while the DAG is parsed, inside the group. It may bind functions to nodes with
    `@dbt_node`, and returns `dbt_build(...)` or nothing. Calling it gives a `DbtProject`; `expand` makes one run of the
    project for each of some values, as with Airflow's `@task_group`.

    :param manifest: the project's manifest.json: a path (a relative one starts at the DAG file) or the URL of an
        object store
    :param arguments: the options of `dbt_watch.authoring.options.ProjectOptions`, where each is explained, such as `select`,
        `tests` or `freshness`; and any argument of KubernetesPodOperator or `operator_class`, such as `image`,
        `namespace`, `secrets`, `retries`, or `cmds`, the words that call dbt
    :raises ManifestError: when the manifest is missing or is not one
    :raises SelectionError: when the selection cannot be understood, or matches nothing
    :raises ArgumentError: when another argument is unknown, missing or of the wrong kind
    """
    return _decorator("pods", manifest, arguments)


def dbt_api_project(
    manifest: str | os.PathLike[str], **arguments: Unpack[ApiProjectArguments]
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]:
    """
    Make a task group of a dbt project that a server runs: a dbt API server, such as `dbt-watch server`.

    It is the same group as that of `@dbt_k8s_project`, with the same tasks of nodes, retries and clears. No pod is made: the task
    that runs dbt posts an invocation, and follows its log.

    :param manifest: the project's manifest.json: a path (a relative one starts at the DAG file) or the URL of an
        object store
    :param arguments: `conn_id`, Airflow's connection to the server, "dbt_api" by default; `deferrable`; the options of
        `dbt_watch.authoring.options.ApiOptions`; and any argument of BaseOperator that makes sense, such as `retries` or `pool`
    :raises ManifestError: when the manifest is missing or is not one
    :raises SelectionError: when the selection cannot be understood, or matches nothing
    :raises ArgumentError: when another argument is unknown, missing or of the wrong kind, or only a pod could heed it
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
    Make a Python task of a function and bind it to a node of the project around it.

    Outside of a project, given a `manifest`, an `image` and any other argument of `@dbt_k8s_project`, it makes a group
    of its own, whose pod builds just that node and its tests; given a `conn_id`, with the arguments of `@dbt_api_project`, a
    server does.

    Its first argument is the `NodeResult`; the others are given when it is called, as with `@task`. Calling it gives
    the XComArg of the task; for a selection a list of them, one for each node that matches.

    :param node: the node's name, unique_id, `package.name` or `name.v2`; or a selection in dbt's syntax
    :param select: a selection in dbt's syntax, instead of `node`
    :param after: "tests": it runs when the node and its tests are done; "node": when the node is
    :param on: for which outcome it runs, and is skipped otherwise: "success" (warnings included), "warn", "failure" or
        "any"; `project >> task` waits for those on "success" and "any"
    :param before: run before dbt builds the node, instead of after it: then it takes no result, and what it returns can be one
        of dbt's variables, `dbt_build(vars={"cutoff": cutoff()})`, for all that is built behind it. The project is split: what
        comes before is built by one pod, the node and what depends on it by a later one
    :param arguments: any argument of `@task`, but `trigger_rule`; outside of a project, those of `@dbt_k8s_project`, but
        `exclude` and `selector`, and `build`, which takes what `dbt_build` returns
    :raises ArgumentError: when there is no such node, the function takes no result, or another argument is wrong
    :raises SelectionError: when a selection matches nothing
    """
    binding = Binding(node=node, select=select, after=after, on=on, before=before, task_arguments=arguments)
    is_standalone = "manifest" in arguments and Body.current.get() is None
    return standalone(binding) if is_standalone else binding.bind


def dbt_run_operation(
    macro: str, args: Mapping[str, Any] | str | XComArg | None = None, **arguments: Unpack[CommandArguments]
) -> XComArg:
    """
    Make a task that runs a macro, `dbt run-operation`, where no project is at hand; else see `DbtProject.run_operation`.

    :param macro: its name, or `package.macro`
    :param args: its arguments, as a dict, or as YAML text; each value may be a template or an XComArg
    :param arguments: `vars` and `target` of dbt; `task_id`, by default the macro's name; and the arguments of `@dbt_k8s_project` that
        are not about nodes, such as `image` and `project_dir`; given a `conn_id`, those of `@dbt_api_project`
    :raises ArgumentError: when something is wrong
    """
    return Commands.without_project(arguments).run_operation(macro, args, arguments)


def dbt_command(words: Sequence[str | XComArg], **arguments: Unpack[CommandArguments]) -> XComArg:
    """
    Make a task that runs a command of dbt that is no build, where no project is at hand; else see `DbtProject.command`.

    :param words: the sub-command, and its options, such as `["docs", "generate"]`
    :param arguments: see `dbt_run_operation`
    :raises ArgumentError: when something is wrong; for `build`, and for options that would change dbt's log
    """
    return Commands.without_project(arguments).command(words, arguments)
