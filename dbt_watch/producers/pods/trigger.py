"""
The trigger of a deferred producer: follows the log in the triggerer, and writes the journal from there.

`producers.operator` hands the task over to it. The trigger that the operator would have used itself runs inside: it watches
the start of the pod and the deadlines, and knows the way to the cluster. What is read of the log takes the same way as
on a worker: `BuildWatch`, `Publication`, `Position`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import CoreV1Api

from dbt_watch.airflow.compat import TELLS_TRIGGERS_OF_KILLS
from dbt_watch.airflow.pod_trigger import StockPodTrigger
from dbt_watch.airflow.secrets import redact
from dbt_watch.airflow.supervisor import read_state
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.airflow.trigger_events import last_event
from dbt_watch.core.backoff import Backoff
from dbt_watch.core.held_back import HeldBack
from dbt_watch.core.journal.format import Closed, JournalError
from dbt_watch.core.journal.reader import JournalReader
from dbt_watch.core.journal.writer import Publication
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.results import NodeInfo
from dbt_watch.core.task_states import DEFERRED
from dbt_watch.producers.async_log_reader import AsyncPodLogReader
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.failure_reasons import broken_off, words_of
from dbt_watch.producers.journal_publisher import AsyncJournalPublisher
from dbt_watch.producers.journal_store import JournalStore
from dbt_watch.producers.log_reader import HTTP_NOT_FOUND, HTTP_UNAUTHORIZED, Position, status_of
from dbt_watch.producers.secrets import hide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from dbt_watch.core.results import SelectedNode
    from dbt_watch.producers.log_reader import ContainerEnd

TRIGGER_CLASS: Final = "dbt_watch.producers.trigger.DbtPodTrigger"

# In seconds. A page is two requests of about 10 ms, which all triggers of a process share.
PAGE_INTERVAL: Final = 0.5
TICK: Final = 0.1

END: Final = "dbt_watch"
"""The key of an event under which the end of dbt is told; the rest of the event is the operator's own."""


