"""Airflow's side of the executor: what it takes, what it tells the process that watches, and what it does as told."""

import os
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.executors.base_executor import BaseExecutor
from airflow.executors.executor_loader import ExecutorLoader
from airflow.executors.executor_utils import ExecutorName
from airflow.executors.workloads import BundleInfo, ExecuteTask
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.utils.state import TaskInstanceState

import dbt_watch
from dbt_watch.exceptions import ArgumentError
from dbt_watch.executor import node_executor as module
from dbt_watch.executor.messages import Begun, Ended, Failing, Gone, NeedsWorker, Told
from dbt_watch.sensors.operator import NODE_EXECUTOR, DbtNodeSensor

ORDERS = "model.shop.orders"


class Process:
    """The process that watches, played."""

    def __init__(self, url):
        self.url, self.orders, self.reports = url, [], []
        self.begun = self.stopped = 0
        self.is_lost = True

    def revive(self):
        self.begun += self.is_lost
        was_lost, self.is_lost = self.is_lost, False
        return was_lost

    def send(self, order):
        self.orders.append(order)

    def receive(self):
        reports, self.reports = self.reports, []
        return reports

    def stop(self):
        self.stopped += 1


class Sink:
    """What takes requests for callbacks."""

    def __init__(self):
        self.sent = []

    def send(self, request):
        self.sent.append(request)


def sensor(**more):
    return DbtNodeSensor(
        task_id="orders",
        producer_task_id="shop.dbt_build",
        unique_ids=[ORDERS],
        executor=NODE_EXECUTOR,
        **more,
    )


def workload_of(config, task_id="shop.orders", **more):
    ti = TaskInstanceDTO(
        id=uuid.uuid4(), dag_id="shop", run_id="r", task_id=task_id, try_number=2, map_index=-1, dag_version_id=uuid.uuid4(),
        hostname=None, queue="default", pool_slots=0, priority_weight=1, executor_config=config,
        **more,
    )  # fmt: skip
    return ExecuteTask(
        ti=ti,
        token="",
        dag_rel_path=Path("shop.py"),
        log_path="shop/2.log",
        bundle_info=BundleInfo(name="dags"),
    )


@pytest.fixture
def to_workers(monkeypatch):
    """The tasks that were given to the default executor; an exception in it is raised."""
    given = []

    def to_default_executor(tasks):
        if given and isinstance(given[0], Exception):
            raise given.pop(0)
        given.extend(tasks)

    monkeypatch.setattr(module, "to_default_executor", to_default_executor)
    return given


@pytest.fixture
def executor(monkeypatch, to_workers):
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0123456789abcdef" * 4)
    monkeypatch.setattr(module, "Child", Process)
    monkeypatch.setattr(module, "default_executor", lambda: "airflow.executors.local_executor.LocalExecutor")
    executor = dbt_watch.NodeExecutor()
    executor.callback_sink = Sink()
    executor.start()
    return executor


def queue(executor, *workloads):
    for workload in workloads:
        executor.queue_workload(workload, session=None)
    executor.heartbeat()


def test_airflow_finds_it_by_the_name_that_is_configured_and_makes_it_without_starting_anything():
    found, _ = ExecutorLoader.import_executor_cls(ExecutorName(module_path=NODE_EXECUTOR))
    assert issubclass(found, BaseExecutor)
    assert found()._child is None


def test_it_takes_a_sensor_and_orders_it_to_be_watched(executor):
    workload = workload_of(sensor(worker_for=["succeed"], on_failure_callback=[print]).executor_config)
    queue(executor, workload)
    [order] = executor._child.orders
    assert (order.id, order.task_id, order.unique_ids) == (str(workload.ti.id), "shop.orders", (ORDERS,))
    assert (order.worker_for, order.tells_failures, order.log_path) == (("succeed",), True, "shop/2.log")
    assert (order.pid, order.try_number, order.has_begun) == (os.getpid(), 2, False)
    assert order.task_instance["dag_id"] == "shop"
    assert executor.has_task(SimpleNamespace(id=None, key=workload.key))
    assert not executor.queued_tasks


def test_its_tasks_take_no_slot_of_the_scheduler_however_many_they_are(executor):
    queue(executor, *(workload_of(sensor().executor_config, f"shop.n{number}") for number in range(100)))
    assert len(executor._child.orders) == 100
    assert executor.slots_occupied == 0
    assert executor.slots_available >= 10_000


def test_a_scheduler_leaves_its_tasks_in_the_queue_for_as_long_as_they_wait(executor):
    with pytest.raises(NotImplementedError):
        executor.revoke_task(ti=None)


@pytest.mark.parametrize("config", [None, {}, {"KubernetesExecutor": {"image": "x"}}])
def test_any_other_task_fails_with_an_explanation(executor, config):
    workload = workload_of(config)
    queue(executor, workload)
    assert executor._child.orders == []
    [(key, (state, info))] = executor.get_event_buffer().items()
    assert (key, state) == (workload.key, TaskInstanceState.FAILED)
    assert "runs only the tasks of dbt nodes" in info


