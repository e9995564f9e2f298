"""A sensor that was cleared without its producer, on the worker on which it is to build its node."""

from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetTaskStates, TaskStatesResult, XComResult

from dbt_watch.airflow import supervisor
from dbt_watch.airflow.compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from dbt_watch.airflow.supervisor import SupervisorError
from dbt_watch.core.assets import TrackedAssets
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.results import NodeResult
from dbt_watch.exceptions import ProjectIsBusy
from dbt_watch.sensors.operator import DbtNodeSensor

ORDERS = "model.shop.orders"
MADE = "01a1fdf4-a6fc-7104-bb0c-9e8067d9ef50"


class Deferred(Exception):
    """Stands for Airflow's own, which needs more of a task around it."""


class Alone:
    """How the node would be built."""

    turn = 4

    def __init__(self):
        self.runs = 0
        self.is_busy = False
        self.held_by = []

    def barriers(self):
        return self.held_by

    def parents(self):
        return ["shop.raw", "shop.staged"]

    def others(self):
        return [*self.parents(), *(f"shop.other_{number:04d}" for number in range(1_000))]

    def run(self, context):
        self.runs += 1
        if self.is_busy:
            raise ProjectIsBusy("dbt runs in pod p of shop.other")
        return [NodeResult(unique_id=ORDERS, status="success")], Closed(0)

    def kill(self):
        pass


class Airflow:
    """States of tasks, and no journal."""

    def __init__(self):
        self.states = {"shop.dbt_build": "success"}
        self.default = "success"
        self.silent = 0
        self.requests = 0

    def send(self, message):
        if not isinstance(message, GetTaskStates):
            return XComResult(key=message.key, value=None)
        self.requests += 1
        if self.silent:
            self.silent -= 1
            return ErrorResponse()
        states = {task: self.states.get(task, self.default) for task in message.task_ids}
        return TaskStatesResult(task_states={"run": states})


@pytest.fixture
def airflow(monkeypatch):
    airflow = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    monkeypatch.setattr(supervisor, "_PAUSE_FIRST", 0.001)
    return airflow


@pytest.fixture
def sensor(monkeypatch):
    sensor = DbtNodeSensor(
        task_id="orders", producer_task_id="shop.dbt_build", unique_ids=[ORDERS], rebuild=Alone()
    )
    sensor.triggers = []

    def defer(*, trigger, method_name):
        assert callable(getattr(sensor, method_name))
        sensor.triggers.append(trigger)
        raise Deferred

    monkeypatch.setattr(sensor, "defer", defer)
    return sensor


def context():
    ti = SimpleNamespace(
        id=MADE, dag_id="shop", run_id="run", task_id="shop.orders", map_index=-1, try_number=2,
        xcom_push=lambda **_: None,
    )  # fmt: skip
    return {"ti": ti}


def go_on(sensor):
    """The trigger has told that it is the sensor's turn."""
    return sensor.execute_complete(context(), {"verdict": "build", "reason": "", "results": {}})


def waits_for(sensor):
    (trigger,) = sensor.triggers
    return (trigger.after, trigger.turn, trigger.from_worker)


def test_a_sensor_that_was_cleared_arebuilds_its_node_at_once(airflow, sensor):
    assert sensor.execute(context())["unique_id"] == ORDERS
    assert sensor._rebuild.runs == 1


@pytest.mark.parametrize(
    ("states", "error", "words"),
    [
        ({"fit": "failed"}, AirflowFailException, "not built: task fit failed"),
        ({"fit": "upstream_failed"}, AirflowFailException, "not built: task fit failed"),
        ({"fit": "skipped"}, AirflowSkipException, "not built: task fit was skipped"),
        ({"fit": "running"}, AirflowRescheduleException, ""),
        ({"fit": None}, AirflowRescheduleException, ""),
    ],
)
def test_a_sensor_that_was_cleared_builds_nothing_over_a_task_before_its_node_that_has_not_ended_well(
    airflow, sensor, states, error, words
):
    airflow.states |= states
    sensor._rebuild.held_by = ["fit"]
    with pytest.raises(error, match=words):
        go_on(sensor)
    assert sensor._rebuild.runs == 0


def test_a_sensor_that_was_cleared_builds_its_node_after_a_task_that_has_ended_well(airflow, sensor):
    sensor._rebuild.held_by = ["fit"]
    go_on(sensor)
    assert sensor._rebuild.runs == 1


@pytest.mark.parametrize("other", ["shop.raw", "shop.other_0999"])
def test_one_of_several_that_were_cleared_waits_for_its_turn_in_the_triggerer(airflow, sensor, other):
    airflow.states[other] = "deferred"
    with pytest.raises(Deferred):
        sensor.execute(context())
    assert waits_for(sensor) == ((), 4, True)
    assert not sensor._rebuild.runs