class DbtPodTrigger(BaseTrigger):
    """
    Follows one attempt.

    :param inner: the trigger that the operator would have used, serialized
    :param nodes: the nodes of this attempt, and what stale sources and another project mean for them, as `pack` gives
        them
    :param attempt: the try number of the producer
    :param will_retry: whether another attempt follows if this one ends badly
    :param began: when this attempt began, in seconds since the epoch
    :param deadline: when the task's execution_timeout is over, in seconds since the epoch
    :param secrets: what must not be shown; Airflow encrypts the arguments of a trigger in its database
    """

    def __init__(
        self,
        *,
        inner: tuple[str, dict[str, Any]] | list[Any],
        nodes: str,
        attempt: int,
        will_retry: bool,
        began: float,
        deadline: float | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of LoggingMixin
        self.inner_path: str = inner[0]
        self.inner_arguments: dict[str, Any] = inner[1]
        self.nodes = nodes
        self.attempt = attempt
        self.will_retry = will_retry
        self.began = began
        self.deadline = deadline
        self.secrets = list(secrets)
        self._stock = StockPodTrigger(self.inner_path, self.inner_arguments)
        self._is_over = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer needs to make this trigger again."""
        arguments = {
            "inner": [self.inner_path, self.inner_arguments],
            "nodes": self.nodes,
            "attempt": self.attempt,
            "will_retry": self.will_retry,
            "began": self.began,
            "deadline": self.deadline,
            "secrets": self.secrets,
        }
        return (TRIGGER_CLASS, arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the build; yield one event, with which the operator goes on."""
        deferred_at = time.monotonic()
        hide(self.secrets)
        async for event in last_event(TriggerEvent(await self._event()), deferred_at=deferred_at):
            self._is_over = True
            yield event

    async def _event(self) -> dict[str, Any]:
        store = JournalStore(key_of(self.task_instance))
        written = await self._read_back(store)
        if written.state.closed is not None:
            # Another triggerer came to the end, but not to the event.
            return self._finished(written.state.closed, "")
        following = self._following(store, written)
        follower = asyncio.ensure_future(following.run())
        stock = asyncio.ensure_future(self._stock.event(self.task_instance, following.started))
        try:
            return await self._first_of(following, follower, stock)
        finally:
            for task in (follower, stock):
                task.cancel()
            await asyncio.gather(follower, stock, return_exceptions=True)
            await self._stock.close()

    def _following(self, store: JournalStore, written: JournalReader) -> Following:
        """Return the way of the log into a journal, of which something may be written already."""
        packed = unpack(self.nodes)
        watch = BuildWatch(
            packed.nodes,
            attempt=self.attempt,
            show=lambda line: self.log.info("%s", line),
            redact=redact,
            known=written.state.entries,
            stale=packed.stale,
            drift=packed.drift,
            held=packed.held,
            warn=lambda line: self.log.warning("%s", line),
        )
        publication = Publication(
            watch.writer,
            will_retry=self.will_retry,
            began=self.began,
            tail=written.tail,
            interval=PAGE_INTERVAL,
        )
        reader = AsyncPodLogReader(
            self.connect,
            *self._stock.pod,
            self._stock.container,
            position=Position(),
            on_lines=watch.take_lines,
        )
        return Following(watch, AsyncJournalPublisher(publication, store.push), reader, self._stock.container)

    async def _read_back(self, store: JournalStore) -> JournalReader:
        backoff = Backoff(1.0, 15.0)
        while True:
            try:
                return await store.read_back()
            except JournalError as error:  # noqa: PERF203 - it ends the loop
                # Asking again would not mend it, and the log tells everything once more.
                self.log.warning("The journal cannot be read (%s); it is begun anew", error)
                return JournalReader()
            except Exception as error:  # noqa: BLE001 - whatever fails on the way is tried again
                wait = backoff.next()
                self.log.warning("Reading the journal failed (%s); again in %.0f s", error, wait)
                await asyncio.sleep(wait)

    async def _first_of(
        self,
        following: Following,
        follower: asyncio.Future[None],
        stock: asyncio.Future[dict[str, Any] | None],
    ) -> dict[str, Any]:
        """Wait for the end of dbt, or for what keeps it from running."""
        waiting: set[asyncio.Future[Any]] = {follower, stock}
        while not follower.done():
            timeout = None if self.deadline is None else max(0.0, self.deadline - time.time())
            done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await _ended(follower)
                event = self._stock.make_event("timeout", "the task took longer than its execution_timeout")
                return await following.broken_off(event)
            if stock in done:
                waiting.discard(stock)
                told = stock.result()
                # What the operator's own trigger gives up on once dbt runs, such as an API that does not answer for a
                # while, the reader survives. And of a container that has ended it reads how.
                if told is not None and (
                    told["status"] == "timeout" or (told["status"] == "error" and not following.has_started)
                ):
                    await _ended(follower)
                    return await following.broken_off(told)
        follower.result()
        end = following.watch.closed
        assert end is not None  # noqa: S101 - a follower that is done has closed the journal
        return self._finished(end, following.watch.summary())

    def _finished(self, end: Closed, summary: str) -> dict[str, Any]:
        status = "success" if end.exit_code == 0 else "failed"
        message = end.reason or "" if end.exit_code is None else f"dbt ended with exit code {end.exit_code}"
        told = {"exit_code": end.exit_code, "reason": end.reason, "summary": summary}
        if unpack(self.nodes).held.caused(end):
            told["was_held_back"] = True
        return {**self._stock.make_event(status, message), END: told}

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        """Open an API client. Credentials that have been read are kept until they are refused."""
        try:
            async with self._stock.connect() as connection:
                yield connection
        except Exception as error:
            if status_of(error) == HTTP_UNAUTHORIZED:
                self._stock.forget_credentials()
            raise

    async def on_kill(self) -> None:
        """
        Stop dbt when a person has stopped the task (Airflow 3.3 and later).

        The triggerer cancels this once more with each of its rounds, of a second (3.3.2), and asking a cluster to delete a pod
        may take longer. So that goes on by itself.
        """
        stopping = asyncio.ensure_future(self._stop_if_called_off())
        _STOPPING.add(stopping)
        stopping.add_done_callback(_STOPPING.discard)
        await asyncio.shield(stopping)

    async def _stop_if_called_off(self) -> None:
        """
        Delete the pod, unless the task is still deferred.

        Then no person has stopped it. A triggerer that was not heard of for `triggerer_health_check_threshold` seconds loses
        its triggers to another one, which goes on with the same pod; and when it is back, Airflow 3.3 tells it of each trigger
        that it has lost as if a person had stopped the task (`TriggerRunnerSupervisor.update_triggers`, 3.3.2). A triggerer that
        ends tells all its triggers.
        """
        if self._is_over or not self._stock.deletes_when_killed:
            return
        try:
            state = await read_state(key_of(self.task_instance))
        except Exception as error:  # noqa: BLE001 - whoever has stopped the task has needed the same database
            self.log.warning("Asking Airflow for the state of this task failed: %s", error)
            return
        if state != DEFERRED:
            await self._delete_pod()

    async def _delete_pod(self) -> None:
        name, namespace = self._stock.pod
        self.log.info("The task was stopped: deleting pod %s", name)
        grace = self._stock.grace_period
        arguments: dict[str, Any] = {} if grace is None else {"grace_period_seconds": grace}
        try:
            async with self.connect() as connection:
                await CoreV1Api(connection).delete_namespaced_pod(name, namespace, **arguments)
        except Exception as error:
            if status_of(error) != HTTP_NOT_FOUND:
                self.log.exception("Deleting pod %s failed", name)
        finally:
            await self._stock.close()

    async def cleanup(self) -> None:
        """Do before Airflow 3.3 what `on_kill` does from then on."""
        if not TELLS_TRIGGERS_OF_KILLS:
            await self._stop_if_called_off()


# Held here, since an event loop itself does not hold its tasks.
_STOPPING: Final[set[asyncio.Future[None]]] = set()


class Following:
    """
    The log's way into the journal, for as long as it takes.

    :param watch: takes the lines
    :param publisher: writes what the watch tells
    :param reader: reads the log of the pod, and hands the lines to the watch
    :param container: the container in which dbt runs
    """

    def __init__(
        self, watch: BuildWatch, publisher: AsyncJournalPublisher, reader: AsyncPodLogReader, container: str
    ) -> None:
        self.watch = watch
        self._publisher = publisher
        self._reader = reader
        self._container = container

    @property
    def has_started(self) -> bool:
        """Whether the container is known to have started."""
        return self.started.is_set()

    @property
    def started(self) -> asyncio.Event:
        """Set as soon as that is known."""
        return self._reader.started

    async def run(self) -> None:
        """Follow the log, and close the journal with what dbt ended as."""
        ticking = asyncio.ensure_future(self._tick())
        try:
            end: ContainerEnd = await self._reader.follow()
        finally:
            await _ended(ticking)
        self.watch.end(end.exit_code, end.reason)
        if self.watch.was_held_back:
            self._publisher.give_up()
        await self._publisher.finish()

    async def broken_off(self, event: dict[str, Any]) -> dict[str, Any]:
        """Close the journal before dbt has ended, and return the event with which the operator goes on."""
        words = words_of(str(event.get("message") or "the operator's own trigger gave no reason"))
        events = () if self.has_started else await self._reader.events()
        reason = broken_off(words, self._reader.pod, self._container, events)
        self.watch.end(None, reason)
        await self._publisher.finish()
        told = {"exit_code": None, "reason": reason, "summary": self.watch.summary()}
        # With any other status the operator would wait for the end of the pod before it deletes it.
        return {**event, "status": "timeout", "message": reason, END: told}

    async def _tick(self) -> None:
        while True:
            await self._publisher.write()
            await asyncio.sleep(TICK)


async def _ended(task: asyncio.Future[None]) -> None:
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
