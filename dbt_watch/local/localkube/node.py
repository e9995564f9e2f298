"""
The one machine of the cluster: its clock, and whether it takes new pods.

Shared by the parts of a server (`containers`, `kubelet`, `api.logs`); altered only by `faults`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time

from dbt_watch.local.localkube.store import timestamp


class NodeClock:
    """
    The node's own idea of the time, by which logs are stamped and `sinceSeconds` is counted.

    :ivar offset: seconds by which it is ahead of the API server's
    """

    def __init__(self) -> None:
        self.offset = 0.0

    def nanoseconds(self) -> int:
        """Return the time in nanoseconds since 1970."""
        return time.time_ns() + int(self.offset * 1_000_000_000)

    def timestamp(self) -> str:
        """Return the time as objects carry it."""
        return timestamp(dt.datetime.fromtimestamp(time.time() + self.offset, dt.timezone.utc))


class KubeNode:
    """
    The machine on which all pods run.

    :ivar refusal: why no pod fits on it; None when pods do
    :ivar changed: set, and replaced, when that changes
    """

    def __init__(self) -> None:
        self.clock = NodeClock()
        self.refusal: str | None = None
        self.changed = asyncio.Event()

    def refuse(self, why: str | None) -> None:
        """Take no new pods for a reason, or take them again."""
        self.refusal = why
        self.changed.set()
        self.changed = asyncio.Event()
