"""
The options of `@dbt_k8s_project` and `@dbt_api_project`: the single place for their names, types, defaults and meaning.

The signatures in `decorators` are built from `ProjectOptions` and `ApiOptions`, plus the operator's arguments in `pod_types`.
The checks here use the types. docs/authoring.md and docs/api.md list the same names.
"""

# No `from __future__ import annotations` here: the checks read the types.
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, cast, get_args, get_origin, get_type_hints

import msgspec

from dbt_watch.core.artifacts import LAST_SUCCESS, Artifacts, checked
from dbt_watch.core.assets import check_namespace
from dbt_watch.core.log.drift import OnDrift
from dbt_watch.core.log.stale_sources import OnStale
from dbt_watch.core.selection.source_freshness import Freshness
from dbt_watch.exceptions import ArgumentError
from dbt_watch.lineage.settings import Lineage, check_lineage
from dbt_watch.profiles.dbt_profile import DbtProfile
from dbt_watch.rendering.node_tasks import NodeTask, Owners
from dbt_watch.rendering.plan import TESTS, Tests
from dbt_watch.rendering.sensor_start import Sensors
from dbt_watch.rendering.source_tasks import Sources
from dbt_watch.rendering.subgroups import GroupBy

Callback = Callable[[Any], None]
Callbacks = Callback | Sequence[Callback] | None
Text = str | None
Criteria = str | Sequence[str] | None
# Of `PodSettings`, which are made of the operator's arguments.
Isolate = str | Sequence[str] | Mapping[str, Any] | None
AssetsWhen = Literal["auto", "built", "end"]
ToArtifacts = str | Artifacts | None


class SensorOptions(TypedDict, total=False):
    """Where node tasks run when they need a worker; anything left out is as for any task."""

    executor: str
    """The executor that starts the worker, by its name in `[core] executor`."""

    queue: str
    """The executor's queue."""

    pool: str
    """The pool that must have an open slot when a worker starts; a node's `meta.dbt_watch` overrides it."""

    executor_config: dict[str, Any]
    """Settings for the executor, such as `{"pod_template_file": "/opt/airflow/templates/small.yaml"}`."""