def test_what_has_ended_is_forgotten_without_a_word_to_the_scheduler(executor):
    workload = workload_of(sensor().executor_config)
    queue(executor, workload)
    executor._child.reports = [Begun(str(workload.ti.id)), Ended(str(workload.ti.id))]
    executor.sync()
    assert not executor.running
    assert not executor.get_event_buffer()


@pytest.mark.parametrize(("had_begun", "states"), [(True, [TaskInstanceState.FAILED]), (False, [])])
def test_the_scheduler_hears_of_what_was_stopped_only_if_it_ran_since_it_waits_for_that(
    executor, had_begun, states
):
    workload = workload_of(sensor().executor_config)
    queue(executor, workload)
    executor._child.reports = [Gone(str(workload.ti.id), had_begun)]
    executor.sync()
    assert [state for state, _ in executor.get_event_buffer().values()] == states
    assert not executor.running


def test_what_needs_a_worker_goes_to_the_default_executor(executor, to_workers):
    workloads = [workload_of(sensor().executor_config, f"shop.n{number}") for number in range(3)]
    queue(executor, *workloads)
    executor._child.reports = [NeedsWorker(str(workload.ti.id)) for workload in workloads[:2]]
    executor.sync()
    assert set(to_workers) == {str(workload.ti.id) for workload in workloads[:2]}
    assert executor.running == {workloads[2].key}


def test_it_goes_there_later_where_the_database_does_not_answer(executor, to_workers):
    to_workers.append(ConnectionError("no database"))
    workload = workload_of(sensor().executor_config)
    queue(executor, workload)
    executor._child.reports = [NeedsWorker(str(workload.ti.id))]
    executor.sync()
    assert executor.running
    executor.sync()
    assert to_workers == [str(workload.ti.id)]
    assert not executor.running


def test_a_failure_is_told_to_the_dag_processor_once_and_then_the_sensor_fails(executor):
    workload = workload_of(sensor().executor_config)
    queue(executor, workload)
    failing = Failing(str(workload.ti.id), "orders: error")
    executor._child.reports = [failing]
    executor.sync()
    # A process that was begun anew asks once more.
    executor._child.reports = [failing]
    executor.sync()
    [request] = executor.callback_sink.sent
    assert (request.ti.task_id, request.msg, request.filepath) == ("shop.orders", "orders: error", "shop.py")
    assert request.task_callback_type == TaskInstanceState.FAILED
    assert executor._child.orders[1:] == [Told(str(workload.ti.id))] * 2


def test_a_process_that_is_begun_anew_learns_of_all_tasks_and_which_of_them_run(executor):
    first, second = (workload_of(sensor().executor_config, f"shop.n{number}") for number in range(2))
    queue(executor, first, second)
    executor._child.reports = [Begun(str(second.ti.id))]
    executor.sync()
    executor._child.orders.clear()
    executor._child.is_lost = True
    executor.sync()
    assert [(order.task_id, order.has_begun) for order in executor._child.orders] == [
        ("shop.n0", False),
        ("shop.n1", True),
    ]


def test_whatever_goes_wrong_the_scheduler_goes_on(executor, monkeypatch):
    def broken():
        raise OSError("no more files")

    monkeypatch.setattr(executor._child, "receive", broken)
    executor.sync()


def test_a_scheduler_that_ends_ends_the_process(executor):
    executor.end()
    assert executor._child.stopped == 1


def test_the_default_executor_it_cannot_be(executor, monkeypatch):
    monkeypatch.setattr(module, "default_executor", lambda: NODE_EXECUTOR)
    with pytest.raises(ArgumentError, match=r"LocalExecutor,dbt_watch\.NodeExecutor"):
        dbt_watch.NodeExecutor().start()


def abandoned(state, config, **more):
    values = {"hostname": "", "pid": None, "unixname": None, "last_heartbeat_at": None}
    return SimpleNamespace(state=state, executor_config=config, **{**values, **more})


@pytest.fixture
def made(monkeypatch):
    """Make workloads of what stands for rows of the database."""

    def make(ti, generator):
        return workload_of(ti.executor_config)

    monkeypatch.setattr(module.ExecuteTask, "make", make)


def test_sensors_of_a_scheduler_that_has_ended_are_taken_over(executor, made):
    config = sensor().executor_config
    queued = abandoned("queued", config)
    running = abandoned("running", config, hostname="scheduler-1", pid=41, unixname="dbt_watch")
    assert executor.try_adopt_task_instances([queued, running]) == []
    first, second = executor._child.orders
    assert (first.has_begun, first.hostname, first.pid) == (False, "", os.getpid())
    assert (second.has_begun, second.hostname, second.pid) == (True, "scheduler-1", 41)
    assert running.last_heartbeat_at is not None
    assert len(executor._tasks) == 2


@pytest.mark.parametrize(
    ("state", "config", "more"),
    [
        ("restarting", sensor().executor_config, {"unixname": "dbt_watch"}),
        ("running", sensor().executor_config, {"unixname": "airflow"}),
        ("queued", {}, {}),
    ],
)
def test_what_is_not_its_own_begins_anew(executor, made, state, config, more):
    ti = abandoned(state, config, **more)
    assert executor.try_adopt_task_instances([ti]) == [ti]
    assert executor._child.orders == []
