"""
What a project will run: `ProjectPlan`, which `DbtProject.plan` returns and `dbt-watch plan` shows.

`rendering.project_planner` makes it. Nothing in it is a secret: of environment variables and of dbt's variables it has the names
alone, and of the operator's other arguments those values that are known to hold none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

FORMAT = 1
"""Counts the changes of `ProjectPlan` that a reader of its JSON has to know of; new fields are none."""


class FollowingTask(msgspec.Struct, frozen=True, kw_only=True):
    """
    A task that follows a pod and tells what becomes of its nodes.

    :param task_id: its whole id
    :param nodes: the unique_ids that it stands for
    """

    task_id: str
    nodes: tuple[str, ...]


class AwaitedTask(msgspec.Struct, frozen=True, kw_only=True):
    """
    A task that a pod waits for.

    :param task_id: its whole id
    :param node: the unique_id of the node whose task it is, or whose tests'; None for a task that is none of the project's
    """

    task_id: str
    node: str | None = None


class TaskAround(msgspec.Struct, frozen=True, kw_only=True):
    """
    A task that is none of a node's, and runs before or after some of them.

    :param task_id: its whole id
    :param is_function: whether it was made in the body of the project, as by `@dbt_node`
    :param before: the unique_ids of the nodes that wait for it
    :param after: those of the nodes that it waits for
    """

    task_id: str
    is_function: bool
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class PlannedPod(msgspec.Struct, frozen=True, kw_only=True):
    """
    A pod to be, and the task that runs it.

    Templates, and what other tasks give, stand as they are written. Where they decide what there is of the command, that is in
    brackets: `[--full-refresh if {{ params.full }}]`.

    :param task_id: the whole id of the task
    :param kind: "producer": it builds all nodes of its part; "isolated": it builds one node that has a pod of its own
    :param node: the unique_id of that node
    :param why: what makes this pod necessary, as a sentence; empty for a producer that nothing of the project comes before
    :param nodes: the unique_ids that dbt is asked for, tests included; none where `dbt_build(select=...)` leaves none of them
    :param tasks: the tasks of nodes that follow the pod
    :param waits_for: the tasks that it waits for
    :param image: of the container; None where a pod template has it
    :param command: what the container is called with: `cmds`, and dbt's arguments; what a server is to run, with "..." for the
        values of variables; none where no node is left to build
    :param keeps_entrypoint: whether that follows the image's ENTRYPOINT instead of replacing it
    :param narrowed_by: what narrows the selection further when dbt runs, since it is not known before: the options `select` and
        `exclude` of `dbt_build` as they are written
    :param resources: what the container asks for: requests and limits
    :param pool: Airflow's pool of the task
    :param env_vars: the names of the environment variables that the container is given
    :param vars: the names of dbt's variables; "*" where all of them come as one text
    :param settings: of an isolated node, the other arguments of the operator that differ from the project's
    :param hidden_settings: likewise the names of those whose values may be secret
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

    :param format: counts the changes of this format
    :param dag_id: of the DAG
    :param group_id: of the project's task group
    :param project: the name of the dbt project
    :param is_mapped: whether the project runs once for each of some values
    :param runs_in: what dbt runs in: "pod", or "invocation" where a server runs it; then what is told of pods is told of these
    :param pods: in the order in which they can begin
    :param around: the tasks that run before or after some of the nodes, functions under `@dbt_node` among them
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
        """How many nodes dbt is asked for."""
        return sum(len(pod.nodes) for pod in self.pods)

    @property
    def task_count(self) -> int:
        """How many tasks there are: of pods, and of the nodes that follow them."""
        return sum(1 + len(pod.tasks) for pod in self.pods)

    def to_dict(self) -> dict[str, Any]:
        """Return it as builtins: what `dbt-watch plan --format json` prints."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made
