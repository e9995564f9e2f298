"""What is done to the tasks of a DAG, while its file is parsed, for which Airflow has no public way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions._internal.contextmanager import TaskGroupContext
from airflow.sdk.definitions._internal.mixins import DependencyMixin
from airflow.triggers.base import StartTriggerArgs

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import BaseOperator, TaskGroup

__all__ = [
    "DependencyMixin",
    "LeanForm",
    "connect",
    "current_task_group",
    "leave_out_retry_delay",
    "start_from_trigger",
    "take_no_pool_slot",
]


def current_task_group() -> TaskGroup:
    """Return the task group that is being filled; the DAG's own where there is none."""
    group = TaskGroupContext.get_current()
    if group is None:
        raise RuntimeError("there is no DAG around this")
    return group


def connect(upstream: BaseOperator, downstream: BaseOperator) -> None:
    """
    Let one task of a DAG come after another.

    `set_upstream` looks at every task of the DAG for each edge: 4.9 s for 10,000 edges, which take milliseconds this way.
    """
    downstream.upstream_task_ids.add(upstream.task_id)
    upstream.downstream_task_ids.add(downstream.task_id)


class LeanForm:
    """Goes in front of BaseOperator, and leaves out of the serialized DAG what Airflow takes for granted there."""

    @property
    def has_retry_policy(self) -> bool | None:
        """Whether the task has a retry policy; None where it has none, which takes 27 bytes less than False (Airflow 3.3)."""
        return True if getattr(self, "retry_policy", None) else None


def leave_out_retry_delay(task: BaseOperator) -> None:
    """
    Leave the delay between retries out of the serialized DAG where it is Airflow's default: 22 bytes.

    Airflow means to do so, but compares the delay of a task with a number of seconds.
    """
    task.retry_delay = _Seconds(seconds=task.retry_delay.total_seconds())


class _Seconds(timedelta):
    """A time that equals the number of its seconds as well."""

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) if isinstance(other, timedelta) else self.total_seconds() == other

    __hash__ = timedelta.__hash__


def take_no_pool_slot(task: BaseOperator) -> None:
    """
    Let a task run, and be deferred, without a slot of its pool.

    Airflow's constructor takes no less than 1, but its scheduler adds the slots up and starts a task while any is open.
    """
    task.pool_slots = 0


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