class OptionsBesideSelection(TypedDict, total=False):
    """The options that also apply to a node outside a project, where the node is the selection."""

    group_id: Text
    """The id of the task group; by default the function's name."""

    project_dir: Text
    """Where the project is in the image."""

    profiles_dir: Text
    """Where profiles.yml is in the image, if not in the project."""

    tests: Tests
    """
    "after_each" (the default): one task for the tests of each node, between it and its children; "build": a node's task
    covers its tests; "after_all": one task for all tests; "none": no tests run.
    """

    group_by: GroupBy
    """
    Nested task groups: "folder", "tag" (the first tag of each node) or "none", the default. Task ids do not
    change.
    """

    sensors: Sensors
    """
    How node tasks start: "eager": all at once; "lineage": one level after the other; "executor": all at once, run by
    `dbt_watch.NodeExecutor`, see docs/executor.md; "auto", the default: through that executor if the deployment has it and
    `max_active_tasks` allows it; otherwise eager on Airflow 3.3 and later, with a light triggerer or up to 360 tasks; otherwise lineage.
    """

    sensor_options: SensorOptions | None
    """
    Where node tasks run when they need a worker: any of `executor`, `queue`, `pool` and `executor_config`. Does not apply to the
    task that runs dbt. See docs/kubernetes-executor.md.
    """

    keep_entrypoint: bool
    """Keep the image's ENTRYPOINT, with the dbt command as its arguments."""

    deps: bool
    """Run `dbt deps` first, in the same container; needs /bin/sh in the image."""

    freshness: Freshness
    """
    "before": run `dbt source freshness` before the build, in the same container, for the sources that the selected nodes
    read, if they have a policy; needs /bin/sh in the image. "only": check the sources in the selection, and build
    nothing. "none", the default: check none. Each checked source has a task.
    """

    on_stale: OnStale
    """How nodes end that read from a stale source and so are not built: "fail", the default, or "skip"."""

    on_drift: OnDrift
    """
    What to do if the project in the image differs from the manifest, so that a node has a task but is not built, or is
    built but has none: "warn", the default: the log of dbt's task names them; "fail": that task also fails.
    """

    on_warning_callback: Callbacks
    """
    Called with the context of a node's task when the node or one of its tests warned; what dbt reported is in the context as
    `dbt_results`. Airflow's own callbacks can be given too, for the producer and all nodes.
    """

    operator_class: type[Any] | None
    """KubernetesPodOperator, the default, or a subclass of it."""

    lineage: Lineage
    """
    Whether to send OpenLineage events, if Airflow's OpenLineage provider is installed and configured: True, the
    default, False, or `DbtLineage(namespace="postgres://db.example:5432")`, which sets the namespace of the datasets.
    """

    profile: DbtProfile | None
    """The Airflow connection to generate profiles.yml from, instead of one in the image; see docs/profiles.md."""

    assets: str
    """
    Which builds send asset events to Airflow: "each": each model, seed and snapshot; "selected:" plus a selection in
    dbt's syntax; "none", the default. See docs/assets.md.
    """

    assets_namespace: Text
    """
    The location of the relations, as a URI without their names: "postgres://db.example:5432". By default assets are named
    `dbt://PROJECT/UNIQUE_ID`.
    """

    assets_when: AssetsWhen
    """
    When asset events are sent: "built": as soon as a node is built, which takes a worker for each node's task unless `dbt_watch.NodeExecutor`
    runs it; "end": when dbt has ended; "auto", the default: as soon as a node is built if the executor runs the node tasks, otherwise at the end.
    """

    artifacts: ToArtifacts
    """
    Where to keep run_results.json when dbt has ended, successfully or not: a directory in an object store, such as
    "s3://bucket/dbt/{dag_id}/{run_id}/{attempt}/", or `Artifacts(...)` to keep other files too. None, the
    default: nowhere. See docs/artifacts.md; needs /bin/sh in the image.
    """

    sources: Sources
    """
    "checked", the default: a source has a task if `freshness` checks it. "all": each source that is read has one, which
    runs nothing if the source is not checked.
    """

    owners: Owners
    """
    The owner of each node's task: "meta": the node's `meta.owner` in dbt; "group": the name of its dbt group; "none", the
    default: Airflow's default, which also applies if dbt names no owner. `meta.dbt_watch` overrides it.
    """

    node_task: NodeTask | None
    """
    A function that is called for each node while the DAG is parsed, and returns arguments for its task, or None: any of
    `task_display_name`, `owner`, `pool`, `priority_weight` and `doc_md`. It overrides `owners` and `meta.dbt_watch`.
    """


class ProjectOptions(OptionsBesideSelection, total=False):
    """The options of a project."""

    state: Text
    """
    What `state:`, `result:` and `source_status:` in `dbt_build(select=...)` compare against, and what `defer` reads from: "last_success", the last
    successful run of this project, which is kept with its `artifacts`; or a directory with a manifest.json. See docs/state.md.
    """

    select: Criteria
    """The nodes to build, in dbt's selection syntax; by default all."""

    exclude: Criteria
    """The nodes to leave out."""

    selector: Text
    """The name of a selector in the project's selectors.yml, instead of `select` and `exclude`."""

    isolate: Isolate
    """
    The nodes that each get a pod of their own: a selection in dbt's syntax, `"*"` for every node, or
    a mapping of selections to `PodSettings`. The rest is built by as few pods as the graph allows. None, the default: one pod.
    """


