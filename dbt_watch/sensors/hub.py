"""
The one reader of a journal in a triggerer process, for any number of sensors.

`NodeTrigger.run` subscribes and waits; the hub polls the journal and the producer's state, lets `core.outcome` decide
and hands each subscriber what its nodes' entries say. Requests per second depend on the number of projects that run,
never on the number of sensors.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from dbt_watch.airflow.supervisor import read_states, read_xcom
from dbt_watch.core.backoff import Backoff
from dbt_watch.core.journal.format import JournalError, decode_page
from dbt_watch.core.journal.pace import USUAL_INTERVAL, ReadingPace, interval_after
from dbt_watch.core.journal.reader import JournalReader
from dbt_watch.core.outcome import Decision, Producer, Run, Verdict
from dbt_watch.core.statuses import STARTED
from dbt_watch.core.task_states import ABOUT_TO_RUN, JOURNAL_IS_CURRENT, RUNNING
from dbt_watch.sensors import run_states
from dbt_watch.sensors.rebuild_order import RebuildOrder
from dbt_watch.sensors.updates import Update, update_of
from dbt_watch.sensors.waits import Waits, words_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from typing_extensions import Self

    from dbt_watch.airflow.task_instances import TaskKey
    from dbt_watch.core.results import NodeResult
    from dbt_watch.sensors.updates import Sensor

log = logging.getLogger(__name__)


class Pace(msgspec.Struct, frozen=True):
    """
    How often a hub looks, in seconds.

    :param page: between two looks at the next page while dbt runs, as `ReadingPace` takes it
    :param state: between two looks at the producer's state
    :param idle: the same while the producer is not even scheduled
    :param about_to_run: the same while the producer is about to run, or runs and the journal is closed, at first; then doubled
        with each look, up to `state`
    :param gather: before the first look, since the sensors of a project mostly come together
    :param verify: the least time between two looks on behalf of new subscribers
    :param first_page: after a first look for a first page that finds none, since a worker needs a moment to start; then
        doubled with each look, up to `first_page_limit`
    :param turn: between two looks whether the next sensor may build its nodes
    :param waits: before a sensor says for the first time what it waits for while dbt runs; then twice as long each time
    :param linger: how long a hub outlives its last subscriber
    :param backoff_first: after a first failure
    :param backoff_limit: after many failures in a row
    """

    page: float = USUAL_INTERVAL
    state: float = 2.0
    idle: float = 4.0
    about_to_run: float = 0.25
    gather: float = 0.05
    verify: float = 0.6
    first_page: float = 0.2
    first_page_limit: float = 6.0
    turn: float = 2.0
    waits: float = 30.0
    linger: float = 15.0
    backoff_first: float = 0.5
    backoff_limit: float = 15.0


class Source(Protocol):
    """What a hub asks of Airflow. Any error means: not now."""

    async def state(self) -> str | None:
        """Return the producer's state."""

    async def page(self, key: str) -> Any:
        """Return a value of the journal as it was written, by its key; None when there is no such XCom."""

    async def states(self, task_ids: tuple[str, ...]) -> Mapping[str, str | None]:
        """Return the states of tasks of the same run."""


class Subscription:
    """
    A sensor's place at a hub. Iterate it for updates; the last one has a verdict other than WAIT.

    :param hub: the hub
    :param sensor: who takes it
    """

    def __init__(self, hub: Hub, sensor: Sensor) -> None:
        self.sensor = sensor
        self.verified = False
        self.open = set(sensor.unique_ids)
        """The nodes of which no final entry is known."""
        self.has_waited = False
        """Whether the sensor has seen the producer at work, or about to be."""
        self._hub = hub
        self._updates: asyncio.Queue[Update] = asyncio.Queue()
        self._last: Decision | None = None
        self._told: dict[str, NodeResult] = {}

    def offer(self, update: Update) -> None:
        """Pass an update on, if it says anything new; all its results with the last one, else those that are new."""
        news = tuple(result for result in update.results if self._told.get(result.unique_id) is not result)
        if news or update.decision != self._last:
            self._told.update((result.unique_id, result) for result in news)
            self._last = update.decision
            self._updates.put_nowait(update if update.is_over else Update(news, update.decision))

    @property
    def is_over(self) -> bool:
        """Whether a final decision has been passed on."""
        return self._last is not None and self._last.verdict is not Verdict.WAIT

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Update:
        return await self._updates.get()

    def __enter__(self) -> Self:
        self._hub.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.remove(self)


