"""
The readers of a process: one for each project of a run that somebody looks at, however many do.

What a reader knows has a version, which grows with each change, so that a viewer is told only what is newer than what it has. An
answer is made once for all who ask for the same. Nobody reads when nobody looks: it is the viewers' own requests that have a reader
look, at most once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.page.history import History, HistoryReader
from dbt_watch.page.live import live_of
from dbt_watch.page.run_source import RunSource
from dbt_watch.reporting.assembly import node_record

if TYPE_CHECKING:
    from dbt_watch.airflow.api_server import RunDatabase
    from dbt_watch.page.changes import Changes
    from dbt_watch.page.live import Live
    from dbt_watch.page.projects import ProjectKey

# In seconds.
PACE: Final = 1.0
PACE_WHEN_OVER: Final = 5.0
"""How often a reader looks whether a run goes on that was over, since somebody has cleared a task."""
FORGOTTEN_AFTER: Final = 300.0
"""How long a reader is kept that nobody asks."""
HISTORY_EVERY: Final = 60.0
ESTIMATE_EVERY: Final = 10.0
MAX_READERS: Final = 32
"""How many readers a process keeps; one of 3,000 nodes takes about 10 MB."""

_VERSIONS_PER_MS: Final = 1_000


class SharedReader:
    """
    What is known of one project in one run, for all who look at it.

    Its versions begin with the time, so that those of one reader are never taken for another's: of one that was dropped, or of
    another process of the api-server.
    """

    def __init__(self, database: RunDatabase, key: ProjectKey, histories: HistoryReader) -> None:
        self.source = RunSource(database, key)
        self.live: Live | None = None
        self.history = History()
        self.used_at = time.monotonic()
        self.version = time.time_ns() // 1_000_000 * _VERSIONS_PER_MS
        self._floor = self.version
        self._nodes_at: dict[str, int] = {}
        self._tasks_at: dict[str, int] = {}
        self._histories = histories
        self._history_at = 0.0
        self._lock = asyncio.Lock()
        self._fresh_until = 0.0
        self._record: bytes | None = None
        self._changes: dict[int, bytes] = {}

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.live is not None and self.live.is_over

    async def refresh(self) -> None:
        """Read what is new, if the last look was a while ago."""
        self.used_at = time.monotonic()
        if time.monotonic() < self._fresh_until:
            return
        async with self._lock:
            if time.monotonic() < self._fresh_until:
                return
            await asyncio.to_thread(self._look)
            self._fresh_until = time.monotonic() + (PACE_WHEN_OVER if self.is_over else PACE)

    async def record(self) -> bytes:
        """Return the record of the run with its version and how it stands, as JSON."""
        async with self._lock:
            if self._record is None:
                self._record = await asyncio.to_thread(self._encoded_record)
            return self._record

    def changes(self, since: int) -> bytes:
        """
        Return what has changed since a version, as JSON.

        :param since: the version; of one that is not this reader's, the viewer has to begin anew
        """
        if not self._floor <= since <= self.version:
            return _encode({"version": self.version, "reset": True})
        if since not in self._changes:
            self._changes[since] = self._encoded_changes(since)
        return self._changes[since]

    # In a thread.

    def _look(self) -> None:
        changes = self.source.look()
        self._read_history()
        if changes or self.live is None or self._is_outdated(self.live):
            self._take(changes)

    @staticmethod
    def _is_outdated(live: Live) -> bool:
        """Return whether it is time to say anew when the run may be over, though nothing has changed."""
        age = datetime.now(timezone.utc) - live.now
        return bool(live.running) and age.total_seconds() > ESTIMATE_EVERY

    def _take(self, changes: Changes) -> None:
        self.live = live_of(self.source, self.history, datetime.now(timezone.utc))
        self.version += 1
        self._record, self._changes = None, {}
        if changes.is_reset:
            self._floor = self.version
            self._nodes_at.clear()
            self._tasks_at.clear()
        self._nodes_at.update(dict.fromkeys(changes.nodes, self.version))
        if changes.tasks:
            changed = (node for node, task in self.live.tasks.items() if task.task_id in changes.tasks)
            self._tasks_at.update(dict.fromkeys(changed, self.version))

    def _read_history(self) -> None:
        """Read the earlier runs: at first, and now and then, since one of these may be under way too."""
        now = time.monotonic()
        if self.source.run is not None and (not self._history_at or now - self._history_at > HISTORY_EVERY):
            self.history = self._histories.before(self.source.key)
            self._history_at = now

    def _encoded_record(self) -> bytes:
        return _encode({"version": self.version, "record": self.source.record(), "live": self.live})

    def _encoded_changes(self, since: int) -> bytes:
        nodes = [
            node_record(self.source.result(node), self.source.facts)
            for node, version in self._nodes_at.items()
            if version > since
        ]
        live = self.live
        if live is not None:
            tasks = {node: task for node, task in live.tasks.items() if self._tasks_at.get(node, 0) > since}
            live = msgspec.structs.replace(live, tasks=tasks)
        return _encode({"version": self.version, "nodes": nodes, "live": live})


_encode: Final = msgspec.json.Encoder().encode


class ReaderRegistry:
    """
    The readers of this process.

    :param database: what Airflow knows
    """

    def __init__(self, database: RunDatabase) -> None:
        self.database = database
        self.histories = HistoryReader(database)
        self._readers: OrderedDict[ProjectKey, SharedReader] = OrderedDict()

    async def of(self, key: ProjectKey) -> SharedReader:
        """Return the reader of a project, with what is known of it now."""
        self._forget()
        reader = self._readers.get(key)
        if reader is None:
            reader = self._readers[key] = SharedReader(self.database, key, self.histories)
        self._readers.move_to_end(key)
        await reader.refresh()
        return reader

    def __len__(self) -> int:
        return len(self._readers)

    def _forget(self) -> None:
        long_ago = time.monotonic() - FORGOTTEN_AFTER
        for key in [key for key, reader in self._readers.items() if reader.used_at < long_ago]:
            del self._readers[key]
        while len(self._readers) >= MAX_READERS:
            self._readers.popitem(last=False)


async def in_thread(function: Any, *arguments: Any) -> Any:
    """Call what asks the database, away from the event loop."""
    return await asyncio.to_thread(function, *arguments)
