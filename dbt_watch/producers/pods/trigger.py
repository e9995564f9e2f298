"""
The trigger of a deferred producer whose dbt runs in a pod: follows the pod's log in the triggerer.

`producers.pods.operator` hands the task over to it. The trigger that the operator would have used itself runs inside: it watches
the start of the pod and the deadlines, and knows the way to the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from kubernetes_asyncio.client import CoreV1Api

from dbt_watch.airflow.pod_trigger import StockPodTrigger
from dbt_watch.producers.dbt_trigger import END, DbtTrigger, Following, ended
from dbt_watch.producers.pods.api_errors import HTTP_NOT_FOUND, HTTP_UNAUTHORIZED, status_of
from dbt_watch.producers.pods.async_log_reader import AsyncPodLogReader
from dbt_watch.producers.pods.failure_reasons import broken_off, words_of
from dbt_watch.producers.pods.files_again import FILE_TAIL
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.pod_phase import PARSING, PodPhase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dbt_watch.core.journal.reader import JournalReader
    from dbt_watch.producers.build_watch import BuildWatch
    from dbt_watch.producers.journal_publisher import AsyncJournalPublisher
    from dbt_watch.producers.journal_store import JournalStore
    from dbt_watch.producers.notes import AsyncNoteWriter

TRIGGER_CLASS: Final = "dbt_watch.producers.pods.trigger.DbtPodTrigger"


class DbtPodTrigger(DbtTrigger):
    """
    Follows one attempt in a pod.

    :param inner: the trigger that the operator would have used, serialized
    :param more: see `DbtTrigger`
    """

    def __init__(self, *, inner: tuple[str, dict[str, Any]] | list[Any], **more: Any) -> None:
        super().__init__(**more)
        self.inner_path: str = inner[0]
        self.inner_arguments: dict[str, Any] = inner[1]
        self._stock = StockPodTrigger(self.inner_path, self.inner_arguments)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer needs to make this trigger again."""
        return (TRIGGER_CLASS, {"inner": [self.inner_path, self.inner_arguments], **self.arguments()})

    async def _follow(self, store: JournalStore, written: JournalReader) -> dict[str, Any]:
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

    def _following(self, store: JournalStore, written: JournalReader) -> FollowingPod:
        """Return the way of the log into a journal, of which something may be written already."""
        watch = self._watch(written)
        reader = AsyncPodLogReader(
            self.connect,
            *self._stock.pod,
            self._stock.container,
            position=Position(),
            on_lines=watch.take_lines,
        )
        publisher = self._publisher(watch, store, written)
        return FollowingPod(watch, publisher, self._notes(store), reader, self._stock.container)

    async def _first_of(
        self,
        following: FollowingPod,
        follower: asyncio.Future[None],
        stock: asyncio.Future[dict[str, Any] | None],
    ) -> dict[str, Any]:
        """Wait for the end of dbt, or for what keeps it from running."""
        waiting: set[asyncio.Future[Any]] = {follower, stock}
        while not follower.done():
            done, _ = await asyncio.wait(
                waiting, timeout=self._time_left(), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                await ended(follower)
                event = self._make_event("timeout", "the task took longer than its execution_timeout")
                return await following.broken_off(event)
            if stock in done:
                waiting.discard(stock)
                told = stock.result()
                # What the operator's own trigger gives up on once dbt runs, such as an API that does not answer for a
                # while, the reader survives. And of a container that has ended it reads how.
                if told is not None and (
                    told["status"] == "timeout" or (told["status"] == "error" and not following.has_started)
                ):
                    await ended(follower)
                    return await following.broken_off(told)
        follower.result()
        end = following.watch.closed
        assert end is not None  # noqa: S101 - a follower that is done has closed the journal
        event = self._finished(end, following.watch.summary(), following.watch.failure_lines())
        event[END][FILE_TAIL] = following.watch.files.tail
        return event

    def _make_event(self, status: str, message: str) -> dict[str, Any]:
        return self._stock.make_event(status, message)

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

    @property
    def _stops_when_killed(self) -> bool:
        return self._stock.deletes_when_killed

    async def _stop_dbt(self) -> None:
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


class FollowingPod(Following):
    """
    The way of a pod's log into the journal.

    :param watch: takes the lines
    :param publisher: writes what the watch tells
    :param notes: tells of the attempt beside the journal
    :param reader: reads the log of the pod, and hands the lines to the watch
    :param container: the container in which dbt runs
    """

    def __init__(
        self,
        watch: BuildWatch,
        publisher: AsyncJournalPublisher,
        notes: AsyncNoteWriter,
        reader: AsyncPodLogReader,
        container: str,
    ) -> None:
        super().__init__(watch, publisher, notes, reader.follow)
        self._reader = reader
        self._container = container
        self._phase = PodPhase(container)

    async def _tell_phase(self) -> None:
        pod = self._reader.pod
        if self.has_started:
            await self._notes.phase(*PARSING)
        elif pod is not None:
            if self._phase.wants_events(pod):
                self._phase.events = await self._reader.events()
            await self._notes.phase("pod", self._phase.text(pod))

    @property
    def has_started(self) -> bool:
        """Whether the container is known to have started."""
        return self.started.is_set()

    @property
    def started(self) -> asyncio.Event:
        """Set as soon as that is known."""
        return self._reader.started

    async def broken_off(self, event: dict[str, Any]) -> dict[str, Any]:
        """Close the journal before dbt has ended, and return the event with which the operator goes on."""
        words = words_of(str(event.get("message") or "the operator's own trigger gave no reason"))
        events = () if self.has_started else await self._reader.events()
        reason = broken_off(words, self._reader.pod, self._container, events)
        told = await self.break_off(reason)
        # With any other status the operator would wait for the end of the pod before it deletes it.
        return {**event, "status": "timeout", "message": reason, END: told}
