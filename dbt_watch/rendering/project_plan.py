"""
What a project will run: `ProjectPlan`, which `DbtProject.plan` returns and `dbt-watch plan` prints.

`rendering.project_planner` creates it. It contains no secrets: only the names of environment variables and dbt variables, and only
those values of the operator's other arguments that are known to contain none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

FORMAT = 1
"""The version of the format of `ProjectPlan` as JSON; adding a field does not change it."""


class FollowingTask(msgspec.Struct, frozen=True, kw_only=True):
    """
    A task that follows a pod and shows how its nodes end.

    :param task_id: its full id
    :param nodes: the unique_ids of its nodes
    """

    task_id: str
    nodes: tuple[str, ...]


class AwaitedTask(msgspec.Struct, frozen=True, kw_only=True):
    """
    A task that a pod waits for.

    :param task_id: its full id
    :param node: the unique_id of the node that the task, or a task for its tests, belongs to; None for a task outside the project
    """

    task_id: str
    node: str | None = None


class TaskAround(msgspec.Struct, frozen=True, kw_only=True):
    """
    A task that belongs to no node, and runs before or after some of them.

    :param task_id: its full id
    :param is_function: whether it was made in the body of the project, for example with `@dbt_node`
    :param before: the unique_ids of the nodes that wait for it
    :param after: the unique_ids of the nodes that it waits for
    """

    task_id: str
    is_function: bool
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class PlannedPod(msgspec.Struct, frozen=True, kw_only=True):
    """
    A planned pod, and the task that runs it.

    Templates and outputs of other tasks are shown as written, in brackets if they decide whether a part of the command exists:
    `[--full-refresh if {{ params.full }}]`.

    :param task_id: the full id of the task
    :param kind: "producer": it builds all nodes of its part; "isolated": it builds one node that has a pod of its own
    :param node: the unique_id of that node
    :param why: why this pod is needed, as a sentence; empty for a producer with nothing of the project upstream
    :param nodes: the unique_ids that dbt builds, tests included; empty if `dbt_build(select=...)` leaves none of them
    :param tasks: the node tasks that follow the pod
    :param waits_for: the tasks that it waits for
    :param image: the container's image; None if a pod template sets it
    :param command: the container's command: `cmds` and dbt's arguments; for a server, what it is asked to run; with "..." for the
        values of variables; empty if no node is left to build
    :param keeps_entrypoint: whether the command is passed to the image's ENTRYPOINT instead of replacing it
    :param narrowed_by: what narrows the selection further when dbt runs, since it is not known earlier: the options `select` and
        `exclude` of `dbt_build` as written
    :param resources: the container's requests and limits
    :param pool: the task's pool in Airflow
    :param env_vars: the names of the container's environment variables
    :param vars: the names of dbt's variables; "*" if all of them come as one text
    :param settings: for an isolated node, the other arguments of the operator that differ from the project's
    :param hidden_settings: for an isolated node, the names of those arguments whose values may be secret
    """

    task_id: str
    kind: Literal["producer", "isolated"]
    node: str | None = None
    why: str = ""
    nodes: tuple[str, ...] = ()
    tasks: tuple[FollowingTask, ...] = ()
    waits_for: tuple[AwaitedTask, ...] = ()
    image: str | None = None
    command: tuple[str, ...] = ()
    keeps_entrypoint: bool = False
    narrowed_by: Mapping[str, str] = {}
    resources: Mapping[str, Any] | None = None
    pool: str = "default_pool"
    env_vars: tuple[str, ...] = ()
    vars: tuple[str, ...] = ()
    settings: Mapping[str, Any] = {}
    hidden_settings: tuple[str, ...] = ()


class ProjectPlan(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a project will run.

    :param format: the version of this format
    :param dag_id: the DAG's id
    :param group_id: the id of the project's task group
    :param project: the name of the dbt project
    :param is_mapped: whether the project is mapped
    :param runs_in: what dbt runs in: "pod", or "invocation" if a server runs it; then `pods` are the invocations
    :param pods: the pods, in the order in which they can start
    :param around: the tasks that run before or after some of the nodes, including functions under `@dbt_node`
    """

    format: int = FORMAT
    dag_id: str
    group_id: str
    project: str
    is_mapped: bool = False
    runs_in: Literal["pod", "invocation"] = "pod"
    pods: tuple[PlannedPod, ...] = ()
    around: tuple[TaskAround, ...] = ()

    @property
    def node_count(self) -> int:
        """How many nodes dbt builds."""
        return sum(len(pod.nodes) for pod in self.pods)

    @property
    def task_count(self) -> int:
        """How many tasks there are: those of the pods, and of the nodes that follow them."""
        return sum(1 + len(pod.tasks) for pod in self.pods)

    def to_dict(self) -> dict[str, Any]:
        """Return it as builtins: what `dbt-watch plan --format json` prints."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made
