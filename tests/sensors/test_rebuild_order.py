"""Whose turn it is among the sensors of a project that wait to build their nodes."""

import asyncio

import pytest

from dbt_watch.core.task_states import OVER
from dbt_watch.sensors.rebuild_order import LOOKS, RebuildOrder
from dbt_watch.sensors.updates import Sensor


class States(dict):
    """The states of tasks, and what was asked for."""

    def __init__(self, **states):
        super().__init__(states)
        self.asked = []

    async def tell(self, task_ids):
        self.asked.append(task_ids)
        return {task_id: self.get(task_id) for task_id in task_ids}


def order_of(*sensors):
    order = RebuildOrder()
    for sensor in sensors:
        order.add(sensor.task_id, sensor)
    return order


def sensor(task_id, turn=0, after=()):
    return Sensor(unique_ids=(f"model.shop.{task_id}",), task_id=task_id, turn=turn, after=tuple(after))


def next_of(order, states=None):
    return asyncio.run(order.next((states or States()).tell))


def test_nobody_is_asked_where_nobody_waits():
    states = States()
    assert next_of(order_of(), states) is None
    assert not states.asked


def test_an_order_is_true_as_long_as_somebody_waits():
    order = order_of(sensor("a", 1))
    assert order
    next_of(order)
    assert not order


def test_the_first_along_the_lineage_builds_without_a_question_and_does_not_wait_any_more():
    states = States()
    order = order_of(sensor("b", 2), sensor("a", 1), sensor("c", 3))
    assert next_of(order, states) == "a"
    assert not states.asked
    assert "a" not in order
    assert "b" in order


@pytest.mark.parametrize("state", ["scheduled", "queued", "running", "deferred", "up_for_retry"])
def test_while_one_builds_the_others_wait(state):
    order = order_of(sensor("a", 1), sensor("b", 2))
    next_of(order)
    states = States(a=state)
    assert next_of(order, states) is None
    assert "b" in order
    assert states.asked == [("a",)]


@pytest.mark.parametrize("state", [*sorted(OVER), None])
def test_when_one_has_built_or_was_cleared_once_more_the_next_builds(state):
    order = order_of(sensor("a", 1), sensor("b", 2))
    next_of(order)
    assert next_of(order, States(a=state)) == "b"
    assert not order


@pytest.mark.parametrize(
    ("states", "turn"),
    [
        ({"x": "success", "y": "failed"}, "a"),
        ({"x": "success", "y": "upstream_failed"}, "a"),
        ({"x": "success", "y": "running"}, None),
        ({"x": None, "y": "success"}, None),
    ],
)
def test_a_sensor_waits_until_all_tasks_before_it_have_ended_however_they_do(states, turn):
    states = States(**states)
    order = order_of(sensor("a", 1, after=("x", "y")), sensor("b", 2))
    assert next_of(order, states) == turn
    assert states.asked == [("x", "y")]
    assert ("a" in order) is (turn is None)


def test_a_sensor_waits_for_the_one_that_builds_and_for_the_tasks_before_it():
    order = order_of(sensor("a", 1), sensor("b", 2, after=("x",)))
    next_of(order)
    states = States(a="running", x="success")
    assert next_of(order, states) is None
    assert states.asked == [("a", "x")]
    assert next_of(order, States(a="success", x="running")) is None
    assert next_of(order, States(a="success", x="success")) == "b"


def test_one_that_has_to_wait_once_more_holds_nobody_back():
    order = order_of(sensor("a", 2), sensor("b", 1))
    assert next_of(order) == "b"
    order.add("b again", sensor("b", 3))
    states = States(b="deferred")
    assert next_of(order, states) == "a"
    assert not states.asked


def test_another_one_that_comes_to_wait_does_not_let_two_build_at_once():
    order = order_of(sensor("a", 1))
    next_of(order)
    order.add("b", sensor("b", 2))
    assert next_of(order, States(a="running")) is None


def test_one_that_leaves_while_it_waits_is_passed_over():
    order = order_of(sensor("a", 1), sensor("b", 2))
    order.remove("a")
    order.remove("never here")
    assert next_of(order) == "b"


def test_one_that_leaves_while_airflow_is_asked_does_not_build_and_holds_nobody_back():
    order = order_of(sensor("a", 1, after=("x",)), sensor("b", 2))

    async def tell(task_ids):
        order.remove("a")
        return dict.fromkeys(task_ids, "success")

    assert asyncio.run(order.next(tell)) is None
    states = States()
    assert next_of(order, states) == "b"
    assert not states.asked


def test_the_turn_stays_with_whoever_has_it_when_airflow_does_not_answer():
    order = order_of(sensor("a", 1, after=("x",)))

    async def fails(task_ids):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(order.next(fails))
    assert next_of(order, States(x="success")) == "a"


@pytest.mark.parametrize("seen", ["scheduled", "queued", "running"])
def test_one_that_waits_once_more_in_another_process_lets_the_next_one_go(seen):
    states = States(a="deferred")
    order = order_of(sensor("a", 2))
    assert next_of(order, states) == "a"
    order.add("b", sensor("b", 1))
    assert next_of(order, states) is None  # its trigger has not told anybody yet
    states["a"] = seen
    assert next_of(order, states) is None
    states["a"] = "deferred"
    assert next_of(order, states) == "b"


def test_one_that_was_never_seen_to_leave_the_triggerer_is_waited_for_for_half_a_minute():
    states = States(a="deferred")
    order = order_of(sensor("a", 2))
    assert next_of(order, states) == "a"
    order.add("b", sensor("b", 1))
    assert [next_of(order, states) for _ in range(LOOKS)] == [*[None] * (LOOKS - 1), "b"]
    # The same counts anew for each.
    order.add("c", sensor("c", 3))
    states["b"] = "deferred"
    assert next_of(order, states) is None
