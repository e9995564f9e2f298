"""How a sensor starts, from the scheduler or on a worker, and what it hands to its trigger."""

from datetime import datetime, timedelta, timezone
from pkgutil import resolve_name
from types import SimpleNamespace

import pytest

from dbt_watch.airflow import dag_authoring
from dbt_watch.airflow.compat import AirflowRescheduleException
from dbt_watch.core.outcome import Decision, Verdict
from dbt_watch.exceptions import ArgumentError
from dbt_watch.sensors import journal_look as once
from dbt_watch.sensors import operator as module
from dbt_watch.sensors.operator import (
    MAX_PAGES,
    NODE_EXECUTOR,
    DbtNodeSensor,
    pause_in_dag_test,
    raise_if_held_back,
)
from dbt_watch.sensors.trigger import NodeTrigger
from dbt_watch.sensors.updates import Update, sensor_of

ORDERS, CUSTOMERS = "model.shop.orders", "model.shop.customers"
MADE = "01a1fdf4-a6fc-7104-bb0c-9e8067d9ef50"
NOW = datetime(2026, 11, 26, tzinfo=timezone.utc)


def sensor_with(**arguments):
    names = {"task_id": "orders", "producer_task_id": "shop.dbt_build", "unique_ids": [ORDERS, CUSTOMERS]}
    return DbtNodeSensor(**names, **arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {}),
        ({"worker_for": ("warn", "skip")}, {"worker_for": ["skip", "warn"]}),
        ({"rebuild": SimpleNamespace(turn=3)}, {"turn": 3}),
    ],
)
def test_the_scheduler_can_make_the_trigger_and_a_worker_goes_on_after_it(monkeypatch, arguments, expected):
    monkeypatch.setattr(dag_authoring, "STARTS_FROM_TRIGGER", True)
    sensor = sensor_with(**arguments)
    assert sensor.start_from_trigger is True
    start = sensor.start_trigger_args
    assert resolve_name(start.trigger_cls) is NodeTrigger
    plain = {"worker_for": [], "turn": 0, "from_worker": False, "after": []}
    names = {"producer_task_id": "shop.dbt_build", "unique_ids": [ORDERS, CUSTOMERS]}
    assert NodeTrigger(**start.trigger_kwargs).serialize()[1] == {**names, **plain, **expected}
    assert getattr(sensor, start.next_method) == sensor.execute_complete


@pytest.mark.parametrize(("from_trigger", "airflow_can"), [(False, True), (True, False)])
def test_a_sensor_starts_on_a_worker_where_that_is_wanted_or_airflow_knows_no_other_way(
    monkeypatch, from_trigger, airflow_can
):
    monkeypatch.setattr(dag_authoring, "STARTS_FROM_TRIGGER", airflow_can)
    sensor = sensor_with(from_trigger=from_trigger)
    assert not sensor.start_from_trigger
    assert sensor.start_trigger_args is None


def test_a_sensor_is_shown_as_what_it_stands_for_and_takes_no_slot_of_a_pool():
    assert sensor_with(kind="dbt model").custom_operator_name == "dbt model"
    sensor = sensor_with(pool="narrow")
    assert (sensor.custom_operator_name, sensor.pool, sensor.pool_slots) == ("dbt node", "narrow", 0)


def test_a_sensor_for_the_executor_tells_it_all_it_needs_beside_what_others_are_told():
    config = {"pod_override": {"of": "somebody"}}
    rebuild = SimpleNamespace(turn=3)
    sensor = sensor_with(
        executor=NODE_EXECUTOR,
        executor_config=config,
        worker_for=("warn",),
        rebuild=rebuild,
        on_failure_callback=[print],
    )
    own = {
        "producer_task_id": "shop.dbt_build", "unique_ids": [ORDERS, CUSTOMERS], "worker_for": ["warn"], "turn": 3,
        "tells_failures": True,
    }  # fmt: skip
    assert sensor.executor_config == {**config, NODE_EXECUTOR: own}
    assert not sensor.start_from_trigger


def test_without_a_callback_for_failures_the_executor_has_nobody_to_tell_of_one():
    assert sensor_with(executor=NODE_EXECUTOR).executor_config[NODE_EXECUTOR]["tells_failures"] is False


def test_a_sensor_that_another_task_runs_dbt_for_after_all_says_so_to_whatever_starts_it(monkeypatch):
    monkeypatch.setattr(dag_authoring, "STARTS_FROM_TRIGGER", True)
    started = sensor_with(worker_for=("warn",))
    sent = sensor_with(executor=NODE_EXECUTOR, executor_config={"pod_override": "somebody's"})
    before = dict(started.start_trigger_args.trigger_kwargs)
    for sensor in (started, sent):
        sensor.follow("shop.dbt_build_2")
        assert sensor.producer_task_id == "shop.dbt_build_2"
    assert started.start_trigger_args.trigger_kwargs == {**before, "producer_task_id": "shop.dbt_build_2"}
    assert sent.executor_config.keys() == {"pod_override", NODE_EXECUTOR}
    assert sent.executor_config[NODE_EXECUTOR]["producer_task_id"] == "shop.dbt_build_2"


