"""
The hub, with a scripted Airflow: orders of events that a real one brings about only by chance.

The end-to-end tests run the same hub in a real triggerer.
"""

import asyncio
import contextlib

import pytest
from virtual_time import run

from dbt_watch.core.journal.format import PAGES, page_key, part_key
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.outcome import Decision, Verdict, decide
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.journal_publisher import JournalPublisher
from dbt_watch.sensors import updates
from dbt_watch.sensors.hub import DEFAULT_PACE, Hub, Pace, Subscription
from dbt_watch.sensors.updates import Sensor, Update

PACE = Pace(
    page=0.003,
    state=0.02,
    idle=0.04,
    about_to_run=0.01,
    gather=0.001,
    verify=0.006,
    first_page=0.008,
    turn=0.004,
    linger=0.2,
    backoff_first=0.005,
    backoff_limit=0.05,
)
ORDERS, CUSTOMERS = "model.shop.orders", "model.shop.customers"


class Airflow:
    """A producer's state and XComs."""

    def __init__(self):
        self.current_state = None
        self.xcoms = {}
        self.requests = 0
        self.pages = 0
        self.misses = 0
        self.broken = False
        self.states_of = {}

    async def states(self, task_ids):
        self._count()
        return {task_id: self.states_of.get(task_id) for task_id in task_ids}

    async def state(self):
        self._count()
        return self.current_state

    async def page(self, key):
        self._count()
        self.pages += 1
        value = self.xcoms.get(key)
        self.misses += value is None
        return value

    def _count(self):
        self.requests += 1
        if self.broken:
            raise ConnectionError("500")

    def begin(self, attempt, *, will_retry=False, began=0.0):
        """Start the code of an attempt, which wipes the XComs of the one before."""
        self.xcoms.clear()
        self.current_state = "running"
        self.writer = JournalWriter(attempt=attempt)
        self.publisher = JournalPublisher(
            Publication(self.writer, will_retry=will_retry, began=began), self.xcoms.__setitem__
        )
        self.publisher.flush()

    def report(self, unique_id, status, **kwargs):
        self.writer.add(
            [NodeResult(unique_id=unique_id, name=unique_id.split(".")[-1], status=status, **kwargs)]
        )
        self.publisher.flush()

    def close(self, exit_code, reason=None):
        self.writer.close(exit_code, reason=reason)
        self.publisher.finish()


@contextlib.asynccontextmanager
async def hub_of(airflow):
    hub = Hub("build.dbt_build", airflow, PACE)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        await asyncio.wait_for(task, 60)


async def verdict(hub, *unique_ids, since=0.0, **sensor):
    sensor = {"is_first_try": not since, "made_at": since, **sensor}
    with Subscription(hub, Sensor(unique_ids=unique_ids, **sensor)) as told:
        async for update in told:
            if update.decision.verdict is not Verdict.WAIT:
                return update.decision
    return None


async def heard(subscription, seconds=0.1):
    """Return the updates that a sensor has until nothing more comes for a while."""
    updates = []
    with contextlib.suppress(asyncio.TimeoutError):
        while True:
            updates.append(await asyncio.wait_for(anext(subscription), seconds))
    return updates


def nodes_in(updates):
    return [[result.unique_id for result in update.results] for update in updates]


async def stays_waiting(waiting, seconds=0.1):
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    return not done


def scenario(function):
    def test():
        run(function(Airflow()), limit=20)

    test.__name__ = function.__name__
    test.__doc__ = function.__doc__
    return test


@scenario
async def test_a_sensor_ends_when_its_node_does(airflow):
    async with hub_of(airflow) as hub:
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.begin(1)
        airflow.report(ORDERS, "started")
        airflow.report(CUSTOMERS, "success")
        assert await stays_waiting(waiting)
        airflow.report(ORDERS, "success")
        assert (await waiting).verdict is Verdict.SUCCEED


@scenario
async def test_a_cleared_run_does_not_turn_green_from_what_the_last_one_left(airflow):
    airflow.begin(1)
    airflow.report(ORDERS, "success")
    airflow.close(0)
    airflow.current_state = "success"
    async with hub_of(airflow) as hub:
        assert (await verdict(hub, ORDERS)).verdict is Verdict.SUCCEED
        for state in (None, "scheduled", "queued"):
            airflow.current_state = state
            waiting = asyncio.create_task(verdict(hub, ORDERS))
            assert await stays_waiting(waiting)
            waiting.cancel()
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        airflow.begin(2)
        assert await stays_waiting(waiting)
        airflow.report(ORDERS, "error", message="no such table")
        assert (await waiting).verdict is Verdict.FAIL


