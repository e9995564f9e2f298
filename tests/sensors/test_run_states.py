"""The states of several producers of a run share a request."""

import asyncio

import pytest
import virtual_time

from dbt_watch.airflow.task_instances import TaskKey
from dbt_watch.sensors import run_states
from dbt_watch.sensors.run_states import WINDOW, RunStates


class Airflow:
    def __init__(self):
        self.asked = []
        self.states = {}

    async def ask(self, task_ids):
        self.asked.append(task_ids)
        await asyncio.sleep(0.01)
        if self.states is None:
            raise ConnectionError("500")
        return {task_id: self.states.get(task_id) for task_id in task_ids}


@pytest.fixture
def airflow():
    return Airflow()


def run_of(*task_ids):
    run = RunStates()
    for task_id in task_ids:
        run.join(task_id)
    return run


def test_one_that_is_alone_is_answered_at_once(airflow):
    async def scene():
        airflow.states["a"] = "running"
        assert await run_of("a").state("a", airflow.ask) == "running"
        return asyncio.get_running_loop().time()

    assert virtual_time.run(scene()) < WINDOW
    assert airflow.asked == [("a",)]


def test_those_that_ask_at_about_the_same_time_share_a_request(airflow):
    async def scene():
        run = run_of("a", "b", "c")
        airflow.states = {"a": "running", "b": "success"}

        async def late(task_id, seconds):
            await asyncio.sleep(seconds)
            return await run.state(task_id, airflow.ask)

        return await asyncio.gather(late("a", 0), late("b", WINDOW / 2), late("c", WINDOW * 0.9))

    assert virtual_time.run(scene()) == ["running", "success", None]
    assert airflow.asked == [("a", "b", "c")]


def test_an_answer_is_never_older_than_the_question(airflow):
    async def scene():
        run = run_of("a", "b")
        first = asyncio.ensure_future(run.state("a", airflow.ask))
        await asyncio.sleep(WINDOW + 0.005)  # it has been asked for, and not been answered
        airflow.states["b"] = "running"
        second = await run.state("b", airflow.ask)
        await first
        return second

    assert virtual_time.run(scene()) == "running"
    assert airflow.asked == [("a",), ("b",)]


def test_a_hub_that_goes_leaves_the_others_their_answer(airflow):
    async def scene():
        run = run_of("a", "b")
        airflow.states = {"b": "failed"}
        first = asyncio.ensure_future(run.state("a", airflow.ask))
        second = asyncio.ensure_future(run.state("b", airflow.ask))
        await asyncio.sleep(WINDOW / 2)
        first.cancel()
        return await second

    assert virtual_time.run(scene()) == "failed"


def test_an_error_reaches_all_who_have_asked_and_the_next_round_asks_anew(airflow):
    async def scene():
        run = run_of("a", "b")
        airflow.states = None
        answers = await asyncio.gather(
            run.state("a", airflow.ask), run.state("b", airflow.ask), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError]
        airflow.states = {"a": "success"}
        return await run.state("a", airflow.ask)

    assert virtual_time.run(scene()) == "success"


def test_hundreds_of_hubs_of_a_run_cost_two_requests_a_second(airflow):
    async def scene():
        names = [f"n{number:03}" for number in range(300)]
        run = run_of(*names)

        async def hub(number, name):
            await asyncio.sleep(number / 75)
            for _ in range(5):
                await run.state(name, airflow.ask)
                await asyncio.sleep(4)

        await asyncio.gather(*(hub(number, name) for number, name in enumerate(names)))
        return asyncio.get_running_loop().time()

    seconds = virtual_time.run(scene())
    assert len(airflow.asked) <= seconds / WINDOW + 1


def test_a_run_is_forgotten_with_its_last_hub(monkeypatch):
    monkeypatch.setattr(run_states, "_runs", {})
    first, second = TaskKey("d", "r", "a"), TaskKey("d", "r", "b")
    run_states.join(first)
    run_states.join(second)
    run_states.leave(first)
    assert run_states._runs
    run_states.leave(second)
    assert not run_states._runs


def test_two_are_enough_to_share_a_request(airflow):
    async def scene():
        run = run_of("a", "b")
        airflow.states = {"a": "running", "b": "queued"}
        return await asyncio.gather(run.state("a", airflow.ask), run.state("b", airflow.ask))

    assert virtual_time.run(scene()) == ["running", "queued"]
    assert airflow.asked == [("a", "b")]


def test_a_round_asks_for_those_who_wait_for_it_and_for_no_others(airflow):
    async def scene():
        run = run_of("a", "b", "c")
        await asyncio.gather(run.state("a", airflow.ask), run.state("c", airflow.ask))
        await run.state("b", airflow.ask)

    virtual_time.run(scene())
    assert airflow.asked == [("a", "c"), ("b",)]


def test_one_that_stays_alone_does_not_wait_for_those_that_have_left(airflow):
    async def scene():
        run = run_of("a", "b")
        assert run.leave("b") is False
        await run.state("a", airflow.ask)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(scene()) < WINDOW


@pytest.fixture
def hubs(monkeypatch):
    """Let there be hubs of some producers, and of no others."""
    monkeypatch.setattr(run_states, "_runs", {})

    def make(*keys):
        for key in keys:
            run_states.join(key)

    return make


def ask_together(airflow, *keys):
    async def scene():
        return await asyncio.gather(*(run_states.state_of(key, airflow.ask) for key in keys))

    return virtual_time.run(scene())


def test_hubs_of_one_run_share_a_request(airflow, hubs):
    first, second = TaskKey("d", "r", "a"), TaskKey("d", "r", "b")
    hubs(first, second)
    airflow.states = {"a": "running", "b": "success"}
    assert ask_together(airflow, first, second) == ["running", "success"]
    assert airflow.asked == [("a", "b")]


@pytest.mark.parametrize(
    "other", [TaskKey("another", "r", "a"), TaskKey("d", "another", "a"), TaskKey("d", "r", "a", 1)]
)
def test_hubs_of_other_runs_are_never_answered_by_the_same_request(airflow, hubs, other):
    key = TaskKey("d", "r", "a")
    hubs(key, other)
    ask_together(airflow, key, other)
    assert airflow.asked == [("a",), ("a",)]


def test_a_producer_of_which_no_hub_is_known_is_asked_for_at_once(airflow, hubs):
    async def scene():
        assert await run_states.state_of(TaskKey("d", "r", "a"), airflow.ask) is None
        return asyncio.get_running_loop().time()

    assert virtual_time.run(scene()) < WINDOW
    run_states.leave(TaskKey("d", "r", "a"))