def test_one_of_many_that_were_cleared_learns_so_from_one_question(airflow, sensor):
    airflow.default = None
    with pytest.raises(Deferred):
        sensor.execute(context())
    assert airflow.requests == 2  # the other one is for the producer's state


def test_a_sensor_whose_parent_has_not_ended_waits_for_it_without_a_worker(airflow, sensor):
    airflow.states["shop.staged"] = "queued"
    with pytest.raises(Deferred):
        go_on(sensor)
    assert waits_for(sensor) == (("shop.staged",), 4, True)


def test_a_sensor_whose_producer_was_cleared_meanwhile_waits_for_that(airflow, sensor):
    airflow.states["shop.dbt_build"] = "running"
    with pytest.raises(Deferred):
        go_on(sensor)
    assert waits_for(sensor) == ((), 4, True)
    assert not sensor._rebuild.runs


@pytest.mark.parametrize(
    ("states", "failed"),
    [
        ({"shop.raw": "failed"}, "shop.raw"),
        ({"shop.staged": "upstream_failed", "shop.raw": "queued"}, "shop.staged"),
        ({"shop.raw": "failed", "shop.staged": "failed"}, "shop.raw, shop.staged"),
    ],
)
def test_a_sensor_whose_parent_has_failed_fails(airflow, sensor, states, failed):
    airflow.states.update(states)
    with pytest.raises(AirflowFailException, match=rf"^not built: upstream {failed} failed$"):
        go_on(sensor)
    assert not sensor._rebuild.runs


@pytest.mark.parametrize("producer", ["failed", "skipped", "removed"])
def test_a_sensor_builds_however_its_producer_ended_and_after_parents_that_were_skipped(
    airflow, sensor, producer
):
    airflow.states.update({"shop.dbt_build": producer, "shop.raw": "skipped"})
    assert go_on(sensor)["unique_id"] == ORDERS


@pytest.mark.parametrize(("status", "exit_code"), [("error", 1), ("error", None)])
def test_a_sensor_ends_as_its_own_build_does(airflow, sensor, status, exit_code):
    result, now = NodeResult(unique_id=ORDERS, status=status, message="no such table"), context()
    built_in = []

    def run(context):
        built_in.append(context)
        return [result], Closed(exit_code)

    sensor._rebuild.run = run
    with pytest.raises(AirflowFailException, match="no such table"):
        sensor.execute_complete(now, {"verdict": "build", "reason": "", "results": {}})
    assert built_in == [now]
    assert now["dbt_results"] == (result,)


def test_a_sensor_that_knows_of_no_way_to_build_its_node_says_so(airflow):
    sensor = DbtNodeSensor(task_id="orders", producer_task_id="shop.dbt_build", unique_ids=[ORDERS])
    with pytest.raises(AirflowFailException, match="cleared on its own"):
        go_on(sensor)


def test_a_sensor_that_finds_dbt_running_elsewhere_waits_for_another_turn(airflow, sensor):
    sensor._rebuild.is_busy = True
    with pytest.raises(Deferred):
        go_on(sensor)
    assert waits_for(sensor) == ((), 4, True)


def test_an_airflow_that_answers_late_fails_no_build(airflow, sensor):
    airflow.silent = 3
    assert go_on(sensor)["unique_id"] == ORDERS


def test_an_airflow_that_does_not_answer_for_a_minute_fails_a_build_that_nobody_else_could_make(
    airflow, sensor, monkeypatch
):
    slept = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(supervisor, "time", clock)
    airflow.silent = 1_000
    with pytest.raises(SupervisorError):
        go_on(sensor)
    assert 45 < sum(slept) <= 60
    assert not sensor._rebuild.runs


def test_an_airflow_that_answers_badly_fails_no_sensor(airflow, sensor):
    airflow.silent = 1
    with pytest.raises(Deferred):
        sensor.execute(context())


def test_one_that_does_not_learn_of_the_others_waits_for_its_turn(airflow, sensor, monkeypatch):
    def others():
        airflow.silent = 1
        return ["shop.raw"]

    monkeypatch.setattr(sensor._rebuild, "others", others)
    with pytest.raises(Deferred):
        sensor.execute(context())
    assert not sensor._rebuild.runs


@pytest.mark.parametrize("tells_assets", [True, False])
def test_a_node_that_was_built_alone_is_told_by_its_asset_once(airflow, sensor, monkeypatch, tells_assets):
    told = []
    monkeypatch.setattr("dbt_watch.airflow.asset_events.tell", lambda _, events: told.extend(events))
    sensor.assets, sensor.tells_assets = TrackedAssets("shop", {ORDERS: None}), tells_assets
    sensor.execute(context())
    assert [event.alias for event in told] == [f"dbt://shop/{ORDERS}"]
