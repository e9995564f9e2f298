"""
The workers of one host: Huey's consumer with worker processes, one dbt at a time in each.

`command` runs it as a process of its own. A worker that dies is replaced; when this process dies, its workers die, and their dbts.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final

from huey.consumer import Consumer, Scheduler

from dbt_watch.server.database import Database
from dbt_watch.server.invocations.store import InvocationStore
from dbt_watch.server.projects import served_projects
from dbt_watch.server.queue import TicketQueue
from dbt_watch.server.worker.processes import end_with_parent
from dbt_watch.server.worker.runner import Runner
from dbt_watch.server.worker.sweep import Sweep
from dbt_watch.server.worker.warm import WarmProjects

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.server.settings import Settings

_LOGGER: Final = logging.getLogger(__name__)
_SWEEP_EVERY_S: Final = 2.0
# In seconds: how often the embedded queue is looked at, which takes microseconds. Redis wakes a worker by itself.
_LOOK: Final = 0.05


class HostScheduler(Scheduler):  # type: ignore[misc] # Huey has no types
    """Huey's scheduler, which has nothing to do here and ends with the consumer."""

    def initialize(self) -> None:
        """Prepare the process, in which it runs alone."""
        end_with_parent(_CONSUMER[0])


class HostConsumer(Consumer):  # type: ignore[misc] # Huey has no types
    """
    The consumer, which also sweeps, and keeps dbt imported.

    :param sweep: what is done every two seconds
    """

    scheduler_class = HostScheduler

    def __init__(self, *args: Any, sweep: Callable[[], None], warm: WarmProjects, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sweep = sweep
        self._warm = warm
        self._swept_at = 0.0

    def loop(self, health_check_ts: float | None = None) -> float:
        """Do what is done many times a second."""
        self._warm.look()
        if time.monotonic() - self._swept_at >= _SWEEP_EVERY_S:
            try:
                self._sweep()
            except Exception:
                # The database or the queue may be away for a while.
                _LOGGER.exception("sweeping failed")
            self._swept_at = time.monotonic()
        return float(super().loop(health_check_ts))


# The process of the consumer, which its children look for.
_CONSUMER: Final = [0]


def run_workers(settings: Settings) -> None:
    """
    Run the workers of this host until SIGTERM.

    A running dbt is then left `stop_grace_s` seconds to end.
    """
    runners: list[Runner] = []

    def work() -> None:
        runners[0].work()

    queue = TicketQueue(settings, work=work)
    database = Database(settings.database_url, pooled=False)
    database.make_tables()
    store = InvocationStore(database)
    warm = WarmProjects(served_projects(settings).values())
    consumer = HostConsumer(
        queue.huey,
        sweep=Sweep(settings, store, database, queue),
        warm=warm,
        workers=settings.workers,
        worker_type="process",
        periodic=False,
        initial_delay=_LOOK,
        max_delay=_LOOK,
        health_check_interval=1,
        scheduler_interval=60,
        graceful_signal="TERM",
    )

    def prepare_worker() -> None:
        end_with_parent(_CONSUMER[0])
        # Connections cannot be shared with the process that this one was forked from.
        own = InvocationStore(Database(settings.database_url))
        runners[:] = [Runner(settings, own, consumer.stop_flag.is_set, warm.by_name)]

    queue.huey.on_startup()(prepare_worker)
    _CONSUMER[0] = os.getpid()
    consumer.run()
