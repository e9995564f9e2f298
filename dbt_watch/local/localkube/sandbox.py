"""
What the containers of a pod share beyond their files: with `shareProcessNamespace`, a PID namespace.

`kubelet` makes one for each pod, `containers` asks it before a container starts.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbt_watch.local.localkube.isolation import Isolation, Process
    from dbt_watch.local.localkube.store import Item


class Sandbox:
    """
    The surroundings of all containers of one pod.

    Without namespaces no container sees another, so there is nothing to share.

    :param pod: as it was created
    :param isolation: what starts processes
    """

    def __init__(self, pod: Item, isolation: Isolation) -> None:
        self._isolation = isolation
        self._is_shared = bool(pod["spec"].get("shareProcessNamespace")) and isolation.namespaces
        self._starting = asyncio.Lock()
        self._pause: Process | None = None

    async def pause(self) -> Process | None:
        """
        Return the first process of the PID namespace that the containers share; None where each has its own.

        :raises CannotStartError: it could not be started
        """
        if not self._is_shared:
            return None
        async with self._starting:
            if self._pause is None:
                self._pause = await self._isolation.pause()
        return self._pause

    async def close(self) -> None:
        """End that process, and with it whatever is left in its namespace."""
        if self._pause is not None:
            self._pause.signal(signal.SIGKILL)
            await self._pause.wait()