DEFAULT_PACE: Final = Pace()
_JITTER: Final = 0.25
_RUNS: Final = frozenset({Run.RETRIABLE, Run.LAST_ATTEMPT})
_WAITS: Final = Decision(Verdict.WAIT)
_AWAITS_TURN: Final = Decision(
    Verdict.WAIT, "cleared without the task that runs dbt: waiting for its turn to be built on its own"
)


class Hub:
    """
    Reads the journal of one producer.

    :param name: the producer's task id, for the log
    :param source: where to ask
    :param pace: how often

    A hub never trusts what it remembers for a new subscriber: the run may have been cleared since. It looks at the
    producer's state and at the next page once more before it decides about a newcomer.
    """

    def __init__(self, name: str, source: Source, pace: Pace = DEFAULT_PACE) -> None:
        self.name = name
        self._source = source
        self._pace = pace
        self._subscriptions: set[Subscription] = set()
        self._by_node: dict[str, set[Subscription]] = {}
        self._wake = asyncio.Event()
        self._by_task: dict[str, Subscription] = {}
        self._rebuilds: RebuildOrder[Subscription] = RebuildOrder()
        self._waits: Waits[Subscription] = Waits(pace.waits)
        self._start = Backoff(pace.about_to_run, pace.state)
        self._state_due = self._turn_due = 0.0
        self._state: str | None = None
        self._told: Producer | None = None
        self._changed: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        """Drop what was read of the journal."""
        self._reader = JournalReader()
        self._journal = self._reader.state
        self._is_damaged = False
        self._producer = Producer(self._state)
        self._began = 0.0
        self._page_due = 0.0
        self._page_pace = ReadingPace(self._pace.page)
        self._misses = Backoff(self._pace.first_page, self._pace.first_page_limit)
        self._waits.restart()

    def add(self, subscription: Subscription) -> None:
        """Take a sensor on."""
        self._subscriptions.add(subscription)
        for unique_id in subscription.sensor.unique_ids:
            self._by_node.setdefault(unique_id, set()).add(subscription)
        self._by_task[subscription.sensor.task_id] = subscription
        self._waits.add(subscription)
        self._wake.set()

    def remove(self, subscription: Subscription) -> None:
        """Let a sensor go."""
        self._subscriptions.discard(subscription)
        self._rebuilds.remove(subscription)
        self._waits.remove(subscription)
        if self._by_task.get(subscription.sensor.task_id) is subscription:
            del self._by_task[subscription.sensor.task_id]
        for unique_id in subscription.sensor.unique_ids:
            self._by_node[unique_id].discard(subscription)

    async def run(self) -> None:
        """Read until nobody has been listening for a while."""
        await asyncio.sleep(self._pace.gather)
        clock = asyncio.get_running_loop().time
        last_heard, verified_at = clock(), -self._pace.verify
        backoff = Backoff(self._pace.backoff_first, self._pace.backoff_limit, jitter=_JITTER)
        while self._subscriptions or clock() - last_heard < self._pace.linger:
            if self._subscriptions:
                last_heard = clock()
            newcomers = [item for item in self._subscriptions if not item.verified]
            verify = bool(newcomers) and clock() - verified_at >= self._pace.verify
            if verify:
                verified_at = clock()
            try:
                await self._look(clock(), verify=verify)
                backoff.reset()
                pause = self._pause(clock())
                if verify:
                    self._welcome(newcomers)
            except Exception as error:  # noqa: BLE001 - whatever fails on the way is tried again
                pause = backoff.next()
                log.warning(
                    "Reading the journal of %s failed (%s); retrying in %.1f s", self.name, error, pause
                )
            await self._sleep(pause)

    def _pause(self, now: float) -> float:
        """Return the seconds until something may be due."""
        due = min(self._state_due, self._page_due) if self._is_open else self._state_due
        return max(interval_after(0, self._pace.page), min(self._pace.page, due - now))

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        if not self._subscriptions:
            waiter = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait({waiter}, timeout=self._pace.linger)
            waiter.cancel()
        else:
            await asyncio.sleep(seconds)

    async def _look(self, now: float, *, verify: bool) -> None:
        """Read what is due, and tell the subscribers whom it concerns."""
        if not self._subscriptions:
            return
        if verify or now >= self._state_due:
            before = self._state
            await self._read_state(now)
            # Whole attempts may have passed between two looks.
            may_be_another = verify or self._state != before or self._producer.closed is not None
            if may_be_another and self._state in JOURNAL_IS_CURRENT:
                await self._check_attempt()
        if self._is_open and now >= self._page_due:
            await self._read_pages(now)
        if self._producer != self._told:
            self._tell(self._subscriptions)
        elif self._changed:
            self._tell_changes()
        self._told = self._producer
        self._changed.clear()
        if self._producer.run in _RUNS and self._producer.closed is None:
            self._tell_waits(now)
        if self._rebuilds and now >= self._turn_due:
            self._turn_due = now + self._pace.turn
            await self._let_next_build()

    async def _read_state(self, now: float) -> None:
        before, self._state = self._state, await self._source.state()
        if self._state != before:
            self._start.reset()
            self._misses.reset()
        self._state_due = now + self._pause_after(self._state)
        if self._state not in JOURNAL_IS_CURRENT:
            self._forget()
            return
        if before != RUNNING or self._state != RUNNING:
            self._page_due = now  # it has just begun, or what is there now is all there will be
        self._producer = msgspec.structs.replace(self._producer, state=self._state)

    def _pause_after(self, state: str | None) -> float:
        """Return the seconds until the next look at the producer's state."""
        # One that has just begun may not have dropped the journal of the attempt before yet.
        if state in ABOUT_TO_RUN or (state == RUNNING and self._producer.closed is not None):
            return self._start.next()
        return self._pace.idle if state is None else self._pace.state

    async def _check_attempt(self) -> None:
        """Notice that the journal has been begun anew."""
        if not (self._journal.attempt or self._is_damaged):
            return
        value = await self._source.page(self._reader.key)
        if value is None:
            self._forget()
            return
        with self._heeding_damage():
            if decode_page(value).chunk.attempt != self._journal.attempt:
                self._forget()

    @property
    def _is_open(self) -> bool:
        """Whether more of the journal may come."""
        is_over = self._producer.closed is not None or self._is_damaged
        return self._state in JOURNAL_IS_CURRENT and not is_over

    async def _read_pages(self, now: float) -> None:
        """Read on to the last page that is written."""
        more = self._producer.closed is None
        while more:
            value = await self._source.page(self._reader.key)
            if value is None:
                # Not begun yet, or wiped because a new attempt has begun.
                misses = self._misses
                self._forget()
                self._misses = misses
                self._page_due = now + misses.next()
                return
            more = self._take(value)
        self._page_due = now + self._page_pace.after(self._journal.next_seq)
        if self._state == RUNNING and self._producer.closed is not None:
            self._state_due = min(self._state_due, now + self._start.next())

    def _take(self, value: Any) -> bool:
        """Take what lies under the reader's key; return whether there is more to read now."""
        more = False
        with self._heeding_damage():
            more = self._reader.take(value)
        self._changed.update(result.unique_id for result in self._reader.news)
        page = self._reader.page
        if page is not None:
            self._producer = Producer(self._state, page.chunk.closed, page.will_retry)
            self._began = page.began
        return more

    @contextlib.contextmanager
    def _heeding_damage(self) -> Iterator[None]:
        try:
            yield
        except JournalError as error:
            # Asking again would not mend it. The sensors go by the producer's state, so that none waits for ever.
            if not self._is_damaged:
                log.error("The journal of %s cannot be read: %s", self.name, error)  # noqa: TRY400 - says it all
            self._is_damaged = True

    def _welcome(self, newcomers: Iterable[Subscription]) -> None:
        for subscription in newcomers:
            subscription.verified = True
        self._tell(newcomers)

    def _tell(self, subscriptions: Iterable[Subscription]) -> None:
        for item in set(subscriptions):
            if item.verified and not item.is_over:
                self._decide(item)

    def _tell_changes(self) -> None:
        """Tell the sensors of nodes whose entries have changed; what is left of many is not looked at each time."""
        changed: dict[Subscription, list[str]] = {}
        for unique_id in self._changed:
            for item in self._by_node.get(unique_id, ()):
                if item.verified and not item.is_over:
                    changed.setdefault(item, []).append(unique_id)
        entries = self._journal.entries
        for item, unique_ids in changed.items():
            item.open.difference_update(
                unique_id for unique_id in unique_ids if (entry := entries.get(unique_id)) and entry.is_final
            )
            if not item.open or item in self._rebuilds:
                self._decide(item)
                continue
            part = self._update(item, tuple(unique_ids))
            # Open nodes make a sensor wait, until something changes of the producer.
            reason = part.decision.reason if not part.is_over else ""
            item.offer(Update(part.results, Decision(Verdict.WAIT, reason)))

    def _decide(self, item: Subscription) -> None:
        """Look at all nodes of a sensor."""
        update = self._update(item, item.sensor.unique_ids)
        final = {result.unique_id for result in update.results if result.is_final}
        item.open = set(item.sensor.unique_ids) - final
        item.has_waited |= not self._producer.is_over
        if update.decision.verdict is Verdict.BUILD:
            self._rebuilds.add(item, item.sensor)
            item.offer(Update((), _AWAITS_TURN))
        else:
            self._rebuilds.remove(item)
            item.offer(update)

    def _tell_waits(self, now: float) -> None:
        """Have some sensors say what they wait for, whose nodes dbt has not begun."""
        entries = self._journal.entries
        for item in self._waits.due(now):
            if not item.verified or item.is_over or item in self._rebuilds:
                continue
            update = self._update(item, item.sensor.unique_ids)
            if update.decision == _WAITS and not any(entry.status == STARTED for entry in update.results):
                words = words_for(item.sensor, entries, self._sensor_of)
                item.offer(Update((), Decision(Verdict.WAIT, words)))

    def _sensor_of(self, task_id: str) -> Sensor | None:
        item = self._by_task.get(task_id)
        return None if item is None else item.sensor

    def _update(self, item: Subscription, unique_ids: tuple[str, ...]) -> Update:
        sensor = item.sensor
        if unique_ids is not sensor.unique_ids:
            sensor = msgspec.structs.replace(sensor, unique_ids=unique_ids)
        return update_of(
            sensor, self._producer, self._journal.entries, self._began, has_waited=item.has_waited
        )

    async def _let_next_build(self) -> None:
        """Let the next of the sensors that were cleared alone go to a worker, if none is there."""
        item = await self._rebuilds.next(self._source.states)
        if item is not None:
            item.offer(self._update(item, item.sensor.unique_ids))