class ApiOptions(TypedDict, total=False):
    """The options of a project that a server runs: those of `ProjectOptions` that concern neither an image nor a pod."""

    group_id: Text
    """See `ProjectOptions`, also for the other options but `project_dir` and `freshness`."""

    project_dir: Text
    """The project's name on the server, or its directory there; optional if the server has only one project for us."""

    tests: Tests
    group_by: GroupBy
    sensors: Sensors

    freshness: Freshness
    """"only": check the sources in the selection, and build nothing. "none", the default: check none."""

    on_drift: OnDrift
    on_warning_callback: Callbacks
    select: Criteria
    exclude: Criteria
    selector: Text
    lineage: Lineage
    assets: str
    assets_namespace: Text
    assets_when: AssetsWhen
    sources: Sources
    owners: Owners
    node_task: NodeTask | None


DEFAULTS: Final[ProjectOptions] = {
    "group_id": None,
    "project_dir": None,
    "profiles_dir": None,
    "tests": "after_each",
    "group_by": "none",
    "sensors": "auto",
    "sensor_options": None,
    "keep_entrypoint": False,
    "deps": False,
    "freshness": "none",
    "on_stale": "fail",
    "on_drift": "warn",
    "on_warning_callback": None,
    "operator_class": None,
    "artifacts": None,
    "state": None,
    "select": None,
    "exclude": None,
    "selector": None,
    "isolate": None,
    "lineage": True,
    "profile": None,
    "assets": "none",
    "assets_namespace": None,
    "assets_when": "auto",
    "sources": "checked",
    "owners": "none",
    "node_task": None,
}

# Airflow's own, which a producer and its sensors both take.
AIRFLOW_CALLBACKS: Final = (
    "on_execute_callback",
    "on_success_callback",
    "on_failure_callback",
    "on_retry_callback",
    "on_skipped_callback",
)


def with_defaults(given: Mapping[str, Any]) -> ProjectOptions:
    """
    Return all options, with defaults for those not given.

    :raises ArgumentError: naming the option, its value and what was expected
    """
    options: dict[str, Any] = {**DEFAULTS, **given}
    _check_tests(options["tests"])
    _check_sensor_options(options["sensor_options"], options["sensors"])
    _check_assets(options["assets"])
    check_namespace("assets_namespace", options["assets_namespace"])
    options["artifacts"] = checked("artifacts", options["artifacts"])
    _check_state(options)
    for name, check in _CHECKS.items():
        check(name, options[name])
    if options["node_task"] is not None and not callable(options["node_task"]):
        raise ArgumentError(
            "node_task",
            options["node_task"],
            "a function that takes a node and returns arguments of its task",
        )
    if options["on_stale"] != "fail" and options["freshness"] != "before":
        raise ArgumentError(
            "on_stale", options["on_stale"], 'freshness="before" as well: without it, no node is held back'
        )
    _check_profile(options["profile"], options["profiles_dir"])
    return cast("ProjectOptions", options)


def one_of(argument: str, value: Any, allowed: Sequence[Any]) -> Any:
    """
    Return a value if it is one of the allowed ones.

    :raises ArgumentError: when it is not
    """
    if value not in allowed:
        raise ArgumentError(argument, value, f"one of {', '.join(map(repr, allowed))}", known=allowed)
    return value


def callbacks(argument: str, value: Any) -> list[Callback]:
    """
    Return one callback, several or none as a list.

    :raises ArgumentError: when something in it cannot be called
    """
    if value is None:
        return []
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    for item in items:
        if not callable(item):
            raise ArgumentError(
                argument, value, "a function that takes the context, or a list of such functions"
            )
    return items


def _check_state(options: dict[str, Any]) -> None:
    """
    Check that the state of the last successful run can be kept, if requested, and have its manifest kept.

    :raises ArgumentError: when it cannot
    """
    if options["state"] != LAST_SUCCESS:
        return
    if options["artifacts"] is None:
        raise ArgumentError(
            "state", LAST_SUCCESS, "artifacts=... as well: the state of the last successful run is kept there"
        )
    if options["isolate"] is not None:
        raise ArgumentError(
            "state",
            LAST_SUCCESS,
            "a project without isolate=...: no pod knows whether the others succeeded",
        )
    artifacts = options["artifacts"]
    sources = artifacts.sources or options["freshness"] == "before"
    options["artifacts"] = msgspec.structs.replace(artifacts, manifest=True, sources=sources)