@scenario
async def test_what_a_cleared_run_left_is_still_there_when_its_producer_runs_and_is_not_believed(airflow):
    async with hub_of(airflow) as hub:
        for status, exit_code in (("success", 0), ("error", 1)):
            airflow.begin(1)
            airflow.report(ORDERS, status)
            airflow.close(exit_code)
            airflow.current_state = "running"
            waiting = asyncio.create_task(verdict(hub, ORDERS, since=1.0))
            assert await stays_waiting(waiting)
            airflow.begin(2, began=1.0)
            assert await stays_waiting(waiting)
            airflow.report(ORDERS, "success")
            assert (await waiting).verdict is Verdict.SUCCEED


@pytest.mark.parametrize("is_first_try", [True, False])
def test_a_sensor_whose_producer_has_died_without_a_journal_fails_unless_it_was_cleared(is_first_try):
    @scenario
    async def check(airflow):
        airflow.current_state = "failed"
        async with hub_of(airflow) as hub:
            decision = await verdict(hub, ORDERS, since=5.0, is_first_try=is_first_try)
            assert decision.verdict is (Verdict.FAIL if is_first_try else Verdict.BUILD)

    check()


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_sensor_that_was_cleared_alone_builds_its_node(state):
    @scenario
    async def check(airflow):
        airflow.begin(1)
        airflow.report(ORDERS, "success")
        airflow.close(0 if state == "success" else 1)
        airflow.current_state = state
        async with hub_of(airflow) as hub:
            assert (await verdict(hub, ORDERS, since=1.0)).verdict is Verdict.BUILD

    check()


@scenario
async def test_a_sensor_that_was_cleared_while_dbt_runs_waits_for_its_end_and_builds_its_node_then(airflow):
    airflow.begin(1)
    airflow.report(ORDERS, "success")
    async with hub_of(airflow) as hub:
        waiting = asyncio.create_task(verdict(hub, ORDERS, since=1.0))
        assert await stays_waiting(waiting)
        airflow.close(0)
        airflow.current_state = "success"
        assert (await waiting).verdict is Verdict.BUILD


@scenario
async def test_sensors_that_were_cleared_with_a_run_that_died_without_a_word_fail_with_it(airflow):
    airflow.begin(1)
    airflow.report(ORDERS, "success")
    airflow.close(1)
    airflow.current_state = "queued"
    async with hub_of(airflow) as hub:
        waiting = asyncio.create_task(verdict(hub, ORDERS, since=1.0))
        assert await stays_waiting(waiting)
        airflow.current_state = "failed"
        assert (await waiting).verdict is Verdict.FAIL


@scenario
async def test_a_sensor_that_comes_after_its_cleared_run_has_died_at_once_fails_with_it(airflow):
    airflow.begin(2, began=1.0)
    airflow.current_state = "failed"
    async with hub_of(airflow) as hub:
        assert (await verdict(hub, ORDERS, since=1.0)).verdict is Verdict.FAIL


@scenario
async def test_a_run_that_was_cleared_and_has_run_again_unseen_is_not_mixed_up(airflow):
    airflow.begin(1)
    airflow.report(ORDERS, "success")
    airflow.close(0)
    async with hub_of(airflow) as hub:
        assert (await verdict(hub, ORDERS)).verdict is Verdict.SUCCEED
        airflow.begin(2)
        airflow.report(CUSTOMERS, "success")
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.report(ORDERS, "fail")
        assert (await waiting).verdict is Verdict.FAIL


@scenario
async def test_a_failed_node_waits_for_the_next_attempt_and_ends_as_that_does(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1, will_retry=True)
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        for number in range(5):
            airflow.report(f"model.shop.m{number}", "success")
        airflow.report(ORDERS, "error")
        airflow.close(1)
        assert await stays_waiting(waiting)
        airflow.current_state = "up_for_retry"
        assert await stays_waiting(waiting)
        airflow.begin(2)
        assert await stays_waiting(waiting)
        airflow.report(ORDERS, "success")
        assert (await waiting).verdict is Verdict.SUCCEED


