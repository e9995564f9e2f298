"""
What any trigger does that follows dbt in the triggerer for a deferred task: the journal, the deadline, and being stopped.

`producers.pods.trigger` and `producers.api.trigger` say how the log is read. What is read of it takes the same way as on a worker:
`BuildWatch`, `Publication`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from airflow.triggers.base import BaseTrigger, TriggerEvent

from dbt_watch.airflow.compat import TELLS_TRIGGERS_OF_KILLS
from dbt_watch.airflow.secrets import redact
from dbt_watch.airflow.supervisor import read_state
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.airflow.trigger_events import last_event
from dbt_watch.core.backoff import Backoff
from dbt_watch.core.held_back import HeldBack
from dbt_watch.core.journal.format import JournalError
from dbt_watch.core.journal.reader import JournalReader
from dbt_watch.core.journal.writer import Publication
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.log.enclosed_files import RESULTS, EnclosedFiles
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.log.task_log import failure_lines
from dbt_watch.core.results import NodeInfo
from dbt_watch.core.task_states import DEFERRED
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.journal_publisher import AsyncJournalPublisher
from dbt_watch.producers.journal_store import JournalStore
from dbt_watch.producers.lineage import BuildLineage
from dbt_watch.producers.notes import AsyncNoteWriter
from dbt_watch.producers.secrets import hide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import SelectedNode

# In seconds. A page is two requests of about 10 ms, which all triggers of a process share.
PAGE_INTERVAL: Final = 0.5
TICK: Final = 0.1

END: Final = "dbt_watch"
"""The key of an event under which the end of dbt is told; the rest of the event is the operator's own."""