# What it was called in the first days of this library.
_EARLIER_TESTS: Final = {"each": "after_each", "node": "build", "one": "after_all"}


def _check_tests(value: Any) -> None:
    """
    Refuse other names for a value and name the right one, for example for astronomer-cosmos' `TestBehavior.AFTER_EACH`.

    :raises ArgumentError: when it is such a name
    """
    word = str(value).rpartition(".")[2].lower()
    meant = _EARLIER_TESTS.get(word, word)
    if value not in TESTS and meant in TESTS:
        raise ArgumentError("tests", value, repr(meant))


def _check_sensor_options(value: Any, sensors: Any) -> None:
    """
    Check where sensors should run.

    :raises ArgumentError: when it is not a mapping of `SensorOptions`
    """
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise ArgumentError("sensor_options", value, f"a dict with any of {', '.join(_SENSOR_OPTIONS)}")
    for name, given in value.items():
        argument = f"sensor_options[{name!r}]"
        if name not in _SENSOR_OPTIONS:
            expected = f"one of {', '.join(_SENSOR_OPTIONS)}"
            raise ArgumentError(argument, given, expected, known=_SENSOR_OPTIONS, sought=str(name))
        if name == "executor_config":
            _check_executor_config(argument, given)
        elif not (isinstance(given, str) and given):
            raise ArgumentError(argument, given, "text")
    if sensors == "executor" and "executor" in value:
        raise ArgumentError(
            "sensor_options['executor']",
            value["executor"],
            'to be left out: sensors="executor" sets it',
        )


def _check_executor_config(argument: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ArgumentError(argument, value, "a dict")
    override = value.get("pod_override")
    # By its name: whoever has no such pod need not import Kubernetes for the check.
    if override is not None and type(override).__name__ != "V1Pod":
        raise ArgumentError(f"{argument}['pod_override']", override, "a V1Pod of kubernetes.client.models")


def _check_profile(value: Any, profiles_dir: Any) -> None:
    if value is None:
        return
    if not isinstance(value, DbtProfile):
        raise ArgumentError("profile", value, "DbtProfile(conn_id), or None")
    if profiles_dir is not None:
        raise ArgumentError("profiles_dir", profiles_dir, "to be left out: profile=... creates profiles.yml")


def _check_assets(value: Any) -> None:
    is_selection = (
        isinstance(value, str) and value.startswith(SELECTED) and value.removeprefix(SELECTED).strip()
    )
    if value not in ("none", "each") and not is_selection:
        raise ArgumentError(
            "assets", value, '"none", "each", or "selected:" followed by a selection in dbt\'s syntax'
        )


SELECTED: Final = "selected:"


def _check_text(argument: str, value: Any) -> None:
    if value is not None and not (isinstance(value, str) and value):
        raise ArgumentError(argument, value, "text, or None")


def _check_bool(argument: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ArgumentError(argument, value, "True or False")


def _check_of(kind: Any) -> Callable[[str, Any], object] | None:
    """Return the check for a type; None for types that are checked where they are used."""
    if get_origin(kind) is Literal:
        return lambda argument, value: one_of(argument, value, get_args(kind))
    return {Text: _check_text, bool: _check_bool, Callbacks: callbacks, Lineage: check_lineage}.get(kind)


_SENSOR_OPTIONS: Final = tuple(get_type_hints(SensorOptions))
_CHECKS: Final = {
    name: check
    for name, kind in get_type_hints(ProjectOptions).items()
    if (check := _check_of(kind)) is not None
}
