"""
The decorators: `@dbt_k8s_project`, `@dbt_node`, and `dbt_build`: names, signatures and what they mean.

What stands behind them is in `authoring`. Everything that can be wrong with an argument is said while the DAG is
parsed.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, overload

from dbt_watch.authoring.node_functions import After, Binding, Body, On
from dbt_watch.authoring.project_factory import ProjectFactory
from dbt_watch.authoring.settings import Callback, ProjectSettings
from dbt_watch.authoring.standalone_node import alone
from dbt_watch.core.command import DbtBuild, check_literals
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow.sdk import XComArg
    from typing_extensions import Unpack

    from dbt_watch.authoring.pod_types import PodArguments
    from dbt_watch.core.log.drift import OnDrift
    from dbt_watch.core.log.stale_sources import OnStale
    from dbt_watch.core.results import NodeResult
    from dbt_watch.core.selection.source_freshness import Freshness
    from dbt_watch.rendering.group import Sensors
    from dbt_watch.rendering.plan import Tests
    from dbt_watch.rendering.subgroups import GroupBy

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
    )
    check_literals(build)
    return build


@overload
def dbt_k8s_project(
    manifest: str | os.PathLike[str],
    *,
    group_id: str | None = ...,
    project_dir: str | None = ...,
    profiles_dir: str | None = ...,
    select: str | Sequence[str] | None = ...,
    exclude: str | Sequence[str] | None = ...,
    selector: str | None = ...,
    tests: Tests = ...,
    group_by: GroupBy = ...,
    sensors: Sensors = ...,
    keep_entrypoint: bool = ...,
    deps: bool = ...,
    freshness: Freshness = ...,
    on_stale: OnStale = ...,
    on_drift: OnDrift = ...,
    on_warning_callback: Callback | Sequence[Callback] | None = ...,
    operator_class: None = ...,
    **pod: Unpack[PodArguments],
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]: ...


@overload
def dbt_k8s_project(
    manifest: str | os.PathLike[str],
    *,
    group_id: str | None = ...,
    project_dir: str | None = ...,
    profiles_dir: str | None = ...,
    select: str | Sequence[str] | None = ...,
    exclude: str | Sequence[str] | None = ...,
    selector: str | None = ...,
    tests: Tests = ...,
    group_by: GroupBy = ...,
    sensors: Sensors = ...,
    keep_entrypoint: bool = ...,
    deps: bool = ...,
    freshness: Freshness = ...,
    on_stale: OnStale = ...,
    on_drift: OnDrift = ...,
    on_warning_callback: Callback | Sequence[Callback] | None = ...,
    operator_class: type[Any] | None = ...,
    **pod: Any,
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]: ...


def dbt_k8s_project(
    manifest: str | os.PathLike[str],
    *,
    group_id: str | None = None,
    project_dir: str | None = None,
    profiles_dir: str | None = None,
    select: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    selector: str | None = None,
    tests: Tests = "after_each",
    group_by: GroupBy = "none",
    sensors: Sensors = "auto",
    keep_entrypoint: bool = False,
    deps: bool = False,
    freshness: Freshness = "none",
    on_stale: OnStale = "fail",
    on_drift: OnDrift = "warn",
    on_warning_callback: Callback | Sequence[Callback] | None = None,
    operator_class: type[Any] | None = None,
    **pod: Any,
) -> Callable[[Callable[P, DbtBuild | None]], ProjectFactory[P]]:
    """
    Make a task group of a dbt project: one pod that builds it, and one task for each node.

    The decorated function runs while the DAG is parsed, inside the group. It may bind functions to nodes with
    `@dbt_node`, and returns `dbt_build(...)` or nothing. Calling it gives a `DbtProject`; `expand` makes one run of the
    project for each of some values, as with Airflow's `@task_group`.

    :param manifest: the project's manifest.json: a path (a relative one starts at the DAG file) or the URL of an
        object store
    :param group_id: the id of the task group; by default the function's name
    :param project_dir: where the project lies in the image
    :param profiles_dir: where profiles.yml lies in the image, if not with the project
    :param select: the nodes to build, in dbt's selection syntax; by default all
    :param exclude: the nodes to leave out
    :param selector: the name of a selector in the project's selectors.yml, instead of `select` and `exclude`
    :param tests: "after_each": one task for the tests of each node, between it and its children; "build": a node's
        task stands for its tests too; "after_all": one task for all tests; "none": no tests are run
    :param group_by: task groups within the project's own: "folder", "tag" (the first one of each node) or "none"; the
        ids of the tasks are the same
    :param sensors: how the tasks of nodes start: "eager": all at once; "lineage": one level after the other; "auto":
        eager from Airflow 3.3 on for up to 200 tasks
    :param keep_entrypoint: let the image's ENTRYPOINT run, with the call of dbt as its arguments
    :param deps: run `dbt deps` before, in the same container; needs /bin/sh in the image
    :param freshness: "before": run `dbt source freshness` before the build, in the same container, for the sources that
        the selected nodes read, as far as they have a policy; needs /bin/sh in the image; "only": check the sources of the
        selection, and build nothing; "none": check none. Each source that is checked has a task
    :param on_stale: what becomes of the nodes that read from a stale source; they are not built, and "fail": fail;
        "skip": are skipped
    :param on_drift: what happens when the project in the image is not the manifest's, so that a node has a task and is not
        built, or is built and has none: "warn": the log of dbt's task says which; "fail": that task fails, too
    :param on_warning_callback: called with the context of a node's task when it or a test of it has warned; what dbt reported
        is in the context as `dbt_results`. Airflow's own callbacks may be given as well, for the producer and all nodes.
    :param operator_class: KubernetesPodOperator (the default) or a subclass of it
    :param pod: any argument of that operator, such as `image`, `namespace`, `secrets`, `retries`, or `cmds`, the words
        that call dbt
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
        tests=tests,
        group_by=group_by,
        sensors=sensors,
        keep_entrypoint=keep_entrypoint,
        deps=deps,
        freshness=freshness,
        on_stale=on_stale,
        on_drift=on_drift,
        on_warning_callback=on_warning_callback,
        operator_class=operator_class,
        pod=pod,
    )

    def decorate(function: Callable[P, DbtBuild | None]) -> ProjectFactory[P]:
        if not inspect.isfunction(function):
            raise ArgumentError("@dbt_k8s_project", function, "a function to decorate")
        return ProjectFactory(function, settings)

    return decorate