class DbtTrigger(BaseTrigger):
    """
    Follows one attempt.

    :param nodes: the nodes of this attempt, and what stale sources and another project mean for them, as `pack` gives
        them
    :param attempt: the try number of the producer
    :param will_retry: whether another attempt follows if this one ends badly
    :param began: when this attempt began, in seconds since the epoch
    :param deadline: when the task's execution_timeout is over, in seconds since the epoch
    :param secrets: what must not be shown; Airflow encrypts the arguments of a trigger in its database
    :param lineage: what its OpenLineage events are made of, as the worker has packed it; empty where there are none
    :param group: the id of the project's task group
    """

    def __init__(
        self,
        *,
        nodes: str,
        attempt: int,
        will_retry: bool,
        began: float,
        deadline: float | None = None,
        secrets: Sequence[str] = (),
        lineage: str = "",
        group: str = "",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of LoggingMixin
        self.nodes = nodes
        self.attempt = attempt
        self.will_retry = will_retry
        self.began = began
        self.deadline = deadline
        self.secrets = list(secrets)
        self.lineage = lineage
        self._lineage: BuildLineage | None = None
        self.group = group
        self._is_over = False

    def arguments(self) -> dict[str, Any]:
        """Return what another triggerer needs to make this trigger again."""
        return {
            "nodes": self.nodes,
            "attempt": self.attempt,
            "will_retry": self.will_retry,
            "began": self.began,
            "deadline": self.deadline,
            "secrets": self.secrets,
            "lineage": self.lineage,
            "group": self.group,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the build; yield one event, with which the operator goes on."""
        deferred_at = time.monotonic()
        hide(self.secrets)
        async for event in last_event(TriggerEvent(await self._event()), deferred_at=deferred_at):
            self._is_over = True
            yield event

    # What a subclass says.

    async def _follow(self, store: JournalStore, written: JournalReader) -> dict[str, Any]:
        """
        Follow the log into a journal, to the end of dbt; return the event with which the operator goes on.

        :param written: what is in the journal already
        """
        raise NotImplementedError

    def _make_event(self, status: str, message: str) -> dict[str, Any]:
        """Return what the operator itself goes on with."""
        return {"status": status, "message": message}

    async def _stop_dbt(self) -> None:
        """Stop dbt, since a person has stopped the task."""
        raise NotImplementedError

    @property
    def _stops_when_killed(self) -> bool:
        return True

    # The journal.

    async def _event(self) -> dict[str, Any]:
        store = JournalStore(key_of(self.task_instance))
        written = await self._read_back(store)
        if written.state.closed is not None:
            # Another triggerer came to the end, but not to the event.
            return self._finished(
                written.state.closed, "", failure_lines(written.state.entries, written.state.closed)
            )
        try:
            return await self._follow(store, written)
        finally:
            if self._lineage is not None:
                self._lineage.close()

    async def _read_back(self, store: JournalStore) -> JournalReader:
        backoff = Backoff(1.0, 15.0)
        while True:
            try:
                return await store.read_back()
            except JournalError as error:  # noqa: PERF203 - it ends the loop
                # Asking again would not mend it, and the log tells everything once more.
                self.log.warning("The journal cannot be read (%s); starting a new one", error)
                return JournalReader()
            except Exception as error:  # noqa: BLE001 - whatever fails on the way is tried again
                wait = backoff.next()
                self.log.warning("Reading the journal failed (%s); retrying in %.0f s", error, wait)
                await asyncio.sleep(wait)

    def _watch(self, written: JournalReader) -> BuildWatch:
        """Return what takes the lines of the log, some of which may have been told already."""
        packed = unpack(self.nodes)
        self._lineage = BuildLineage.packed(self.lineage)
        return BuildWatch(
            packed.nodes,
            attempt=self.attempt,
            show=lambda line: self.log.info("%s", line),
            redact=redact,
            known=written.state.entries,
            stale=packed.stale,
            drift=packed.drift,
            held=packed.held,
            warn=lambda line: self.log.warning("%s", line),
            listener=self._lineage,
            # The rest is read again on a worker, which writes it: it may be megabytes, and a triggerer follows many builds.
            files=EnclosedFiles(only=RESULTS),
        )

    def _publisher(
        self, watch: BuildWatch, store: JournalStore, written: JournalReader
    ) -> AsyncJournalPublisher:
        """Return what goes on with the journal."""
        publication = Publication(
            watch.writer,
            will_retry=self.will_retry,
            began=self.began,
            tail=written.tail,
            interval=PAGE_INTERVAL,
        )
        return AsyncJournalPublisher(publication, store.push)

    def _notes(self, store: JournalStore) -> AsyncNoteWriter:
        """Return what tells of the attempt beside the journal."""
        return AsyncNoteWriter(store.push, self.attempt, self.group)

    def _time_left(self) -> float | None:
        """Return how many seconds of the task's execution_timeout are left; None where it has none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())

    def _finished(self, end: Closed, summary: str, failure: Sequence[str]) -> dict[str, Any]:
        """
        Return the event of an attempt that has come to its end.

        :param summary: see `BuildWatch`, and so for the lines of the failure
        """
        status = "success" if end.exit_code == 0 else "failed"
        message = end.reason or "" if end.exit_code is None else f"dbt ended with exit code {end.exit_code}"
        told = {
            "exit_code": end.exit_code,
            "reason": end.reason,
            "summary": summary,
            "failure": list(failure),
        }
        if unpack(self.nodes).held.caused(end):
            told["was_held_back"] = True
        return {**self._make_event(status, message), END: told}

    # Being stopped.

    async def on_kill(self) -> None:
        """
        Stop dbt when a person has stopped the task (Airflow 3.3 and later).

        The triggerer cancels this once more with each of its rounds, of a second (3.3.2), and asking a cluster or a server may
        take longer. So that goes on by itself.
        """
        stopping = asyncio.ensure_future(self._stop_if_called_off())
        _STOPPING.add(stopping)
        stopping.add_done_callback(_STOPPING.discard)
        await asyncio.shield(stopping)

    async def _stop_if_called_off(self) -> None:
        """
        Stop dbt, unless the task is still deferred.

        Then no person has stopped it. A triggerer that was not heard of for `triggerer_health_check_threshold` seconds loses
        its triggers to another one, which goes on with the same build; and when it is back, Airflow 3.3 tells it of each trigger
        that it has lost as if a person had stopped the task (`TriggerRunnerSupervisor.update_triggers`, 3.3.2). A triggerer that
        ends tells all its triggers.
        """
        if self._is_over or not self._stops_when_killed:
            return
        try:
            state = await read_state(key_of(self.task_instance))
        except Exception as error:  # noqa: BLE001 - whoever has stopped the task has needed the same database
            self.log.warning("Asking Airflow for the state of this task failed: %s", error)
            return
        if state != DEFERRED:
            await self._stop_dbt()

    async def cleanup(self) -> None:
        """Do before Airflow 3.3 what `on_kill` does from then on."""
        if not TELLS_TRIGGERS_OF_KILLS:
            await self._stop_if_called_off()


# Held here, since an event loop itself does not hold its tasks.
_STOPPING: Final[set[asyncio.Future[None]]] = set()


class HasEnded(Protocol):
    """How dbt has ended, as far as all ways of running it tell."""

    @property
    def exit_code(self) -> int | None:
        """Of dbt; None when it was never told."""

    @property
    def reason(self) -> str | None:
        """Why, where that is known from outside."""


class Following:
    """
    The log's way into the journal, for as long as it takes.

    :param watch: takes the lines
    :param publisher: writes what the watch tells
    :param notes: tells of the attempt beside the journal
    :param follow: reads the log to the end of dbt, and hands the lines to the watch
    """

    def __init__(
        self,
        watch: BuildWatch,
        publisher: AsyncJournalPublisher,
        notes: AsyncNoteWriter,
        follow: Callable[[], Awaitable[HasEnded]],
    ) -> None:
        self.watch = watch
        self._publisher = publisher
        self._notes = notes
        self._follow = follow

    async def run(self) -> None:
        """Follow the log, and close the journal with what dbt ended as."""
        ticking = asyncio.ensure_future(self._tick())
        try:
            end = await self._follow()
        finally:
            await ended(ticking)
        self._take_end(end)
        if self.watch.was_held_back:
            self._publisher.give_up()
        await self._finish()

    async def _finish(self) -> None:
        await self._publisher.finish()
        closed = self.watch.closed
        await self._notes.summary(self.watch.results, closed.exit_code if closed is not None else None)

    def _take_end(self, end: HasEnded) -> None:
        self.watch.end(end.exit_code, end.reason)

    async def break_off(self, reason: str) -> dict[str, Any]:
        """Close the journal before dbt has ended; return what the event tells of that."""
        self.watch.end(None, reason)
        await self._finish()
        return {
            "exit_code": None,
            "reason": reason,
            "summary": self.watch.summary(),
            "failure": self.watch.failure_lines(),
        }

    async def _tick(self) -> None:
        while True:
            await self._publisher.write()
            self.watch.tell_progress()
            await self._tell_phase()
            await asyncio.sleep(TICK)

    async def _tell_phase(self) -> None:
        """Tell what happens before dbt comes to its first node."""


async def ended(task: asyncio.Future[None]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    nodes: dict[str, NodeInfo]
    stale: StaleSources
    drift: Drift = Drift()
    held: HeldBack = HeldBack()


def pack(
    nodes: Mapping[str, SelectedNode],
    stale: StaleSources,
    drift: Drift | None = None,
    held: HeldBack | None = None,
) -> str:
    """
    Return what a trigger has to know as a short text: its arguments lie in Airflow's database (20 bytes for each node).

    :param nodes: the nodes of an attempt
    :param stale: what stale sources mean for them
    :param drift: what it means when dbt runs another project than the manifest's
    :param held: what is not built because of what came before
    """
    infos = {
        unique_id: NodeInfo(
            node.name, node.resource_type, node.materialized or "", node.depends_on, node.is_empty
        )
        for unique_id, node in nodes.items()
    }
    # Of what is held back, the journal has the entries already.
    packed = _Packed(infos, stale, drift or Drift(), HeldBack(reason=held.reason if held else ""))
    return base64.b64encode(zlib.compress(msgspec.json.encode(packed))).decode()


def unpack(text: str) -> _Packed:
    """Read what `pack` gave."""
    return msgspec.json.decode(zlib.decompress(base64.b64decode(text)), type=_Packed)
