"""
The arguments of the decorators that are passed on to an operator or `@task`, only for editors and type checkers.

`decorators` names them in overloads; this module is never loaded while a DAG is parsed. `pod_arguments` asks the installed operator
what it really accepts. Type checkers reject an argument that is newer than this list, unless
`operator_class` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from dbt_watch.authoring.options import ApiOptions, AssetsWhen, OptionsBesideSelection, ProjectOptions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow.providers.cncf.kubernetes.secret import Secret
    from airflow.sdk import XComArg
    from airflow.task.priority_strategy import PriorityWeightStrategy
    from kubernetes.client import models as k8s

    from dbt_watch.core.command import DbtBuild
    from dbt_watch.core.log.drift import OnDrift
    from dbt_watch.lineage.settings import Lineage
    from dbt_watch.profiles.dbt_profile import DbtProfile
    from dbt_watch.rendering.node_tasks import NodeTask, Owners
    from dbt_watch.rendering.plan import Tests
    from dbt_watch.rendering.sensor_start import Sensors
    from dbt_watch.rendering.source_tasks import Sources
    from dbt_watch.rendering.subgroups import GroupBy

    Callbacks = Callable[[Any], None] | Sequence[Callable[[Any], None]]


class ImageArguments(TypedDict, total=False):
    """What runs, and the templates for the rest of the pod."""

    image: str | None
    image_pull_policy: str
    image_pull_secrets: list[k8s.V1LocalObjectReference]
    cmds: list[str]
    pod_template_file: str
    pod_template_dict: dict[str, Any]
    full_pod_spec: k8s.V1Pod
    base_container_name: str


class ClusterArguments(TypedDict, total=False):
    """Where it runs."""

    kubernetes_conn_id: str | None
    namespace: str
    in_cluster: bool
    cluster_context: str
    config_file: str


class ContainerArguments(TypedDict, total=False):
    """Arguments for dbt's container."""

    env_vars: list[k8s.V1EnvVar] | dict[str, str]
    env_from: list[k8s.V1EnvFromSource]
    secrets: list[Secret]
    configmaps: list[str]
    pod_runtime_info_envs: list[k8s.V1EnvVar]
    ports: list[k8s.V1ContainerPort]
    volume_mounts: list[k8s.V1VolumeMount]
    container_resources: k8s.V1ResourceRequirements | Mapping[str, Any]
    container_security_context: k8s.V1SecurityContext | dict[str, Any]
    termination_message_policy: str


class SpecArguments(TypedDict, total=False):
    """The rest of the pod's spec."""

    name: str
    random_name_suffix: bool
    labels: dict[str, str]
    annotations: dict[str, str]
    volumes: list[k8s.V1Volume]
    init_containers: list[k8s.V1Container]
    affinity: k8s.V1Affinity
    node_selector: dict[str, str]
    tolerations: list[k8s.V1Toleration]
    priority_class_name: str
    runtime_class_name: str
    schedulername: str
    service_account_name: str
    automount_service_account_token: bool
    security_context: k8s.V1PodSecurityContext | dict[str, Any]
    xcom_sidecar_container_security_context: k8s.V1SecurityContext | dict[str, Any]
    hostnetwork: bool
    host_aliases: list[k8s.V1HostAlias]
    hostname: str
    subdomain: str
    dnspolicy: str
    dns_config: k8s.V1PodDNSConfig
    active_deadline_seconds: int
    termination_grace_period: int


class WatchArguments(TypedDict, total=False):
    """How the operator starts the pod, follows it and cleans up."""

    deferrable: bool
    startup_timeout_seconds: int
    startup_check_interval_seconds: int
    schedule_timeout_seconds: int
    base_container_status_polling_interval: float
    poll_interval: float
    logging_interval: int | None
    container_logs: Iterable[str] | str | Literal[True]
    init_container_logs: Iterable[str] | str | Literal[True]
    container_name_log_prefix_enabled: bool
    log_formatter: Callable[[str, str], str]
    log_events_on_failure: bool
    log_events_on_startup: bool
    log_pod_spec_on_failure: bool
    reattach_on_restart: bool
    durable: bool
    on_finish_action: str
    on_kill_action: str
    is_delete_operator_pod: bool
    skip_on_exit_code: int | Container[int]
    do_xcom_push: bool
    callbacks: Any
    progress_callback: Callable[[str], None]
    trigger_kwargs: dict[str, Any]