@scenario
async def test_an_attempt_that_died_without_a_word_is_followed_by_the_next(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1, will_retry=True)
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        for number in range(5):
            airflow.report(f"model.shop.m{number}", "success")
        assert await stays_waiting(waiting)
        airflow.begin(2)
        airflow.report(ORDERS, "success")
        assert (await waiting).verdict is Verdict.SUCCEED


@scenario
async def test_an_attempt_that_came_and_went_between_two_looks_counts(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1, will_retry=True)
        airflow.report("model.shop.b", "success")
        sensor = asyncio.create_task(verdict(hub, "model.shop.a"))
        assert await stays_waiting(sensor)
        airflow.current_state = "up_for_retry"
        assert await stays_waiting(sensor)
        airflow.begin(2)
        airflow.report("model.shop.a", "success")
        airflow.current_state = "failed"
        assert (await sensor).verdict is Verdict.SUCCEED


@scenario
async def test_what_was_read_of_an_attempt_before_the_next_began_in_the_middle_is_forgotten(airflow):
    page, others = airflow.page, [f"model.shop.m{number}" for number in range(9)]

    async def begin_meanwhile(key):
        if key == page_key(1) and airflow.writer.attempt == 1:
            airflow.begin(2, will_retry=True)
            for unique_id in others:
                airflow.report(unique_id, "success")
        return await page(key)

    async with hub_of(airflow) as hub:
        airflow.begin(1, will_retry=True)
        orders, *waiting = (asyncio.create_task(verdict(hub, uid)) for uid in (ORDERS, *others))
        assert await stays_waiting(orders)
        airflow.page = begin_meanwhile
        airflow.report(ORDERS, "success")
        assert {decision.verdict for decision in await asyncio.gather(*waiting)} == {Verdict.SUCCEED}
        assert await stays_waiting(orders)
        airflow.report(ORDERS, "success")
        assert (await orders).verdict is Verdict.SUCCEED


