"""A sensor's trigger: how it ends the task for each decision, and what the task's log shows."""

import asyncio
from pkgutil import resolve_name
from types import SimpleNamespace
from uuid import UUID

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult, XComResult
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from test_hub import Airflow
from virtual_time import run

from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.outcome import Decision, Verdict
from dbt_watch.core.results import NodeResult
from dbt_watch.sensors import hub as hub_module
from dbt_watch.sensors.hub import DEFAULT_PACE, JournalSource, hub_for
from dbt_watch.sensors.trigger import NodeTrigger, needs_worker, parts, write_log
from dbt_watch.sensors.updates import Update

ORDERS, CUSTOMERS = "model.shop.orders", "model.shop.customers"
# Of version 7, of long ago: a task that was there before its producer began.
IDENTITY = UUID("00000000-05dc-7000-8000-000000000000")


def result(unique_id, status, **more):
    return NodeResult(
        unique_id=unique_id, name=unique_id.split(".")[-1], resource_type="model", status=status, **more
    )


def trigger_of(*unique_ids, task_id="shop.orders", **more):
    trigger = NodeTrigger(producer_task_id="shop.dbt_build", unique_ids=unique_ids, **more)
    trigger.task_instance = SimpleNamespace(
        id=IDENTITY, dag_id="shop", run_id="run", task_id=task_id, map_index=-1, try_number=1
    )
    return trigger


@pytest.mark.parametrize(
    ("verdict", "event"),
    [
        (Verdict.SUCCEED, TaskSuccessEvent),
        (Verdict.SKIP, TaskSkippedEvent),
        (Verdict.FAIL, TaskFailedEvent),
    ],
)
def test_each_decision_ends_the_task_as_it_says_with_what_dbt_reported(verdict, event):
    ended = result(ORDERS, "success")
    found = trigger_of(ORDERS)._event(Update((ended,), Decision(verdict)))
    assert type(found) is event
    assert found.xcoms == {"return_value": ended.to_dict()}


def test_a_task_that_goes_on_on_a_worker_takes_the_decision_with_it():
    ended = result(ORDERS, "error")
    found = trigger_of(ORDERS)._event(Update((ended,), Decision(Verdict.BUILD, "cleared on its own")))
    assert type(found) is TriggerEvent
    assert found.payload == {"verdict": "build", "reason": "cleared on its own", "results": ended.to_dict()}


@pytest.mark.parametrize(
    ("more", "stored"),
    [
        ({}, {}),
        ({"worker_for": ("warn", "succeed")}, {"worker_for": ["succeed", "warn"]}),
        ({"turn": 3, "after": ("shop.raw",)}, {"turn": 3, "after": ["shop.raw"]}),
        ({"from_worker": True}, {"from_worker": True}),
    ],
)
def test_another_triggerer_can_make_a_trigger_again_from_what_airflow_stores(more, stored):
    path, arguments = trigger_of(ORDERS, CUSTOMERS, **more).serialize()
    assert resolve_name(path) is NodeTrigger
    plain = {"worker_for": [], "turn": 0, "from_worker": False, "after": []}
    assert arguments == {
        "producer_task_id": "shop.dbt_build", "unique_ids": [ORDERS, CUSTOMERS], **plain, **stored
    }  # fmt: skip
    assert NodeTrigger(**arguments).serialize() == (path, arguments)


class Log(list):
    """A logger that keeps what it is told."""

    def info(self, text, *values):
        self.append(("info", text % values))

    def error(self, text, *values):
        self.append(("error", text % values))


def test_a_log_shows_what_became_of_each_node_and_then_why_the_task_ends():
    log = Log()
    results = (result(ORDERS, "started"), result(CUSTOMERS, "success"))
    write_log(log, Update(results, Decision(Verdict.FAIL, "orders: error: no such\n100% column")))
    assert log == [
        ("info", "dbt started model orders"),
        ("info", "model customers: success"),
        ("error", "failed: orders: error: no such"),
        ("error", "100% column"),
    ]


@pytest.mark.parametrize(
    ("verdict", "word"), [(Verdict.WAIT, "waiting"), (Verdict.SKIP, "skipped"), (Verdict.BUILD, "building")]
)
def test_only_a_failure_is_an_error_in_the_log(verdict, word):
    log = Log()
    write_log(log, Update((), Decision(verdict, "why")))
    assert log == [("info", f"{word}: why")]


def test_a_log_does_not_repeat_itself():
    log, printed = Log(), set()
    for results in ((result(ORDERS, "started"),), (result(ORDERS, "started"), result(CUSTOMERS, "started"))):
        write_log(log, Update(results, Decision(Verdict.WAIT, "dbt has not started")), printed)
    assert [text for _, text in log] == [
        "dbt started model orders",
        "waiting: dbt has not started",
        "dbt started model customers",
    ]


