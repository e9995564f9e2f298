"""
The watching process at work: many sensors, each from its order to its end.

A sensor stays queued, for Airflow, until dbt begins with its nodes; then it runs, since when dbt says, and when dbt is done
with them it ends, when dbt says. Airflow's durations and charts show dbt's own times so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakValueDictionary

import msgspec

from dbt_watch.airflow.execution_api import ExecutionApiError, Identity, TaskIsGone, hostname
from dbt_watch.airflow.task_instances import TaskKey
from dbt_watch.airflow.task_logs import TaskLog, are_kept_elsewhere
from dbt_watch.core.backoff import Backoff
from dbt_watch.core.task_states import FAILED, RUNNING
from dbt_watch.core.xcom_values import xcom_value
from dbt_watch.executor.ends import end_state, start_of, time_of
from dbt_watch.executor.messages import (
    UNIX_NAME,
    Begun,
    Ended,
    Failing,
    Gone,
    NeedsWorker,
    Report,
    Told,
    Watch,
)
from dbt_watch.executor.source import ApiSource
from dbt_watch.sensors.hub import Subscription, hub_for
from dbt_watch.sensors.trigger import needs_worker, parts, write_log
from dbt_watch.sensors.updates import sensor_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dbt_watch.airflow.execution_api import ExecutionApi
    from dbt_watch.executor.messages import Order
    from dbt_watch.sensors.updates import Update

T = TypeVar("T")

log = logging.getLogger(__name__)


class WatcherPace(msgspec.Struct, frozen=True):
    """
    How often Airflow is asked and told, in seconds.

    :param check: between two looks whether the sensors that run are still to run
    :param heartbeat: between two heartbeats of one that runs
    :param backoff_first: after a first failure
    :param backoff_limit: after many failures in a row
    """

    check: float = 2.0
    heartbeat: float = 50.0
    backoff_first: float = 0.5
    backoff_limit: float = 15.0


_JITTER: Final = 0.25


class Watcher:
    """
    Sees sensors to their ends.

    :param reading: the API, for hubs
    :param telling: the API, for what becomes of sensors: a connection of its own, so that neither waits for the other
    :param report: takes what the scheduler's part has to know
    :param pace: how often
    """

    def __init__(
        self,
        reading: ExecutionApi,
        telling: ExecutionApi,
        report: Callable[[Report], None],
        pace: WatcherPace,
    ) -> None:
        self._reading = reading
        self._telling = telling
        self._report = report
        self._pace = pace
        self._sensors: dict[str, tuple[WatchedSensor, asyncio.Task[None]]] = {}
        # Each is there for as long as a hub reads by it, or a sensor waits there.
        self._sources: WeakValueDictionary[TaskKey, ApiSource] = WeakValueDictionary()

    def take(self, order: Order) -> None:
        """Do as an order says."""
        if isinstance(order, Told):
            if order.id in self._sensors:
                self._sensors[order.id][0].told.set()
            return
        if order.id in self._sensors:
            return
        key = TaskKey(order.dag_id, order.run_id, order.producer_task_id, order.map_index)
        source = self._sources.setdefault(key, ApiSource(self._reading, key, order.id))
        source.speaker = order.id
        sensor = WatchedSensor(order, source, self._telling, self._report, self._pace)
        task = asyncio.create_task(sensor.run(key))
        self._sensors[order.id] = (sensor, task)
        task.add_done_callback(lambda _: self._sensors.pop(order.id))

    async def keep_alive(self) -> None:
        """Send heartbeats for running tasks, and stop those that are not to run any more; never returns."""
        while True:
            await asyncio.sleep(self._pace.check)
            running: dict[ApiSource, list[tuple[WatchedSensor, asyncio.Task[None]]]] = {}
            for sensor, task in self._sensors.values():
                if sensor.has_begun:
                    running.setdefault(sensor.source, []).append((sensor, task))
            for source, pairs in running.items():
                await self._check(source, pairs)

    async def _check(self, source: ApiSource, pairs: list[tuple[WatchedSensor, asyncio.Task[None]]]) -> None:
        try:
            states = await source.states(tuple(sensor.watch.task_id for sensor, _ in pairs))
            now = asyncio.get_running_loop().time()
            for sensor, task in pairs:
                is_well = states[sensor.watch.task_id] == RUNNING and now < sensor.heartbeat_due
                if not is_well and not task.done() and await sensor.is_stopped():
                    task.cancel()
        except Exception as error:  # noqa: BLE001 - whatever fails on the way is tried again
            log.warning("Airflow did not return which tasks are still running: %s", error)


class WatchedSensor:
    """
    One sensor, from its order to its end.

    :param watch: the order
    :param source: where its hub reads
    :param api: where its own requests go
    :param report: see `Watcher`
    :param pace: see `Watcher`
    """

    def __init__(
        self,
        watch: Watch,
        source: ApiSource,
        api: ExecutionApi,
        report: Callable[[Report], None],
        pace: WatcherPace,
    ) -> None:
        self.watch = watch
        self.source = source
        self.told = asyncio.Event()
        self.has_begun = watch.has_begun
        self.heartbeat_due = 0.0
        self._began: datetime | None = None
        self._is_ending = False
        self._identity = Identity(watch.hostname or hostname(), watch.pid, UNIX_NAME)
        self._api = api
        self._report = report
        self._pace = pace
        self._log = TaskLog(watch.log_path) if watch.log_path else None
        self._printed: set[str] = set()

    async def run(self, producer: TaskKey) -> None:
        """See it to its end, which is reported."""
        name = self.watch.task_id
        try:
            update = await self._decided(producer)
            if needs_worker(update, self.watch.worker_for):
                self._report(NeedsWorker(self.watch.id))
                return
            await self._end(update)
        except TaskIsGone as gone:
            log.debug("%s must not continue: %s", name, gone)
            self._report(Gone(self.watch.id, self.has_begun))
        except asyncio.CancelledError:
            log.debug("%s must not continue", name)
            self._report(Gone(self.watch.id, self.has_begun))
            raise
        except Exception:
            # A worker decides about it on its own.
            log.exception("%s cannot be watched", name)
            self._report(NeedsWorker(self.watch.id))

    async def is_stopped(self) -> bool:
        """
        Send a heartbeat; return whether Airflow no longer wants the task to run.

        :raises ExecutionApiError: when there was no usable answer
        """
        if self._is_ending:
            return False  # its last request learns of it
        try:
            await self._api.heartbeat(self.watch.id, self._identity)
        except TaskIsGone:
            return not self._is_ending
        self.heartbeat_due = asyncio.get_running_loop().time() + self._pace.heartbeat
        return False

    async def _decided(self, producer: TaskKey) -> Update:
        watch = self.watch
        sensor = sensor_of(watch, watch.unique_ids, turn=watch.turn)
        with Subscription(hub_for(producer, self.source), sensor) as updates:
            while True:
                update = await anext(updates)
                for part in parts(update):
                    self._write(part)
                    await asyncio.sleep(0)
                if update.is_over:
                    return update
                started = start_of(update.results)
                # What a worker is to end, a worker has to begin.
                if started is not None and self._began is None and not watch.worker_for:
                    await self._begin(started)

    async def _begin(self, when: datetime) -> None:
        if when == self._began:
            return
        await self._patiently(lambda: self._api.begin(self.watch.id, self._identity, when))
        self._began = when
        if not self.has_begun:
            self.has_begun = True
            self.heartbeat_due = asyncio.get_running_loop().time() + self._pace.heartbeat
            self._report(Begun(self.watch.id))

    async def _end(self, update: Update) -> None:
        watch, state = self.watch, end_state(update)
        start, end = time_of(update.results, datetime.now(timezone.utc))
        await self._begin(start)
        await self._leave(xcom_value(update.results))
        if watch.tells_failures and state == FAILED:
            self._report(Failing(watch.id, update.decision.reason))
            await self.told.wait()
        built = watch.assets.events(update.results) if watch.assets is not None else []
        self._is_ending = True
        await self._patiently(lambda: self._api.end(watch.id, state, end, built))
        await self._upload_log()
        self._report(Ended(watch.id))

    async def _leave(self, value: Any) -> None:
        """Leave the results in XCom; that the sensor ends as its nodes did is worth more."""
        watch = self.watch
        key = TaskKey(watch.dag_id, watch.run_id, watch.task_id, watch.map_index)
        try:
            await self._patiently(lambda: self._api.set_xcom(key, "return_value", value, token_of=watch.id))
        except TaskIsGone:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a backend for XComs raises
            self._say(f"The results cannot be written to XCom: {error}")

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """
        Return the answer to a request, made again while there is none.

        :raises TaskIsGone: when the task is not to go on
        :raises RequestRefused: when it is refused for what it is
        """
        backoff = Backoff(self._pace.backoff_first, self._pace.backoff_limit, jitter=_JITTER)
        while True:
            try:
                return await ask()
            except ExecutionApiError as error:
                pause = backoff.next()
                log.warning("%s: %s; retrying in %.1f s", self.watch.task_id, error, pause)
            await asyncio.sleep(pause)

    def _write(self, update: Update) -> None:
        if self._log is None or not (update.results or update.decision.reason):
            return
        try:
            if not self._printed:
                self._printed = self._log.texts()
            self._log.write(lambda logger: write_log(logger, update, self._printed))
        except OSError as error:
            log.warning("The log of %s cannot be written: %s", self.watch.task_id, error)

    def _say(self, text: str) -> None:
        log.warning("%s: %s", self.watch.task_id, text)
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.write(lambda logger: logger.warning("%s", text))

    async def _upload_log(self) -> None:
        """Bring the log to where this deployment keeps logs. It is readable here as well, so the task has ended."""
        if self._log is None:
            return
        try:
            if are_kept_elsewhere():
                await asyncio.to_thread(self._log.upload, self.watch.task_instance)
        except Exception:
            log.exception("The log of %s cannot be uploaded", self.watch.task_id)