@overload
def dbt_node(
    node: str, *, after: After = "tests", on: On = "success", **task_arguments: Any
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, XComArg]]: ...


@overload
def dbt_node(
    *, select: str | Sequence[str], after: After = "tests", on: On = "success", **task_arguments: Any
) -> Callable[[Callable[Concatenate[NodeResult, P], Any]], Callable[P, list[XComArg]]]: ...


def dbt_node(
    node: str | None = None,
    *,
    select: str | Sequence[str] | None = None,
    after: After = "tests",
    on: On = "success",
    **task_arguments: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Make a Python task of a function and bind it to a node of the project around it.

    Outside of a project, given a `manifest`, an `image` and any other argument of `@dbt_k8s_project`, it makes a group
    of its own, whose pod builds just that node and its tests.

    Its first argument is the `NodeResult`; the others are given when it is called, as with `@task`. Calling it gives
    the XComArg of the task; for a selection a list of them, one for each node that matches.

    :param node: the node's name, unique_id, `package.name` or `name.v2`; or a selection in dbt's syntax
    :param select: a selection in dbt's syntax, instead of `node`
    :param after: "tests": it runs when the node and its tests are done; "node": when the node is
    :param on: for which outcome it runs, and is skipped otherwise: "success" (warnings included), "warn", "failure" or
        "any"; `project >> task` waits for those on "success" and "any"
    :param task_arguments: any argument of `@task`, but `trigger_rule`; outside of a project, those of
        `@dbt_k8s_project`, and `build`, what `dbt_build` gives
    :raises ArgumentError: when there is no such node, the function takes no result, or another argument is wrong
    :raises SelectionError: when a selection matches nothing
    """
    binding = Binding(node=node, select=select, after=after, on=on, task_arguments=task_arguments)
    return (
        binding.bind if Body.current.get() is not None or "manifest" not in task_arguments else alone(binding)
    )
