"""What a sensor says of what it waits for: when, how often, and in what words."""

import asyncio
from datetime import datetime, timezone

import pytest
from test_hub import Airflow

from dbt_watch.core.outcome import Verdict
from dbt_watch.core.results import NodeResult
from dbt_watch.sensors.hub import Hub, Subscription
from dbt_watch.sensors.updates import Sensor
from dbt_watch.sensors.waits import AT_ONCE, MAX_VISITS, Waits, words_for


def at(second):
    return datetime(2026, 11, 26, 12, 0, second, tzinfo=timezone.utc)


def node(name):
    return f"model.shop.{name}"


def entries(**statuses):
    return {
        node(name): NodeResult(unique_id=node(name), name=name, status=status, started_at=at(59 - number))
        for number, (name, status) in enumerate(statuses.items())
    }


def sensor(name, *upstream):
    return Sensor(unique_ids=(node(name),), task_id=name, upstream=upstream)


def words(waiting, sensors=(), **statuses):
    found = {each.task_id: each for each in sensors}
    return words_for(waiting, entries(**statuses), found.get)


# The words.


def test_where_nothing_is_known_of_what_comes_before_it_names_what_runs_the_longest_first():
    said = words(sensor("z"), a="started", b="success", c="started", d="error")
    assert said == "dbt is running c, a (2 nodes are done)"


def test_of_many_nodes_that_run_it_names_a_few():
    said = words(sensor("z"), **{f"m{number}": "started" for number in range(8)})
    assert said == "dbt is running m7, m6, m5, m4, m3 and 3 more (0 nodes are done)"


def test_what_runs_before_the_node_counts_directly_or_through_others_and_nothing_else():
    sensors = [sensor("c", "b", "start"), sensor("b", "a"), sensor("a"), sensor("other")]
    assert words(sensors[0], sensors, a="started", other="started", d="success") == (
        "dbt is running a, upstream of this node (1 node is done)"
    )


def test_where_nothing_runs_before_the_node_it_names_what_runs():
    sensors = [sensor("b", "a"), sensor("a")]
    assert words(sensors[0], sensors, other="started") == "dbt is running other (0 nodes are done)"


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ({}, "dbt has started, but is running no node yet"),
        ({"a": "success"}, "dbt is running no node at the moment (1 node is done)"),
    ],
)
def test_a_moment_in_which_no_node_runs_is_told_as_that(statuses, said):
    assert words(sensor("z"), **statuses) == said