@pytest.fixture
def looks(monkeypatch):
    """Keep how a sensor looks, and let it find what it is told to."""
    looks = SimpleNamespace(how=[], found=Update((), Decision(Verdict.WAIT)), deferred=[])

    def look_once(task_instance, producer_task_id, sensor, *, max_pages):
        looks.how.append((task_instance, producer_task_id, sensor, max_pages))
        return looks.found

    def defer(self, *, trigger, method_name):
        looks.deferred.append((trigger.serialize()[1], method_name))

    monkeypatch.setattr(once, "look_once", look_once)
    monkeypatch.setattr(DbtNodeSensor, "defer", defer)
    return looks


@pytest.fixture
def in_dag_test(monkeypatch):
    def set_to(value):
        monkeypatch.setattr("dbt_watch.airflow.supervisor.runs_in_dag_test", lambda: value)

    set_to(False)
    return set_to


def context(try_number=1, **more):
    ti = SimpleNamespace(
        id=MADE, dag_id="shop", run_id="run", task_id="shop.orders", map_index=-1, try_number=try_number
    )
    return {"ti": ti, **more}


@pytest.mark.parametrize(
    ("looks_first", "try_number", "is_looking"),
    [(False, 1, False), (True, 1, True), (False, 2, True), (True, 2, True)],
)
def test_a_sensor_that_may_come_late_looks_a_little_before_it_is_deferred(
    looks, in_dag_test, looks_first, try_number, is_looking
):
    now = context(try_number)
    sensor_with(looks_first=looks_first).execute(now)
    expected = (now["ti"], "shop.dbt_build", sensor_of(now["ti"], [ORDERS, CUSTOMERS]), MAX_PAGES)
    assert looks.how == [expected] * is_looking
    ((arguments, method_name),) = looks.deferred
    assert method_name == "execute_complete"
    assert arguments["from_worker"]


def test_a_sensor_that_its_executor_has_sent_to_a_worker_looks_at_everything(looks, in_dag_test):
    sensor_with(executor=NODE_EXECUTOR).execute(context())
    assert [how[-1] for how in looks.how] == [None]


def test_a_sensor_that_its_executor_has_sent_to_build_has_its_turn(looks, in_dag_test, monkeypatch):
    looks.found = Update((), Decision(Verdict.BUILD))
    monkeypatch.setattr(DbtNodeSensor, "_build", lambda self, context: "built")
    assert sensor_with(executor=NODE_EXECUTOR).execute(context(2)) == "built"


def test_in_dag_test_a_sensor_looks_at_everything_and_then_lets_the_others_go_first(
    looks, in_dag_test, monkeypatch
):
    in_dag_test(True)
    monkeypatch.setattr(module.timezone, "utcnow", lambda: NOW)
    with pytest.raises(AirflowRescheduleException) as caught:
        sensor_with().execute(context(task_reschedule_count=2))
    assert [how[-1] for how in looks.how] == [None]
    assert caught.value.reschedule_date == NOW + timedelta(seconds=16)
    assert not looks.deferred


def test_a_sensor_that_was_cleared_alone_in_dag_test_waits_for_its_turn(looks, in_dag_test, monkeypatch):
    in_dag_test(True)
    looks.found = Update((), Decision(Verdict.BUILD))
    monkeypatch.setattr(DbtNodeSensor, "_is_cleared_alone", lambda self, context: False)
    sensor_with().execute(context(2))
    assert len(looks.deferred) == 1


@pytest.mark.parametrize(
    ("looks_before", "seconds"), [({}, 4), (None, 4), (0, 4), (1, 8), (2, 16), (3, 32), (4, 60), (5_000, 60)]
)
def test_in_dag_test_a_sensor_waits_twice_as_long_each_time_up_to_a_minute(looks_before, seconds):
    more = {} if looks_before == {} else {"task_reschedule_count": looks_before}
    assert pause_in_dag_test(context(**more)) == timedelta(seconds=seconds)


def test_tasks_in_front_of_a_sensor_are_named_in_the_refusal():
    with pytest.raises(ArgumentError) as caught:
        raise_if_held_back("orders", [SimpleNamespace(task_id="load"), "land"])
    assert caught.value.argument == "dependency"
    assert caught.value.value == "load, land >> orders"
    assert 'task >> project["orders"]' in caught.value.expected