def test_a_log_leaves_the_reason_to_an_exception_that_will_tell_it():
    log = Log()
    write_log(log, Update((), Decision(Verdict.FAIL, "orders: error")), with_reason=False)
    write_log(log, Update((), Decision(Verdict.SUCCEED)))
    assert not log


@pytest.mark.parametrize(("count", "with_reason"), [(1, True), (250, True), (1, False)])
def test_a_task_whose_nodes_were_not_built_says_on_its_first_line_which_node_broke_them(count, with_reason):
    """On a worker too, where an exception says it once more at the end."""
    log, printed = Log(), set()
    results = tuple(result(f"model.shop.m{number}", "skipped") for number in range(count))
    decision = Decision(Verdict.FAIL, "m0: not built: upstream `orders` failed")
    for part in parts(Update(results, decision)):
        write_log(log, part, printed, with_reason=with_reason)
    assert log[0] == ("error", "failed: m0: not built: upstream `orders` failed")
    assert len(log) == 1 + count
    assert [kind for kind, _ in log].count("error") == 1


def test_a_node_that_was_built_comes_before_the_reason_why_its_task_fails():
    log = Log()
    results = (result(ORDERS, "success"), result(CUSTOMERS, "skipped"))
    write_log(log, Update(results, Decision(Verdict.FAIL, "customers: not built: upstream `a` failed")))
    assert [kind for kind, _ in log] == ["info", "info", "error"]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 250])
def test_many_results_are_shown_in_parts_and_the_decision_with_the_last(count):
    results = tuple(result(f"model.shop.m{number}", "success") for number in range(count))
    decision = Decision(Verdict.SKIP, "why")
    *first, last = parts(Update(results, decision))
    assert sum((part.results for part in [*first, last]), ()) == results
    assert {len(part.results) for part in first} <= {100}
    assert len(first) == max(0, count - 1) // 100
    assert not [part for part in first if part.decision != Decision(Verdict.WAIT)]
    assert last.decision == decision


class Supervisor(Airflow):
    """A producer's state and journal, as the supervisor of a triggerer tells of them."""

    async def asend(self, message):
        if isinstance(message, GetTaskStates):
            assert (message.dag_id, message.run_ids) == ("shop", ["run"])
            states = {"shop.dbt_build": self.current_state, **self.states_of}
            return TaskStatesResult(
                task_states={"run": {name: states.get(name) for name in message.task_ids}}
            )
        assert (message.task_id, message.map_index) == ("shop.dbt_build", -1)
        return XComResult(key=message.key, value=self.xcoms.get(message.key))


@pytest.fixture
def airflow(monkeypatch):
    airflow = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    return airflow


async def first_event(trigger):
    events = trigger.run()
    event = await asyncio.wait_for(anext(events), 60)
    await events.aclose()
    return event


