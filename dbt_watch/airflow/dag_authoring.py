"""What is done to the tasks of a DAG, while its file is parsed, for which Airflow has no public way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias
from airflow.sdk.definitions._internal.contextmanager import TaskGroupContext
from airflow.sdk.definitions._internal.mixins import DependencyMixin
from airflow.triggers.base import StartTriggerArgs

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import BaseOperator, TaskGroup

__all__ = [
    "DependencyMixin",
    "connect",
    "current_task_group",
    "declare_aliases",
    "disconnect",
    "start_from_trigger",
    "take_no_pool_slot",
    "withdraw",
]


def current_task_group() -> TaskGroup:
    """Return the task group that is being filled; the DAG's own where there is none."""
    group = TaskGroupContext.get_current()
    if group is None:
        raise RuntimeError(
            "there is no DAG around this project: call its function within `with DAG(...)`, or in a function under @dag"
        )
    return group


def connect(upstream: BaseOperator, downstream: BaseOperator) -> None:
    """
    Let one task of a DAG come after another.

    `set_upstream` looks at every task of the DAG for each edge: 4.9 s for 10,000 edges, which take milliseconds this way.
    """
    downstream.upstream_task_ids.add(upstream.task_id)
    upstream.downstream_task_ids.add(downstream.task_id)


def disconnect(upstream: BaseOperator, downstream: BaseOperator) -> None:
    """Undo `connect`, for which Airflow has no call."""
    downstream.upstream_task_ids.discard(upstream.task_id)
    upstream.downstream_task_ids.discard(downstream.task_id)


def withdraw(task: BaseOperator) -> None:
    """Take a task out of its DAG and its group again, so that another one can have its id."""
    if task.dag is not None:
        task.dag.task_dict.pop(task.task_id, None)
    if task.task_group is not None:
        task.task_group.children.pop(task.task_id, None)
        task.task_group.used_group_ids.discard(task.task_id)


def take_no_pool_slot(task: BaseOperator) -> None:
    """
    Let a task run, and be deferred, without a slot of its pool.

    Airflow's constructor takes no less than 1, but its scheduler adds the slots up and starts a task while any is open.
    """
    task.pool_slots = 0


def declare_aliases(task: BaseOperator, aliases: Iterable[str]) -> None:
    """
    Let a task have aliases among its outlets, which it may have already.

    Where that happens while the DAG is parsed, Airflow knows the aliases before any event: two tasks that tell the first one at the
    same time would both make them.

    :param task: the task
    :param aliases: their names
    """
    known = {outlet.name for outlet in task.outlets if isinstance(outlet, AssetAlias)}
    missing = [AssetAlias(name) for name in aliases if name not in known]
    if missing:
        task.outlets = [*task.outlets, *missing]


def start_from_trigger(
    task: BaseOperator, trigger_class: str, arguments: Mapping[str, Any], method: str
) -> None:
    """
    Let a task start in the triggerer, without a worker; before Airflow 3.3 this changes nothing.

    :param task: the task
    :param trigger_class: the path of the trigger's class
    :param arguments: those of the trigger
    :param method: the method with which the task goes on on a worker, should it come to that
    """
    if STARTS_FROM_TRIGGER:
        task.start_from_trigger = True
        task.start_trigger_args = StartTriggerArgs(
            trigger_cls=trigger_class, trigger_kwargs=dict(arguments), next_method=method
        )
