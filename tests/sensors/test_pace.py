"""When a hub asks Airflow for what: on a clock that goes on by itself as soon as everybody waits."""

import asyncio
import contextlib
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from test_hub import CUSTOMERS, ORDERS, Airflow
from virtual_time import run

from dbt_watch.core import backoff
from dbt_watch.sensors.hub import Hub, Pace, Subscription
from dbt_watch.sensors.updates import Sensor

EARLY_PAGES = 10
PACE = Pace(
    page=1.0, state=4.0, idle=10.0, about_to_run=1.0, gather=0.0, verify=2.0, first_page=3.0, first_page_limit=8.0, turn=5.0,
    linger=60.0, backoff_first=1.0, backoff_limit=6.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch):
    monkeypatch.setattr(backoff.random, "uniform", lambda low, high: (low + high) / 2)


class Watched(Airflow):
    """An Airflow that keeps when it was asked for what."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def begin_long(self):
        """Begin a journal of which so many pages are written that it is read at the usual pace."""
        self.begin(1)
        for _ in range(EARLY_PAGES):
            self.report(CUSTOMERS, "started")

    def note(self, what):
        self.asked.append((round(asyncio.get_running_loop().time(), 3), what))

    async def state(self):
        self.note("state")
        return await super().state()

    async def page(self, key):
        self.note("page")
        return await super().page(key)

    async def states(self, task_ids):
        self.note("states")
        return await super().states(task_ids)

    def times(self, what):
        return [time for time, asked in self.asked if asked == what]


@contextlib.asynccontextmanager
async def hub_of(airflow, pace=PACE):
    hub = Hub("build.dbt_build", airflow, pace)
    task = asyncio.create_task(hub.run())
    yield hub
    await task


def sensor(*unique_ids, **how):
    return Sensor(unique_ids=unique_ids or (ORDERS,), **how)


async def times_of(airflow, what, seconds, changes=()):
    """Return the times at which a hub with one sensor asks, while the producer's state changes."""
    async with hub_of(airflow) as hub:
        with Subscription(hub, sensor()):
            for at, state in (*changes, (seconds, airflow.current_state)):
                await asyncio.sleep(0.5 + at - asyncio.get_running_loop().time())
                airflow.current_state = state
    return [time for time in airflow.times(what) if time <= seconds]


@pytest.mark.parametrize(
    ("state", "times"),
    [(None, [0, 10, 20]), ("queued", [0, 1, 3, 7, 11, 15, 19]), ("running", [0, 4, 8, 12, 16, 20])],
)
def test_a_state_is_asked_for_less_often_before_the_producer_is_scheduled_and_more_often_just_before_it_runs(
    state, times
):
    airflow = Watched()
    airflow.current_state = state
    assert run(times_of(airflow, "state", 20)) == times


@pytest.mark.parametrize(
    ("state", "times"),
    [
        ("scheduled", [3, 6, 12, 20, 28]),
        ("queued", [3, 6, 12, 20, 28]),
        ("up_for_retry", [0, 1, 3, 6, 12, 20, 28]),
    ],
)
def test_a_worker_is_given_time_to_begin_the_journal_and_more_time_with_each_look_in_vain(state, times):
    """That it runs is seen at 3."""
    airflow = Watched()
    airflow.current_state = state
    assert run(times_of(airflow, "page", 30, [(1, "running")])) == times


def test_an_open_journal_is_read_and_nothing_else_is_looked_at():
    airflow = Watched()
    airflow.begin_long()
    times = run(times_of(airflow, "page", 9))
    assert times == [0] * (EARLY_PAGES + 1) + [*range(10)]


def test_the_first_pages_are_looked_for_sooner_and_less_often_while_none_comes():
    airflow = Watched()
    airflow.begin(1)
    assert run(times_of(airflow, "page", 4)) == [0, 0, 0.333, 0.75, 1.271, 1.922, 2.736, 3.736]


def test_a_closed_journal_is_looked_at_with_each_state_for_whether_it_was_begun_anew():
    airflow = Watched()
    airflow.begin(1, will_retry=True)
    airflow.close(1)
    assert run(times_of(airflow, "page", 17)) == [0, 0, 1, 3, 7, 11, 15]
    assert airflow.times("state")[:6] == [0, 1, 3, 7, 11, 15]


def test_a_journal_that_is_closed_when_its_producer_has_just_begun_is_soon_looked_at_again():
    """It may be that of the attempt before, which the worker drops a moment later. That it runs is seen at 3."""
    airflow = Watched()
    airflow.begin(1, will_retry=True)
    airflow.close(1)
    airflow.current_state = "queued"
    assert run(times_of(airflow, "state", 20, [(1, "running")])) == [0, 1, 3, 4, 6, 10, 14, 18]
    assert airflow.times("page")[-5:] == [4, 6, 10, 14, 18]