class TaskArguments(TypedDict, total=False):
    """Arguments of any Airflow task that make sense for a producer and for a function bound to a node."""

    owner: str
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    max_retry_delay: timedelta | float | None
    execution_timeout: timedelta | None
    depends_on_past: bool
    wait_for_downstream: bool
    pool: str
    pool_slots: int
    priority_weight: int
    weight_rule: str | PriorityWeightStrategy
    queue: str
    executor: str
    executor_config: dict[str, Any]
    max_active_tis_per_dag: int
    max_active_tis_per_dagrun: int
    on_execute_callback: Callbacks
    on_success_callback: Callbacks
    on_failure_callback: Callbacks
    on_retry_callback: Callbacks
    on_skipped_callback: Callbacks


class PodArguments(
    ImageArguments,
    ClusterArguments,
    ContainerArguments,
    SpecArguments,
    WatchArguments,
    TaskArguments,
    total=False,
):
    """All of them."""


class ProjectArguments(ProjectOptions, PodArguments, total=False):
    """What `@dbt_k8s_project` takes besides the manifest."""


class ApiArguments(TaskArguments, total=False):
    """Arguments about a server, and about the task that uses it."""

    conn_id: str
    deferrable: bool


class ApiProjectArguments(ApiOptions, ApiArguments, total=False):
    """What `@dbt_api_project` takes besides the manifest."""


class OverridingArguments(ProjectArguments, total=False):
    """What `override` takes."""

    manifest: str | os.PathLike[str]
    conn_id: str


class StandaloneNodeArguments(OptionsBesideSelection, PodArguments, total=False):
    """What `@dbt_node` takes besides the manifest outside a project."""

    build: DbtBuild


class StandaloneApiNodeArguments(TaskArguments, total=False):
    """The same, if a server builds it; distinguished by its `conn_id`."""

    deferrable: bool
    group_id: str | None
    project_dir: str | None
    tests: Tests
    group_by: GroupBy
    sensors: Sensors
    on_drift: OnDrift
    on_warning_callback: Callbacks
    lineage: Lineage
    build: DbtBuild
    assets: str
    assets_namespace: str | None
    assets_when: AssetsWhen
    sources: Sources
    owners: Owners
    node_task: NodeTask | None


class CommandArguments(PodArguments, total=False):
    """What a task takes that runs a dbt command other than a build; `conn_id` if a server runs it."""

    vars: Mapping[str, Any] | str | XComArg | None
    target: str | XComArg | None
    task_id: str | None
    project_dir: str | None
    profiles_dir: str | None
    keep_entrypoint: bool
    deps: bool
    operator_class: type[Any] | None
    conn_id: str
    profile: DbtProfile | None


class FunctionArguments(TaskArguments, total=False):
    """What `@dbt_node` takes inside a project: the arguments of `@task`."""

    task_id: str
    task_display_name: str
    map_index_template: str
    multiple_outputs: bool
    do_xcom_push: bool
    show_return_value_in_logs: bool
    render_template_as_native_obj: bool
    templates_dict: dict[str, Any]
    templates_exts: list[str]
    params: dict[str, Any]
    default_args: dict[str, Any]
    inlets: Any
    outlets: Any
    email: str | Sequence[str]
    email_on_failure: bool
    email_on_retry: bool
    retry_policy: Any
    sla: timedelta
    start_date: datetime
    end_date: datetime
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    pre_execute: Callable[[Any], None]
    post_execute: Callable[[Any, Any], None]
    resources: dict[str, Any]
    run_as_user: str
    logger_name: str
    allow_nested_operators: bool
    doc: str
    doc_md: str
    doc_json: str
    doc_yaml: str
    doc_rst: str
