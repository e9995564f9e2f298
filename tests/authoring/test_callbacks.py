"""Callbacks: which sensors need a worker for them, and what is in their context."""

from datetime import datetime

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TriggerEvent

from dbt_watch import NodeResult, dbt_k8s_project
from dbt_watch.core.outcome import Decision, Verdict
from dbt_watch.sensors.trigger import NodeTrigger
from dbt_watch.sensors.updates import Update


def tell(context):
    return context.get("dbt_results")


@pytest.fixture
def tasks_of(project):
    """Return the tasks of a project whose decorator, or whose DAG, has some callbacks."""

    def tasks_of(defaults=None, **callbacks):
        with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), default_args=defaults or {}) as dag:

            @dbt_k8s_project(manifest=project / "target/manifest.json", image="shop:1", **callbacks)
            def build(): ...

            build()
        return {task.task_id.removeprefix("build."): task for task in dag.tasks}

    return tasks_of


def on_a_worker(tasks):
    """Return the ends with which sensors go on on a worker; those without any are left out."""
    ends = {task_id: set(getattr(task, "worker_for", ())) for task_id, task in tasks.items()}
    return {task_id: found for task_id, found in ends.items() if found}


def test_without_callbacks_no_sensor_needs_a_worker(tasks_of):
    assert not on_a_worker(tasks_of())


@pytest.mark.parametrize(
    "arguments", [{"on_failure_callback": tell}, {"defaults": {"on_failure_callback": [tell]}}]
)
def test_a_callback_for_failures_is_for_all_tasks_and_needs_no_worker(tasks_of, arguments):
    tasks = tasks_of(**arguments)
    assert not on_a_worker(tasks)
    assert all(len(task.on_failure_callback) == 1 for task in tasks.values())


@pytest.mark.parametrize(
    ("name", "end"), [("on_success_callback", "succeed"), ("on_skipped_callback", "skip")]
)
def test_a_trigger_calls_nothing_for_a_success_or_a_skip_so_these_need_a_worker(tasks_of, name, end):
    for tasks in (tasks_of(**{name: tell}), tasks_of(defaults={name: tell})):
        assert on_a_worker(tasks) == {key: {end} for key in set(tasks) - {"dbt_build"}}


def test_only_what_can_warn_needs_a_worker_for_warnings(tasks_of):
    needing = on_a_worker(tasks_of(on_warning_callback=tell))
    assert {"orders.test", "stg_orders.test"} <= needing.keys()
    assert not needing.keys() & {"orders", "raw_orders", "orders.unit_test"}
    assert all(ends == {"warn"} for ends in needing.values())


NODE = "test.shop.not_null_orders_id"
GOOD, BAD, WARNED = (NodeResult(unique_id=NODE, status=status) for status in ("success", "error", "warn"))


@pytest.mark.parametrize(
    ("verdict", "results", "ends"),
    [
        (Verdict.SUCCEED, [GOOD], {"succeed"}),
        (Verdict.SUCCEED, [GOOD, WARNED], {"succeed", "warn"}),
        (Verdict.SKIP, [GOOD], {"skip"}),
        (Verdict.FAIL, [BAD], set()),
        (Verdict.FAIL, [BAD, WARNED], {"warn"}),
    ],
)
def test_a_trigger_asks_for_a_worker_only_when_there_is_something_to_call(verdict, results, ends):
    def goes_on(*worker_for):
        trigger = NodeTrigger(producer_task_id="build.dbt_build", unique_ids=[NODE], worker_for=worker_for)
        return type(trigger._event(Update(tuple(results), Decision(verdict)))) is TriggerEvent

    assert {end for end in ("succeed", "skip", "warn") if goes_on(end)} == ends
    assert not goes_on()


def test_the_same_ends_are_known_when_the_scheduler_starts_the_trigger(tasks_of):
    sensor = tasks_of(on_warning_callback=tell)["orders.test"]
    assert sensor._trigger_arguments()["worker_for"] == ["warn"]


class Sensor:
    """A task instance of which nothing matters but what it has left."""

    task_id = "build.orders"
    map_index = -1

    def __init__(self, value):
        self.value = value

    def xcom_pull(self, **which):
        assert which == {"task_ids": self.task_id, "key": "return_value", "map_indexes": -1}
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_the_context_of_a_sensors_callback_holds_its_results(tasks_of):
    (callback,) = tasks_of(on_failure_callback=tell)["orders"].on_failure_callback
    left = '{"unique_id": "model.shop.orders", "status": "error"}'
    (result,) = callback({"ti": Sensor(left)})
    assert (result.unique_id, result.status) == ("model.shop.orders", "error")
    assert callback({"ti": Sensor(None)}) == ()
    assert callback({"ti": Sensor(left), "dbt_results": "known"}) == "known"


def test_a_callback_is_called_although_the_results_cannot_be_read(tasks_of):
    (callback,) = tasks_of(on_failure_callback=tell)["orders"].on_failure_callback
    assert callback({"ti": Sensor(ConnectionError("gone"))}) == ()