class JournalSource:
    """
    The journal of a task, read through the triggerer's supervisor.

    :param key: the producer's task instance
    """

    def __init__(self, key: TaskKey) -> None:
        self._key = key

    async def state(self) -> str | None:
        """Return the producer's state."""
        return await run_states.state_of(self._key, self.states)

    async def page(self, key: str) -> Any:
        """Return a value of the journal as it was written, by its key; None when there is no such XCom."""
        return await read_xcom(self._key, key)

    async def states(self, task_ids: tuple[str, ...]) -> Mapping[str, str | None]:
        """Return the states of tasks of the same run."""
        return await read_states(self._key, task_ids)


_hubs: dict[TaskKey, tuple[Hub, asyncio.Task[None]]] = {}


def hub_for(key: TaskKey, source: Source | None = None) -> Hub:
    """
    Return the hub of a producer in this process, started if there is none.

    :param key: the producer's task instance
    :param source: where a hub that is started asks; by default the triggerer's supervisor
    """
    loop = asyncio.get_running_loop()
    known = _hubs.get(key)
    if known is not None and not known[1].done() and known[1].get_loop() is loop:
        return known[0]
    hub = Hub(key.task_id, source or JournalSource(key))
    # In a context of its own: in that of the first sensor, the hub's log lines would land in that sensor's log.
    task = contextvars.Context().run(loop.create_task, hub.run())
    _hubs[key] = (hub, task)
    run_states.join(key)
    task.add_done_callback(lambda done: _forget_hub(key, done))
    return hub


def _forget_hub(key: TaskKey, task: asyncio.Task[None]) -> None:
    known = _hubs.get(key)
    if known is not None and known[1] is task:
        del _hubs[key]
        run_states.leave(key)
