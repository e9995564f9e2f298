"""Which hosts have workers, and whether the worker that took an invocation still lives."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbt_watch.server.database import HOSTS
from dbt_watch.server.worker.processes import host_id, is_alive, start_time

if TYPE_CHECKING:
    from dbt_watch.server.database import Database
    from dbt_watch.server.invocations.records import Invocation

LEASE_S: Final = 45.0
"""Seconds without a heartbeat after which another host takes a worker for dead."""

FENCE_S: Final = 30.0
"""Seconds after which a worker that cannot say that it lives ends its dbt: before another one may start."""

PRESENT_S: Final = 15.0
"""Seconds since its last sign for which a host counts."""


@dataclass(frozen=True)
class WorkerIdentity:
    """A worker: its process, and where that is."""

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"{self.host}|{self.pid}|{self.started:.2f}"

    @classmethod
    def of_this_process(cls) -> WorkerIdentity:
        """Return that of the process that asks."""
        return cls(host_id(), os.getpid(), start_time(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> WorkerIdentity:
        """Return an identity from its text."""
        host, pid, started = text.rsplit("|", 2)
        return cls(host, int(pid), float(started))


def is_abandoned(invocation: Invocation, here: str, now: float) -> bool:
    """
    Return whether the worker that runs an invocation is dead.

    :param here: the host that asks; of its own workers it knows at once, of others when their lease has run out
    """
    if invocation.owner is None:
        return True
    owner = WorkerIdentity.parse(invocation.owner)
    if owner.host == here:
        return not is_alive(owner.pid, owner.started)
    return now - (invocation.heartbeat_at or 0.0) > LEASE_S


class WorkerHosts:
    """The hosts that have workers, in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, host: str, workers: int) -> None:
        """Record how many workers a host has."""
        values = {"workers": workers, "heartbeat_at": time.time()}
        with self._database.writing() as connection:
            self._database.lock(connection)
            if not connection.execute(HOSTS.update().where(HOSTS.c.host == host).values(values)).rowcount:
                connection.execute(HOSTS.insert().values(host=host, **values))
                connection.execute(HOSTS.delete().where(HOSTS.c.heartbeat_at < time.time() - 86_400))

    def workers(self) -> int:
        """Return how many workers there are, on all hosts."""
        present = HOSTS.select().where(HOSTS.c.heartbeat_at > time.time() - PRESENT_S)
        with self._database.reading() as connection:
            return sum(row.workers for row in connection.execute(present))