def test_in_a_circle_and_in_a_project_of_any_size_few_tasks_are_looked_at():
    looked = []

    def sensor_of(task_id):
        looked.append(task_id)
        number = int(task_id)
        return sensor(task_id, str(number // 2), str(number + 1), str(number + 2))

    words_for(sensor("0", "1"), {}, sensor_of)
    assert len(looked) <= MAX_VISITS + 3
    assert len(looked) == len(set(looked))


# The time.


def test_each_says_so_after_a_while_and_then_after_twice_as_long_each_time():
    waits = Waits(30)
    waits.add("a")
    said = [now for now in range(1_000) if list(waits.due(now))]
    assert said == [30, 90, 210, 450, 930]


def test_many_do_not_all_say_so_at_once():
    waits = Waits(30)
    for number in range(3 * AT_ONCE):
        waits.add(number)
    assert list(waits.due(0)) == []
    told = [list(waits.due(30)) for _ in range(4)]
    assert [len(some) for some in told] == [AT_ONCE, AT_ONCE, AT_ONCE, 0]
    assert sorted(number for some in told for number in some) == list(range(3 * AT_ONCE))


def test_what_has_gone_is_forgotten_and_what_comes_has_its_own_time():
    waits = Waits(30)
    waits.add("a")
    assert list(waits.due(0)) == []
    waits.add("b")
    waits.remove("a")
    assert [(now, *waits.due(now)) for now in range(10, 41, 10)] == [(10,), (20,), (30,), (40, "b")]


def test_an_attempt_that_has_not_begun_starts_the_time_anew():
    waits = Waits(30)
    waits.add("a")
    assert [now for now in range(100) if list(waits.due(now))] == [30, 90]
    waits.restart()
    assert [now for now in range(100, 200) if list(waits.due(now))] == [130, 190]


# In a hub.


class Scene:
    """A hub that looks once a second, by a clock of our own, and the sensors that wait there."""

    def __init__(self):
        self.airflow, self.now, self.log = Airflow(), 0.0, {}
        self.hub = Hub("build.dbt_build", self.airflow)

    def subscribe(self, *sensors):
        for each in sensors:
            self.log[each.task_id] = Subscription(self.hub, each)
            self.hub.add(self.log[each.task_id])

    async def look(self, seconds):
        for _ in range(seconds):
            newcomers = [item for item in self.hub._subscriptions if not item.verified]
            await self.hub._look(self.now, verify=bool(newcomers))
            self.hub._welcome(newcomers)
            self.now += 1.0

    def reasons(self, task_id):
        updates, found = self.log[task_id]._updates, []
        while not updates.empty():
            update = updates.get_nowait()
            assert update.decision.verdict is Verdict.WAIT or update.is_over
            found += filter(None, [update.decision.reason])
        return found


@pytest.fixture
def scene():
    return Scene()


def test_sensors_say_what_they_wait_for_and_one_whose_node_runs_does_not(scene):
    async def act():
        scene.subscribe(sensor("a"), sensor("b", "a"), sensor("c", "b"))
        await scene.look(300)
        assert {task: scene.reasons(task) for task in "abc"} == {
            task: ["dbt has not started"] for task in "abc"
        }
        scene.airflow.begin(1)
        scene.airflow.report(node("a"), "started", started_at=at(1))
        scene.airflow.report(node("other"), "started", started_at=at(2))
        await scene.look(40)
        before = "dbt is running a, upstream of this node (0 nodes are done)"
        assert {task: scene.reasons(task) for task in "abc"} == {"a": [], "b": [before], "c": [before]}
        scene.airflow.report(node("a"), "success")
        await scene.look(60)
        assert {task: scene.reasons(task) for task in "abc"} == {
            "a": [],
            "b": ["dbt is running other (1 node is done)"],
            "c": ["dbt is running other (1 node is done)"],
        }

    asyncio.run(act())


def test_it_costs_no_request_and_hardly_a_line_however_long_dbt_runs():
    async def act(count):
        scene = Scene()
        scene.airflow.begin(1)
        scene.airflow.report(node("first"), "started", started_at=at(1))
        scene.subscribe(*(sensor(f"m{number}") for number in range(count)))
        await scene.look(3_600)
        return scene.airflow.requests, [len(scene.reasons(task)) for task in scene.log]

    few, _ = asyncio.run(act(2))
    many, lines = asyncio.run(act(300))
    assert few == many
    assert set(lines) == {1}  # nothing has changed


def test_a_sensor_that_waits_for_another_attempt_says_that_and_nothing_else(scene):
    async def act():
        scene.airflow.begin(1, will_retry=True)
        scene.subscribe(sensor("a"), sensor("b", "a"))
        scene.airflow.report(node("a"), "error", message="no such table")
        await scene.look(200)
        assert scene.reasons("a") == ["a: error: no such table\nthe next attempt will build it again"]
        scene.airflow.close(1)
        await scene.look(200)
        assert [reason for reason in scene.reasons("b") if "next attempt" not in reason] == [
            "dbt is running no node at the moment (1 node is done)"
        ]

    asyncio.run(act())


def test_a_sensor_that_was_cleared_while_dbt_runs_waits_for_no_node_of_this_attempt(scene):
    async def act():
        scene.airflow.begin(1)
        scene.airflow.report(node("a"), "started")
        cleared = Sensor(unique_ids=(node("b"),), task_id="b", made_at=5.0, is_first_try=False)
        scene.subscribe(cleared)
        await scene.look(100)
        assert scene.reasons("b") == ["dbt has not started"]

    asyncio.run(act())