def test_a_trigger_follows_the_journal_to_the_end_of_its_node(airflow, monkeypatch):
    log = Log()
    monkeypatch.setattr(NodeTrigger, "log", log)

    async def scene():
        airflow.begin(1)
        airflow.report(ORDERS, "started")
        waiting = asyncio.create_task(first_event(trigger_of(ORDERS)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        airflow.report(ORDERS, "success")
        return await waiting

    event = run(scene())
    assert type(event) is TaskSuccessEvent
    assert event.xcoms["return_value"]["status"] == "success"
    assert [text for _, text in log] == ["dbt started  orders", " orders: success"]


def test_the_log_of_a_task_of_several_nodes_shows_each_once(airflow, monkeypatch):
    log = Log()
    monkeypatch.setattr(NodeTrigger, "log", log)

    async def scene():
        airflow.begin(1)
        airflow.report(ORDERS, "success")
        waiting = asyncio.create_task(first_event(trigger_of(ORDERS, CUSTOMERS)))
        await asyncio.sleep(0.5)
        assert log
        airflow.report(CUSTOMERS, "success")
        await waiting

    run(scene())
    assert [text for _, text in log] == [" orders: success", " customers: success"]


def test_what_many_nodes_have_to_tell_keeps_no_other_trigger_waiting(airflow, monkeypatch):
    log, seen = Log(), set()
    monkeypatch.setattr(NodeTrigger, "log", log)
    nodes = [f"model.shop.m{number}" for number in range(350)]

    async def scene():
        airflow.begin(1)
        airflow.writer.add([result(unique_id, "success") for unique_id in nodes])
        airflow.close(0)
        waiting = asyncio.create_task(first_event(trigger_of(*nodes)))
        await asyncio.sleep(DEFAULT_PACE.gather)
        for _ in range(1_000):
            seen.add(len(log))
            await asyncio.sleep(0)
        assert waiting.done()

    run(scene())
    assert seen == {0, 100, 200, 300, 350}


def test_a_trigger_of_a_task_that_was_cleared_alone_takes_it_to_a_worker_in_its_turn(airflow):
    async def scene():
        airflow.begin(1)
        airflow.report(ORDERS, "success")
        airflow.close(0)
        airflow.current_state = "success"
        airflow.states_of = {"shop.raw_orders": "running"}
        trigger = trigger_of(ORDERS, turn=1, after=["shop.raw_orders"])
        trigger.task_instance.try_number = 2
        trigger.task_instance.id = UUID("0fffffff-ffff-7000-8000-000000000000")
        waiting = asyncio.create_task(first_event(trigger))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        airflow.states_of = {"shop.raw_orders": "success"}
        return await waiting

    assert run(scene()).payload["verdict"] == "build"


def test_tasks_that_were_cleared_alone_go_to_a_worker_in_their_order(airflow):
    async def scene():
        airflow.begin(1)
        airflow.close(0)
        airflow.current_state = "success"
        waiting = []
        for turn in (2, 1):
            trigger = trigger_of(f"model.shop.m{turn}", task_id=f"shop.m{turn}", turn=turn)
            trigger.task_instance.try_number = 2
            trigger.task_instance.id = UUID("0fffffff-ffff-7000-8000-000000000000")
            waiting.append(asyncio.create_task(first_event(trigger)))
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        ended = [task.done() for task in waiting]
        for task in waiting:
            task.cancel()
        return ended

    assert run(scene()) == [False, True]


def test_all_sensors_of_a_producer_share_a_hub_as_long_as_it_runs(airflow):
    key = key_of(trigger_of(ORDERS).task_instance, "shop.dbt_build")
    other = key_of(trigger_of(ORDERS).task_instance, "shop.another")

    async def scene():
        hub = hub_for(key)
        assert hub.name == "shop.dbt_build"
        assert hub_for(key) is hub
        assert hub_for(other) is not hub
        assert hub_for(other) is hub_for(other)
        assert set(hub_module._hubs) == {key, other}
        return hub

    first = run(scene())
    assert not hub_module._hubs
    assert run(scene()) is not first


def test_a_hub_that_ends_when_another_has_taken_its_place_leaves_that_alone(airflow, monkeypatch):
    key = key_of(trigger_of(ORDERS).task_instance, "shop.dbt_build")
    nobody_listens = asyncio.Event()

    async def ends(hub):
        await nobody_listens.wait()

    async def scene():
        first = hub_for(key)
        await asyncio.sleep(0)
        nobody_listens.set()
        await asyncio.sleep(0)
        nobody_listens.clear()
        second = hub_for(key)
        assert second is not first
        await asyncio.sleep(1)
        assert hub_for(key) is second

    monkeypatch.setattr(hub_module.Hub, "run", ends)
    run(scene())


def test_the_hubs_of_a_run_of_several_pods_ask_for_the_states_of_their_producers_together(airflow):
    ti = trigger_of(ORDERS).task_instance
    keys = [key_of(ti, f"shop.{name}") for name in ("dbt_build", "dbt_build_2", "orders")]
    asked = []
    send = airflow.asend

    async def asend(message):
        asked.append(message.task_ids)
        return await send(message)

    airflow.asend = asend

    async def scene(*keys):
        for key in keys:
            hub_for(key)
        sources = [JournalSource(key) for key in keys]
        return await asyncio.gather(*(source.state() for source in sources))

    airflow.current_state, airflow.states_of = "running", {"shop.orders": "queued"}
    assert run(scene(*keys)) == ["running", None, "queued"]
    assert asked == [["shop.dbt_build", "shop.dbt_build_2", "shop.orders"]]
    # Their hubs are gone, so one that comes later need not wait for them.
    run(scene(keys[0]))
    assert asked[1:] == [["shop.dbt_build"]]


@pytest.mark.parametrize(
    ("verdict", "status", "worker_for", "expected"),
    [
        (Verdict.BUILD, "success", (), True),
        (Verdict.SUCCEED, "success", (), False),
        (Verdict.SUCCEED, "warn", (), False),
        (Verdict.SUCCEED, "success", ("warn",), False),
        (Verdict.SUCCEED, "warn", ("warn",), True),
        (Verdict.FAIL, "warn", ("succeed", "warn"), True),
        (Verdict.SUCCEED, "success", ("succeed",), True),
        (Verdict.SKIP, "skipped", ("succeed",), False),
    ],
)
def test_a_worker_is_needed_for_a_build_and_for_the_ends_that_are_named(
    verdict, status, worker_for, expected
):
    update = Update((result(ORDERS, status),), Decision(verdict))
    assert needs_worker(update, worker_for) is expected
