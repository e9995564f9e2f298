"""
Settles what dead workers left, wakes workers for work that has no ticket, and removes what is old.

`worker.consumer` calls it every two seconds on each host. Whatever was killed, and in which step, is put right here; each
step is a transaction of the store, so it does not matter how many hosts do it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from typing import TYPE_CHECKING, Final

from dbt_watch.server.callbacks import call_back
from dbt_watch.server.files import files_of
from dbt_watch.server.invocations.records import InvocationEnd, InvocationState
from dbt_watch.server.worker.hosts import WorkerHosts, WorkerIdentity, is_abandoned
from dbt_watch.server.worker.processes import end_session, host_id

if TYPE_CHECKING:
    from dbt_watch.server.database import Database
    from dbt_watch.server.invocations.records import Invocation
    from dbt_watch.server.invocations.store import InvocationStore
    from dbt_watch.server.queue import TicketQueue
    from dbt_watch.server.settings import Settings

_LOGGER: Final = logging.getLogger(__name__)

# What kills a worker before dbt is even started would kill the next one too.
_CLAIMS: Final = 3
_REMOVE_EVERY_S: Final = 60.0


class Sweep:
    """What is done every two seconds beside the workers of a host."""

    def __init__(
        self, settings: Settings, store: InvocationStore, database: Database, queue: TicketQueue
    ) -> None:
        self._settings = settings
        self._store = store
        self._hosts = WorkerHosts(database)
        self._queue = queue
        self._host = host_id()
        self._removed_at = -_REMOVE_EVERY_S

    def __call__(self) -> None:
        """Do all of it once."""
        self._hosts.beat(self._host, self._settings.workers)
        now = time.time()
        for invocation in self._store.started():
            if is_abandoned(invocation, self._host, now):
                self._settle(invocation)
        waiting = self._store.claimable()
        if waiting and not self._queue.size():
            self._queue.put(min(waiting, self._settings.workers))
        if time.monotonic() - self._removed_at >= _REMOVE_EVERY_S:
            self._removed_at = time.monotonic()
            self._remove(now - self._settings.keep_days * 86_400)

    def _settle(self, invocation: Invocation) -> None:
        owner = invocation.owner or ""
        if owner and WorkerIdentity.parse(owner).host == self._host and invocation.pid is not None:
            end_session(invocation.pid, invocation.pid_started or 0.0)
        if not invocation.begun and invocation.claims < _CLAIMS:
            if self._store.requeue(invocation.task_id, owner):
                _LOGGER.warning(
                    "the worker of %s died before dbt started; the invocation is queued again",
                    invocation.task_id,
                )
            return
        lost = InvocationEnd(
            state=InvocationState.INTERNAL_ERROR,
            exc_type="WorkerLost",
            exc_message="the worker that ran dbt was killed; the log shows what dbt had done until then",
        )
        if self._store.finish(invocation.task_id, owner, lost):
            _LOGGER.warning("the worker of %s died while dbt ran", invocation.task_id)
            if invocation.callback_url is not None:
                call = (invocation.callback_url, invocation.task_id, lost.state.value)
                threading.Thread(target=call_back, args=call, daemon=True).start()

    def _remove(self, moment: float) -> None:
        task_ids = self._store.ended_before(moment)
        for task_id in task_ids:
            shutil.rmtree(files_of(self._settings.state_dir, task_id).directory, ignore_errors=True)
        if task_ids:
            self._store.remove(task_ids)
