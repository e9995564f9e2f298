"""What a sensor makes of a journal that may be of another run of its producer."""

from types import SimpleNamespace
from uuid import UUID

import msgspec
import pytest

from dbt_watch.core.journal.format import Closed
from dbt_watch.core.outcome import Producer, Verdict
from dbt_watch.core.results import NodeResult
from dbt_watch.sensors.updates import Sensor, final_update, sensor_of, update_of

ORDERS = "model.shop.orders"
BUILT = {ORDERS: NodeResult(unique_id=ORDERS, name="orders", status="success")}
# Airflow's id of a task instance that was made at this second.
MADE = UUID("01a1fdf4-a6fc-7104-bb0c-9e8067d9ef50")
AT = 1795262031.612


def verdict(state, entries, *, began, made_at, is_first_try=False, has_waited=False, closed=None):
    sensor = Sensor(unique_ids=(ORDERS,), made_at=made_at, is_first_try=is_first_try)
    return update_of(sensor, Producer(state, closed), entries, began, has_waited=has_waited).decision.verdict


@pytest.mark.parametrize("seconds", [0.0, 4.9, 6.4, 600.0])
def test_however_long_a_clear_takes_its_sensors_believe_the_attempt_that_follows(seconds):
    """Airflow makes what is cleared together one after the other, the producer first or last."""
    assert verdict("running", BUILT, began=100.0 + seconds, made_at=100.0) is Verdict.SUCCEED
    assert verdict("running", BUILT, began=100.0 + seconds, made_at=100.0 + seconds) is Verdict.SUCCEED


def test_a_sensor_that_was_cleared_a_moment_after_the_attempt_began_builds_its_node_alone():
    assert verdict("success", BUILT, began=100.0, made_at=100.1, closed=Closed(0)) is Verdict.BUILD
    assert verdict("running", BUILT, began=100.0, made_at=100.1) is Verdict.WAIT


@pytest.mark.parametrize("state", ["running", "deferred"])
def test_a_sensor_that_never_started_does_not_believe_the_journal_of_a_run_that_was_cleared(state):
    closed = Closed(0)
    assert verdict(state, BUILT, began=1.0, made_at=2.0, is_first_try=True, closed=closed) is Verdict.WAIT
    assert verdict(state, BUILT, began=3.0, made_at=2.0, is_first_try=True) is Verdict.SUCCEED


def test_a_node_that_was_added_after_the_run_is_built_alone():
    assert (
        verdict("success", {}, began=1.0, made_at=2.0, is_first_try=True, closed=Closed(0)) is Verdict.BUILD
    )


def test_two_clocks_that_differ_make_no_pods():
    """The worker's clock is behind that of the scheduler, which has made the sensor."""
    closed = Closed(0)
    assert (
        verdict("success", BUILT, began=99.0, made_at=100.0, is_first_try=True, closed=closed)
        is Verdict.SUCCEED
    )


@pytest.mark.parametrize(
    ("state", "expected"), [("failed", Verdict.FAIL), ("success", Verdict.FAIL), ("running", Verdict.WAIT)]
)
def test_a_sensor_that_runs_for_the_first_time_builds_nothing_where_there_is_no_journal(state, expected):
    assert verdict(state, {}, began=0.0, made_at=100.0, is_first_try=True) is expected


@pytest.mark.parametrize(
    ("map_index", "try_number", "made_at"),
    [(-1, 1, AT), (None, 1, AT), (-1, 2, AT), (3, 2, AT), (3, 1, 0.0), (0, 1, 0.0)],
)
def test_only_the_first_try_in_a_mapped_group_may_have_been_made_after_its_producer_began(
    map_index, try_number, made_at
):
    ti = SimpleNamespace(id=MADE, task_id="shop.orders", map_index=map_index, try_number=try_number)
    sensor = sensor_of(ti, [ORDERS], turn=3, after=["shop.raw"])
    assert sensor.made_at == pytest.approx(made_at)
    assert (sensor.is_first_try, sensor.turn, sensor.after) == (try_number == 1, 3, ("shop.raw",))
    assert (sensor.unique_ids, sensor.task_id) == ((ORDERS,), "shop.orders")
    assert sensor_of(ti, [ORDERS]) == msgspec.structs.replace(sensor, turn=0, after=())


@pytest.mark.parametrize(
    ("exit_code", "expected"), [(0, Verdict.SKIP), (1, Verdict.FAIL), (None, Verdict.FAIL)]
)
def test_what_dbt_skipped_in_a_build_of_its_own_fails_a_sensor_only_if_dbt_failed(exit_code, expected):
    skipped = NodeResult(unique_id=ORDERS, name="orders", status="skipped")
    update = final_update([ORDERS], [skipped], Closed(exit_code))
    assert update.decision.verdict is expected
    assert update.results == (skipped,)


def test_a_sensor_whose_own_build_tells_nothing_of_its_node_says_how_dbt_ended():
    decision = final_update([ORDERS], [], Closed(137, "out of memory")).decision
    assert decision.verdict is Verdict.FAIL
    assert "(out of memory)" in decision.reason