def test_newcomers_that_come_one_after_the_other_are_looked_at_together():
    airflow = Watched()
    airflow.begin_long()

    async def scene():
        async with hub_of(airflow) as hub, contextlib.AsyncExitStack() as stack:
            for seconds in (0.0, 0.5, 0.7, 5.0):
                await asyncio.sleep(seconds)
                stack.enter_context(Subscription(hub, sensor()))
            await asyncio.sleep(2.6)

    run(scene())
    assert airflow.times("state") == [0, 2, 6, 7]
    # Whether the journal that is known is another attempt's by now, and what is new in it.
    assert Counter(airflow.times("page")) == dict.fromkeys(range(9), 1) | {0: EARLY_PAGES + 2, 2: 2, 7: 2}


def test_sensors_that_come_together_are_looked_at_once():
    airflow = Watched()
    airflow.begin(1)

    async def scene():
        async with (
            hub_of(airflow, msgspec.structs.replace(PACE, gather=0.35)) as hub,
            contextlib.AsyncExitStack() as stack,
        ):
            subscriptions = []
            for _ in range(3):
                await asyncio.sleep(0.1)
                subscriptions.append(stack.enter_context(Subscription(hub, sensor())))
            for subscription in subscriptions:
                await anext(subscription)
            assert asyncio.get_running_loop().time() == pytest.approx(0.35)
            assert airflow.times("state") == [0.35]

    run(scene())


def test_a_newcomer_is_told_nothing_before_it_was_looked_at_for_it():
    airflow = Watched()
    airflow.begin_long()

    async def scene():
        async with hub_of(airflow) as hub:
            with Subscription(hub, sensor()):
                await asyncio.sleep(0.5)
                with Subscription(hub, sensor()) as newcomer:
                    airflow.report(ORDERS, "started")
                    await anext(newcomer)
                    return asyncio.get_running_loop().time()

    assert run(scene()) == 2


def test_a_hub_that_nobody_listens_to_asks_nothing_serves_the_next_at_once_and_ends_after_a_while():
    airflow = Watched()

    async def scene():
        async with hub_of(airflow) as hub:
            for pause in (0.0, 30.3):
                await asyncio.sleep(pause)
                with Subscription(hub, sensor()):
                    await asyncio.sleep(0.5)
        return asyncio.get_running_loop().time()

    assert run(scene()) == pytest.approx(30.8 + 1.0 + 60.0)
    assert airflow.times("state") == [0, 30.8]


def test_whether_the_next_may_build_is_asked_at_intervals():
    airflow = Watched()
    airflow.begin(1)
    airflow.close(0)
    airflow.current_state = "success"
    airflow.states_of = {"shop.m1": "running"}

    async def scene():
        async with hub_of(airflow) as hub, contextlib.AsyncExitStack() as stack:
            for turn in (1, 2):
                name = f"shop.m{turn}"
                one = sensor(name, task_id=name, made_at=1.0, is_first_try=False, turn=turn)
                stack.enter_context(Subscription(hub, one))
            await asyncio.sleep(17)

    run(scene())
    assert airflow.times("states") == [6, 11, 16]


def test_nobody_asks_whether_the_next_may_build_when_the_producer_was_cleared_too():
    airflow = Watched()
    airflow.begin(1)
    airflow.close(0)
    airflow.current_state = "success"
    airflow.states_of = {"shop.raw": "running"}

    async def scene():
        async with hub_of(airflow) as hub:
            with Subscription(hub, sensor(made_at=1.0, is_first_try=False, after=("shop.raw",))):
                await asyncio.sleep(7)
                airflow.current_state = "queued"
                await asyncio.sleep(30)

    run(scene())
    assert airflow.times("states") == [1, 6]


async def pauses_of(answers):
    """Return how long a hub waits after each look, which fails where there is no answer."""
    airflow, times, heard_all = Watched(), [], asyncio.Event()
    answers = iter(answers)

    async def state():
        times.append(asyncio.get_running_loop().time())
        answer = next(answers, None)
        if answer is None:
            heard_all.set()
        elif not answer:
            raise ConnectionError("500")

    airflow.state = state
    pace = Pace(state=0.25, idle=0.25, gather=0.0, page=0.25, backoff_first=1.0, backoff_limit=6.0)
    async with hub_of(airflow, pace) as hub:
        with Subscription(hub, sensor()):
            await heard_all.wait()
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_hub_waits_longer_after_each_failure_and_not_after_it_has_had_an_answer():
    assert run(pauses_of([1, 0, 0, 0, 0, 0, 1, 0])) == [0.25, 1.0, 2.0, 4.0, 6.0, 6.0, 0.25, 1.0]


def test_hubs_that_fail_together_do_not_come_back_together(monkeypatch):
    monkeypatch.setattr(backoff.random, "uniform", lambda low, high: high)
    assert run(pauses_of([1, 0, 0])) == [0.25, 1.25, 2.5]
    monkeypatch.setattr(backoff.random, "uniform", lambda low, high: low)
    assert run(pauses_of([1, 0, 0])) == [0.25, 0.75, 1.5]
