"""
Airflow's side of the executor: `[core] executor = LocalExecutor,dbt_watch.NodeExecutor`.

The scheduler calls it in its loop; the api-server also creates one, to look for logs. It runs nothing itself: it
tells the watching process which sensors there are, and does what that process cannot do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import msgspec
from airflow.executors.base_executor import BaseExecutor, get_execution_api_server_url

from dbt_watch.airflow.scheduling import (
    ExecuteTask,
    default_executor,
    failure_request,
    forks_workers,
    keep_alive,
    to_default_executor,
)
from dbt_watch.core.task_states import QUEUED, RUNNING
from dbt_watch.exceptions import ArgumentError
from dbt_watch.executor.ahead import import_for_tasks
from dbt_watch.executor.child import Child
from dbt_watch.executor.messages import (
    UNIX_NAME,
    Begun,
    Ended,
    Failing,
    Gone,
    NeedsWorker,
    Told,
    Watch,
)
from dbt_watch.sensors.operator import NODE_EXECUTOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.executor.messages import Report

# How many tasks it takes. A sensor that waits costs next to nothing.
UNLIMITED: Final = 1_000_000


class NodeExecutor(BaseExecutor):
    """
    Runs the sensors of dbt nodes, without workers or triggers.

    It takes no slot of `[core] parallelism`, which is meant for processes. It has no `revoke_task`, so the scheduler
    leaves a sensor queued for as long as it waits, even beyond `[scheduler] task_queued_timeout`.
    """

    serve_logs = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "parallelism": UNLIMITED})
        self._tasks: dict[str, tuple[Watch, ExecuteTask]] = {}
        self._told: set[str] = set()
        self._for_workers: set[str] = set()
        self._child: Child | None = None
        # Here, since the workers are forked before this executor is started.
        if forks_workers():
            import_for_tasks()

    @property
    def slots_available(self) -> int:
        """How many more tasks it takes."""
        return UNLIMITED

    @property
    def slots_occupied(self) -> int:
        """How many of the tasks that a scheduler may run at once are here: none that count."""
        return 0

    def start(self) -> None:
        """
        Start watching; called by the scheduler.

        :raises ArgumentError: when it is the default executor of this deployment
        """
        if default_executor() == NODE_EXECUTOR:
            raise ArgumentError(
                "[core] executor",
                NODE_EXECUTOR,
                f"another executor before it, such as LocalExecutor,{NODE_EXECUTOR}: it runs only the tasks of dbt nodes",
            )
        self._child = Child(get_execution_api_server_url())
        self._child.revive()

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        for workload in workload_items:
            del self.queued_tasks[workload.key]
            if _arguments(workload) is None:
                self.log.error(
                    "%s is not the task of a dbt node, and %s runs no other tasks",
                    workload.key,
                    NODE_EXECUTOR,
                )
                self.fail(workload.key, info=f"{NODE_EXECUTOR} runs only the tasks of dbt nodes")
            else:
                self._take(workload)

    def _take(self, workload: ExecuteTask, **known: Any) -> None:
        watch = _order(workload, **{"pid": os.getpid(), **known})
        self._tasks[watch.id] = (watch, workload)
        self.running.add(workload.key)
        if self._child is not None:
            self._child.send(watch)

    def sync(self) -> None:
        """Handle what the process reports; called in each of the scheduler's loops."""
        if self._child is None:
            return
        try:
            for report in self._child.receive():
                self._heed(report)
            self._send_to_workers()
            if self._child.revive():
                for watch, _ in self._tasks.values():
                    self._child.send(watch)
        except Exception:
            # A scheduler must not end for it.
            self.log.exception("The process that watches dbt nodes cannot be reached")

    def _heed(self, report: Report) -> None:
        if isinstance(report, Begun):
            self._remember_begin(report.id)
        elif isinstance(report, Failing):
            self._tell_of_failure(report)
        elif isinstance(report, Gone):
            key = self._drop(report.id)
            if key is not None and report.had_begun:
                # One that was cleared while it ran is made anew by the scheduler once its executor has let it go.
                self.fail(key)
        elif isinstance(report, NeedsWorker):
            self._for_workers.add(report.id)
        elif isinstance(report, Ended):
            self._drop(report.id)

    def _remember_begin(self, task: str) -> None:
        if task in self._tasks:
            watch, workload = self._tasks[task]
            self._tasks[task] = (msgspec.structs.replace(watch, has_begun=True), workload)

    def _tell_of_failure(self, report: Failing) -> None:
        """Request the callback, and then let the task fail: better called twice than never."""
        if report.id in self._tasks and report.id not in self._told:
            self.send_callback(failure_request(self._tasks[report.id][1], report.reason))
            self._told.add(report.id)
        if self._child is not None:
            self._child.send(Told(report.id))

    def _send_to_workers(self) -> None:
        if self._for_workers:
            to_default_executor(self._for_workers)
            for task in self._for_workers:
                self._drop(task)
            self._for_workers.clear()

    def _drop(self, task: str) -> Any:
        """Forget a task; return its key."""
        self._told.discard(task)
        _, workload = self._tasks.pop(task, (None, None))
        if workload is None:
            return None
        self.running.discard(workload.key)
        return workload.key

    def try_adopt_task_instances(self, tis: Sequence[Any]) -> Sequence[Any]:
        """
        Take over the sensors of a scheduler that has ended.

        :param tis: task instances that are queued or running
        :returns: those that cannot be taken over, and start again
        """
        return [ti for ti in tis if not self._adopt(ti)]

    def _adopt(self, ti: Any) -> bool:
        is_ours = ti.state == RUNNING and ti.unixname == UNIX_NAME
        if not is_ours and ti.state != QUEUED:
            return False
        workload = ExecuteTask.make(ti, generator=self.jwt_generator)
        if _arguments(workload) is None:
            return False
        if is_ours:
            keep_alive(ti)
            # Airflow takes its heartbeats from the same one only.
            self._take(workload, has_begun=True, hostname=ti.hostname, pid=ti.pid)
        else:
            self._take(workload)
        return True

    def end(self) -> None:
        """End the process; another scheduler, or the next one, takes over what it watched."""
        if self._child is not None:
            self._child.stop()

    def terminate(self) -> None:
        """End the process."""
        self.end()


def _arguments(workload: ExecuteTask) -> dict[str, Any] | None:
    return (workload.ti.executor_config or {}).get(NODE_EXECUTOR)


def _order(workload: ExecuteTask, **known: Any) -> Watch:
    ti = workload.ti
    own = {
        "id": str(ti.id),
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "task_id": ti.task_id,
        "map_index": -1 if ti.map_index is None else ti.map_index,
        "try_number": ti.try_number,
        "log_path": workload.log_path,
        "task_instance": ti.model_dump(mode="json", exclude={"executor_config"}),
    }
    return msgspec.convert({**(_arguments(workload) or {}), **own, **known}, Watch)
