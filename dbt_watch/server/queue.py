"""
The queue between the API and the workers: Huey, in a file of SQLite or on Redis.

What is queued are tickets, which say that there is work and not which: `InvocationStore.claim` decides that, so that projects get
their turns and a ticket may be lost. `worker.consumer` reads tickets, `app` writes them, and `worker.sweep` writes new ones for work
that has none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from huey import Huey, RedisHuey, SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.server.settings import Settings

_NAME: Final = "dbt_watch"


class TicketSerializer(Serializer):  # type: ignore[misc] # Huey has no types
    """Writes tickets as JSON: with Huey's pickles, whoever can write to the queue could run anything in a worker."""

    def _serialize(self, data: Any) -> bytes:
        return json.dumps(list(data)).encode()

    def _deserialize(self, data: bytes) -> Any:
        return Message(*json.loads(bytes(data)))


class TicketQueue:
    """
    The queue of tickets.

    :param work: what a worker does with a ticket; the API has no worker
    """

    def __init__(self, settings: Settings, work: Callable[[], None] | None = None) -> None:
        self.huey: Huey = _huey(settings)

        # Huey knows a task by its function's module, which has to be the same in the API and in a worker.
        def ticket() -> None:
            (work or _no_work)()

        self._ticket = self.huey.task(name="ticket")(ticket)

    def put(self, tickets: int = 1) -> None:
        """Announce that there is work."""
        for _ in range(tickets):
            self._ticket()

    def size(self) -> int:
        """Return how many tickets nobody has taken."""
        return int(self.huey.storage.queue_size())


def _huey(settings: Settings) -> Huey:
    common: dict[str, Any] = {"results": False, "serializer": TicketSerializer()}
    if settings.queue:
        return RedisHuey(_NAME, url=settings.queue, **common)
    return SqliteHuey(_NAME, filename=str(settings.queue_file), timeout=30, fsync=False, **common)


def _no_work() -> None:
    raise RuntimeError("the API runs nothing")