@scenario
async def test_a_producer_that_died_for_good_fails_what_is_open(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        airflow.report(ORDERS, "started")
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.current_state = "failed"
        decision = await waiting
        assert decision.verdict is Verdict.FAIL
        assert "dbt ended before this node finished" in decision.reason


@scenario
async def test_what_was_written_last_counts_although_the_producer_is_over(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.report(ORDERS, "success")
        airflow.current_state = "failed"
        assert (await waiting).verdict is Verdict.SUCCEED


@scenario
async def test_a_journal_that_appears_together_with_the_end_is_read_before_anything_is_decided(airflow):
    async with hub_of(airflow) as hub:
        airflow.current_state = "running"
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.begin(1)
        airflow.close(None, "the image cannot be pulled")
        airflow.current_state = "failed"
        assert "the image cannot be pulled" in (await waiting).reason


@pytest.mark.parametrize("state", ["upstream_failed", "removed", "skipped"])
def test_nothing_waits_for_a_producer_that_will_not_run(state):
    async def scene(airflow):
        async with hub_of(airflow) as hub:
            waiting = asyncio.create_task(verdict(hub, ORDERS))
            assert await stays_waiting(waiting)
            airflow.current_state = state
            assert (await waiting).verdict is Verdict.SKIP

    run(scene(Airflow()))


@scenario
async def test_errors_of_the_api_are_survived(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.broken = True
        airflow.report(ORDERS, "success")
        assert await stays_waiting(waiting)
        airflow.broken = False
        assert (await waiting).verdict is Verdict.SUCCEED


@scenario
async def test_a_journal_that_cannot_be_read_lets_nobody_wait_for_ever(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        airflow.xcoms[part_key(0)] = '{"foreign": true}'
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.current_state = "failed"
        assert (await waiting).verdict is Verdict.FAIL


def test_of_a_journal_that_cannot_be_read_the_log_tells_once_however_many_sensors_come(caplog):
    @scenario
    async def check(airflow):
        airflow.begin(1)
        airflow.xcoms[part_key(0)] = '{"foreign": true}'
        async with hub_of(airflow) as hub:
            for _ in range(3):
                with Subscription(hub, Sensor(unique_ids=(ORDERS,))) as sensor:
                    assert {update.decision.verdict for update in await heard(sensor)} == {Verdict.WAIT}

    check()
    assert caplog.text.count("cannot be read") == 1


LONG = 3_000


def build_many(airflow):
    """Write a journal whose pages have been overwritten many times."""
    airflow.begin(1)
    for number in range(LONG):
        airflow.report(f"model.shop.m{number}", "success", message="x" * 200)


@scenario
async def test_a_hub_that_comes_late_reads_little_more_than_the_entries_fill(airflow):
    build_many(airflow)
    airflow.report(ORDERS, "error")
    async with hub_of(airflow) as hub:
        waiting = asyncio.create_task(verdict(hub, "model.shop.m7"))
        assert (await waiting).verdict is Verdict.SUCCEED
        assert airflow.requests < LONG * 400 / (48 * 1024) + PAGES + 10
        assert (await verdict(hub, ORDERS)).verdict is Verdict.FAIL
    assert airflow.misses == 0


@scenario
async def test_a_hub_asks_less_often_when_the_pages_of_a_long_journal_come_less_often(airflow):
    build_many(airflow)
    hub = Hub("build.dbt_build", airflow)
    with Subscription(hub, Sensor(unique_ids=(ORDERS,))):
        await hub._look(0.0, verify=True)
        before = airflow.requests
        for tick in range(1, 200):
            await hub._look(tick * 0.3, verify=False)
        assert airflow.requests - before < 60 / 0.9 + 60 / 2 + 5
        airflow.close(0)
        airflow.current_state = "success"
        before = airflow.requests
        await hub._look(62.0, verify=False)
        assert airflow.requests == before + 3  # what is there now is all there will be


@scenario
async def test_a_hub_that_was_held_up_misses_nothing(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        airflow.report(CUSTOMERS, "started")
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.report(ORDERS, "success")
        for number in range(5 * PAGES):  # the hub's turn comes after these only
            airflow.report(f"model.shop.m{number}", "success")
        assert (await waiting).verdict is Verdict.SUCCEED


@scenario
async def test_an_error_in_the_middle_of_a_snapshot_costs_no_second_reading(airflow):
    build_many(airflow)
    page, asked = airflow.page, []

    async def fail_once(key):
        asked.append(key)
        if key == part_key(5) and asked.count(key) == 1:
            raise ConnectionError("500")
        return await page(key)

    airflow.page = fail_once
    async with hub_of(airflow) as hub:
        assert (await verdict(hub, "model.shop.m7")).verdict is Verdict.SUCCEED
    assert asked.count(part_key(4)) == 1


@scenario
async def test_a_long_journal_of_an_attempt_that_is_over_is_not_mixed_with_the_next(airflow):
    build_many(airflow)
    async with hub_of(airflow) as hub:
        assert (await verdict(hub, "model.shop.m7")).verdict is Verdict.SUCCEED
        airflow.begin(2)
        for number in range(2 * PAGES):
            airflow.report(f"model.shop.other{number}", "success")
        waiting = asyncio.create_task(verdict(hub, "model.shop.m7"))
        assert await stays_waiting(waiting)
        airflow.report("model.shop.m7", "error")
        assert (await waiting).verdict is Verdict.FAIL


@scenario
async def test_a_journal_whose_beginning_cannot_be_read_is_forgotten_with_an_attempt_that_nobody_saw(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1, will_retry=True)
        airflow.xcoms[part_key(0)] = '{"foreign": true}'
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.begin(2)
        airflow.report(ORDERS, "success")
        airflow.close(0)
        airflow.current_state = "success"
        assert (await waiting).verdict is Verdict.SUCCEED


async def looks_of(airflow, seconds, pace=DEFAULT_PACE, states=None):
    """Let a hub look ten times a second, by a clock of our own; give the times at which it asked for a page."""
    hub, looks = Hub("build.dbt_build", airflow, pace), []
    with Subscription(hub, Sensor(unique_ids=(ORDERS,))):
        for now in (tick / 10 for tick in range(seconds * 10)):
            airflow.current_state = (states or {}).get(now, airflow.current_state)
            before = airflow.pages
            await hub._look(now, verify=False)
            looks += [now] * (airflow.pages - before)
    return looks


def test_a_journal_that_cannot_be_read_is_not_asked_for_again_and_again(caplog):
    airflow = Airflow()
    airflow.begin(1)
    airflow.xcoms[part_key(0)] = '{"foreign": true}'
    assert asyncio.run(looks_of(airflow, 10)) == [0.0]
    assert caplog.text.count("cannot be read") == 1


@pytest.mark.parametrize("key", [part_key(0), page_key(0), page_key(1)])
def test_a_journal_that_cannot_be_read_is_forgotten_with_the_next_attempt(key):
    @scenario
    async def check(airflow):
        async with hub_of(airflow) as hub:
            airflow.begin(1, will_retry=True)
            airflow.report(CUSTOMERS, "success")
            airflow.xcoms[key] = '{"foreign": true}'
            waiting = asyncio.create_task(verdict(hub, ORDERS))
            for state in ("running", "up_for_retry", "queued"):
                airflow.current_state = state
                assert await stays_waiting(waiting)
            airflow.begin(2)
            airflow.report(ORDERS, "success")
            airflow.close(0)
            airflow.current_state = "success"
            assert (await waiting).verdict is Verdict.SUCCEED

    check()


def test_a_worker_is_given_time_to_begin_the_journal_and_more_time_with_each_look_in_vain():
    airflow = Airflow()
    airflow.current_state = "queued"
    pace = Pace(state=1.0, about_to_run=1.0, first_page=1.5, first_page_limit=6.0)
    looks = asyncio.run(looks_of(airflow, 25, pace, {3.0: "running"}))
    assert looks == [3.0, 4.5, 7.5, 13.5, 19.5]


def test_the_journal_of_a_producer_that_has_run_for_a_while_is_looked_for_at_once():
    airflow = Airflow()
    airflow.current_state = "running"
    assert asyncio.run(looks_of(airflow, 2, Pace(first_page=0.5))) == [0.0, 0.5, 1.5]


@scenario
async def test_requests_do_not_grow_with_the_number_of_sensors(airflow):
    async def requests_of(count):
        airflow.begin(1)
        before = airflow.requests
        async with hub_of(airflow) as hub:
            waiting = [asyncio.create_task(verdict(hub, f"model.shop.m{number}")) for number in range(count)]
            await asyncio.sleep(0.2)
            spent = airflow.requests - before
            for number in range(count):
                airflow.report(f"model.shop.m{number}", "success")
            await asyncio.gather(*waiting)
        return spent

    few, many = await requests_of(2), await requests_of(500)
    assert many <= few * 1.5


@scenario
async def test_pages_that_do_not_exist_are_not_asked_for_once_the_journal_is_open(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        waiting = asyncio.create_task(verdict(hub, ORDERS))
        assert await stays_waiting(waiting)
        airflow.report(CUSTOMERS, "success")
        assert await stays_waiting(waiting)
        airflow.report(ORDERS, "success")
        await waiting
    assert airflow.misses == 0


@scenario
async def test_a_hub_ends_when_nobody_listens_any_more(airflow):
    async with hub_of(airflow):
        pass


async def builds(hub, airflow, turn, order, **sensor):
    """Wait for the turn of a sensor that was cleared, and build its node for a moment, alone."""
    task_id = f"shop.m{turn}"
    decision = await verdict(hub, f"model.shop.m{turn}", since=1.0, task_id=task_id, turn=turn, **sensor)
    if decision.verdict is not Verdict.BUILD:
        return decision.verdict
    airflow.building.add(task_id)
    order.append(turn)
    assert len(airflow.building) == 1, "dbt runs for one of them at a time"
    airflow.states_of[task_id] = "running"
    await asyncio.sleep(0.005)
    airflow.building.discard(task_id)
    airflow.states_of[task_id] = "success"
    return decision.verdict


def over(airflow):
    airflow.building = set()
    airflow.begin(1)
    airflow.close(0)
    airflow.current_state = "success"


@scenario
async def test_sensors_that_were_cleared_together_build_along_the_lineage_one_at_a_time(airflow):
    over(airflow)
    order = []
    async with hub_of(airflow) as hub:
        await asyncio.gather(*(builds(hub, airflow, turn, order) for turn in (5, 3, 9, 1, 7)))
    assert order == [1, 3, 5, 7, 9]


@scenario
async def test_a_sensor_that_has_to_wait_for_another_triggers_task_does(airflow):
    over(airflow)
    order = []
    airflow.states_of["shop.elsewhere"] = "running"
    async with hub_of(airflow) as hub:
        waiting = asyncio.create_task(builds(hub, airflow, 1, order, after=("shop.elsewhere",)))
        assert await stays_waiting(waiting)
        airflow.states_of["shop.elsewhere"] = "failed"
        assert await waiting is Verdict.BUILD


@scenario
async def test_a_sensor_that_waits_for_its_turn_waits_for_the_producer_when_that_is_cleared_too(airflow):
    over(airflow)
    order = []
    async with hub_of(airflow) as hub:
        first = asyncio.create_task(verdict(hub, ORDERS, since=1.0, task_id="shop.orders", turn=1))
        assert (await first).verdict is Verdict.BUILD
        airflow.states_of["shop.orders"] = "running"
        second = asyncio.create_task(builds(hub, airflow, 2, order))
        assert await stays_waiting(second)
        airflow.current_state = "queued"
        assert await stays_waiting(second)
        airflow.begin(2, began=2.0)
        airflow.states_of["shop.orders"] = "success"
        assert await stays_waiting(second)
        airflow.report("model.shop.m2", "success")
        assert await second is Verdict.SUCCEED
    assert not order


def test_requests_do_not_grow_with_the_number_of_sensors_that_wait_to_build():
    async def requests_of(count):
        """Count them over a minute, of which a hub knows by its clock alone."""
        airflow = Airflow()
        over(airflow)
        airflow.states_of = {"shop.m0": "running"}
        hub = Hub("build.dbt_build", airflow)
        for turn in range(count):
            sensor = Sensor(
                unique_ids=(f"model.shop.m{turn}",),
                task_id=f"shop.m{turn}",
                made_at=1.0,
                is_first_try=False,
                turn=turn,
            )
            hub.add(Subscription(hub, sensor))
        for look in range(200):
            newcomers = [item for item in hub._subscriptions if not item.verified]
            await hub._look(look * 0.3, verify=bool(newcomers))
            hub._welcome(newcomers)
        return airflow.requests

    few, many = asyncio.run(requests_of(3)), asyncio.run(requests_of(300))
    assert few == many
    assert 30 <= many <= 60 * 2


@scenario
async def test_the_work_for_a_sensor_of_many_nodes_grows_with_them_and_no_faster(airflow):
    """One task for all tests of a large project: each page tells of a few of them."""
    looked_at = []

    def counting(producer, nodes):
        nodes = list(nodes)
        looked_at.append(len(nodes))
        return decide(producer, nodes)

    nodes = [f"test.shop.t{number}" for number in range(1_000)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(updates, "decide", counting)
        async with hub_of(airflow) as hub:
            airflow.begin(1)
            waiting = asyncio.create_task(verdict(hub, *nodes))
            for start in range(0, len(nodes), 20):
                airflow.writer.add([NodeResult(unique_id=uid, status="pass") for uid in nodes[start:][:20]])
                airflow.publisher.flush()
                await asyncio.sleep(0.008)
            assert (await waiting).verdict is Verdict.SUCCEED
    assert sum(looked_at) < 6 * len(nodes)


@scenario
async def test_a_sensor_of_many_nodes_is_told_of_each_once_and_of_all_at_the_end(airflow):
    nodes = [f"test.shop.t{number}" for number in range(4)]
    told = []
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        with Subscription(hub, Sensor(unique_ids=tuple(nodes))) as updates_of_sensor:

            async def listen():
                async for update in updates_of_sensor:
                    told.append([result.unique_id for result in update.results])
                    if update.is_over:
                        return update
                return None

            listening = asyncio.create_task(listen())
            for uid in nodes:
                airflow.report(uid, "pass")
                await asyncio.sleep(0.05)
            final = await listening
    assert [uid for uids in told[:-1] for uid in uids] == nodes[:-1]
    assert {result.unique_id for result in final.results} == set(nodes)


@scenario
async def test_a_sensor_is_told_of_each_entry_once_and_of_nothing_new_nothing(airflow):
    orders, customers = (NodeResult(unique_id=uid, status="started") for uid in (ORDERS, CUSTOMERS))
    later = NodeResult(unique_id=ORDERS, status="success")
    sensor = Subscription(Hub("build.dbt_build", airflow), Sensor(unique_ids=(ORDERS, CUSTOMERS)))
    wait = Decision(Verdict.WAIT)
    for results in ((orders,), (orders, customers), (orders, customers), (later, customers)):
        sensor.offer(Update(results, wait))
    assert await heard(sensor) == [Update((entry,), wait) for entry in (orders, customers, later)]
    reason = Decision(Verdict.WAIT, "orders: error")
    sensor.offer(Update((later, customers), reason))
    sensor.offer(Update((later, customers), reason))
    assert await heard(sensor) == [Update((), reason)]
    assert not sensor.is_over
    last = Update((later, customers), Decision(Verdict.SUCCEED))
    sensor.offer(last)
    assert await heard(sensor) == [last]
    assert sensor.is_over


@scenario
async def test_a_sensor_of_several_nodes_that_waits_is_told_why_if_that_is_not_how_it_will_end(airflow):
    async with hub_of(airflow) as hub:
        for attempt, will_retry in ((1, True), (2, False)):
            airflow.begin(attempt, will_retry=will_retry)
            with Subscription(hub, Sensor(unique_ids=(ORDERS, CUSTOMERS))) as sensor:
                assert [update.decision.reason for update in await heard(sensor)] == [""]
                airflow.report(ORDERS, "error", message="no such table")
                (update,) = await heard(sensor)
                assert update.decision.verdict is Verdict.WAIT
                reason = "orders: error: no such table\nthe next attempt will build it again"
                assert update.decision.reason == (reason if will_retry else "")


@scenario
async def test_a_sensor_that_has_had_its_last_word_is_told_nothing_more(airflow):
    async with hub_of(airflow) as hub:
        airflow.begin(1)
        with Subscription(hub, Sensor(unique_ids=(ORDERS,))) as sensor:
            airflow.report(ORDERS, "success")
            assert (await heard(sensor))[-1].is_over
            airflow.begin(2)
            airflow.report(ORDERS, "started")
            assert not await heard(sensor)
            airflow.report(ORDERS, "error")
            airflow.close(1)
            assert not await heard(sensor)


@scenario
async def test_sensors_that_have_left_cost_nothing(airflow):
    decided = []

    def counting(producer, nodes):
        nodes = list(nodes)
        decided.extend(unique_id for unique_id, _ in nodes)
        return decide(producer, nodes)

    async with hub_of(airflow) as hub:
        airflow.begin(1)
        with Subscription(hub, Sensor(unique_ids=(ORDERS,))) as stays:
            for _ in range(10):
                with Subscription(hub, Sensor(unique_ids=(ORDERS, CUSTOMERS))) as leaves:
                    await heard(leaves)
            await heard(stays)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(updates, "decide", counting)
                airflow.report(ORDERS, "started")
                airflow.report(CUSTOMERS, "started")
                assert nodes_in(await heard(stays)) == [[ORDERS]]
    assert decided == [ORDERS]


@scenario
async def test_a_sensor_that_waits_for_its_turn_to_build_is_told_so(airflow):
    over(airflow)
    airflow.states_of["shop.elsewhere"] = "running"
    async with hub_of(airflow) as hub:
        sensor = Sensor(unique_ids=(ORDERS,), made_at=1.0, is_first_try=False, after=("shop.elsewhere",))
        with Subscription(hub, sensor) as waiting:
            (update,) = await heard(waiting)
    assert update == Update((), Decision(Verdict.WAIT, update.decision.reason))
    assert update.decision.reason.startswith("cleared without the task that runs dbt")


@scenario
async def test_a_sensor_that_has_left_before_its_turn_keeps_nobody_from_building(airflow):
    over(airflow)
    airflow.states_of["shop.elsewhere"] = "running"
    order = []
    async with hub_of(airflow) as hub:
        first = asyncio.create_task(builds(hub, airflow, 1, order, after=("shop.elsewhere",)))
        second = asyncio.create_task(builds(hub, airflow, 2, order))
        assert await stays_waiting(second)
        first.cancel()
        assert await second is Verdict.BUILD
    assert order == [2]
