"""
What an executor does in a scheduler beside running tasks: give one to another executor, have callbacks called, take one over.

A scheduler may use Airflow's database; an executor is called there. Nothing else of this library does.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from airflow.callbacks.callback_requests import TaskCallbackRequest
from airflow.executors.executor_loader import ExecutorLoader
from airflow.executors.workloads import ExecuteTask
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import timezone
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import update

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ExecuteTask",
    "default_executor",
    "failure_request",
    "forks_workers",
    "keep_alive",
    "to_default_executor",
]

_SCHEDULER_MODULE: Final = "airflow.jobs.scheduler_job_runner"
_LOCAL_EXECUTOR: Final = "airflow.executors.local_executor.LocalExecutor"

# Of one statement.
_BATCH: Final = 500


def default_executor() -> str:
    """Return the path of the class of the executor that runs every task for which none is named."""
    return str(ExecutorLoader.get_default_executor_name().module_path)


def forks_workers() -> bool:
    """
    Return whether this process is a scheduler of which the tasks are forks.

    The workers of a LocalExecutor are forked once the scheduler has made all of its executors, and fork once more for each task.
    """
    return (
        _SCHEDULER_MODULE in sys.modules
        and any(name.module_path == _LOCAL_EXECUTOR for name in ExecutorLoader.get_executor_names())
        and multiprocessing.get_start_method() == "fork"
    )


def to_default_executor(tasks: Iterable[str]) -> None:
    """
    Let the scheduler queue tasks anew, for its default executor; those that are not queued any more stay as they are.

    It is what the scheduler itself does with a task that is stuck in its queue.

    :param tasks: ids of task instances
    :raises Exception: when the database does not respond
    """
    ids = [UUID(task) for task in tasks]
    with create_session() as session:
        for start in range(0, len(ids), _BATCH):
            session.execute(
                update(TaskInstance)
                .where(
                    TaskInstance.id.in_(ids[start : start + _BATCH]),
                    TaskInstance.state == TaskInstanceState.QUEUED,
                )
                .values(
                    executor=None,
                    state=TaskInstanceState.SCHEDULED,
                    queued_dttm=None,
                    queued_by_job_id=None,
                    scheduled_dttm=timezone.utcnow(),
                )
                .execution_options(synchronize_session=False)
            )


def failure_request(workload: ExecuteTask, message: str) -> TaskCallbackRequest:
    """
    Return what has the dag-processor call the `on_failure_callback` of a task, as for one that a trigger ends.

    :param workload: the task
    :param message: why it has failed
    """
    return TaskCallbackRequest(
        filepath=str(workload.dag_rel_path),
        bundle_name=workload.bundle_info.name,
        bundle_version=workload.bundle_info.version,
        ti=workload.ti,
        msg=message,
        task_callback_type=TaskInstanceState.FAILED,
    )


def keep_alive(task_instance: Any) -> None:
    """
    Count a task that is taken over as one that was just heard of.

    Nobody has spoken for it while there was no scheduler, and the next thing a scheduler does is to fail such tasks.

    :param task_instance: as the database has it, in the session of the scheduler
    """
    task_instance.last_heartbeat_at = timezone.utcnow()
