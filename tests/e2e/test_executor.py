"""
Sensors that `dbt_watch.NodeExecutor` runs: whole runs, clears, and the deaths of all parts that have to do with it.

On an Airflow of its own, whose scheduler is killed.
"""

import contextlib
import os
import re
import signal
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg2
import pytest
from harness import NOTICED_SOON, PreloadedAirflow, Run, dags_in, until
from local_postgres import airflow_on

from dbt_watch.airflow.compat import HAS_WORKLOAD_TOKENS
from dbt_watch.core.xcom_values import results_in
from dbt_watch.executor.messages import UNIX_NAME
from dbt_watch.local.airflow.rest import parse_time

pytestmark = pytest.mark.skipif(not HAS_WORKLOAD_TOKENS, reason="the executor needs Airflow 3.3")

HERE = Path(__file__).parent
PRODUCER = "shop.dbt_build"
CASES = ("x_good", "x_broken", "x_called", "x_held_back", "x_retried", "x_cleared")
DEATHS_ARE_NOTICED_SOON = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
}
# REST tells a time in microseconds, dbt writes it with as many digits or fewer.
NEAR = timedelta(milliseconds=2)


@pytest.fixture(scope="module")
def airflow(postgres, tmp_path_factory, pytestconfig):
    with contextlib.closing(
        psycopg2.connect(host=postgres, user="postgres", dbname="warehouse")
    ) as connection:
        connection.autocommit = True
        connection.cursor().execute("create database by_executor")
    database = {
        name: value.replace("/airflow?", "/by_executor?") for name, value in airflow_on(postgres).items()
    }
    env = {
        **database,
        **NOTICED_SOON,
        **DEATHS_ARE_NOTICED_SOON,
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,dbt_watch.NodeExecutor",
        # One DAG is scheduled by an asset.
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        # Far fewer than there are sensors.
        "AIRFLOW__CORE__PARALLELISM": "6",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
    }
    folder, keep_home = tmp_path_factory.mktemp("dags"), bool(os.environ.get("KEEP_AIRFLOW"))
    with PreloadedAirflow(folder, env=env, keep_home=keep_home) as running:
        yield running


@pytest.fixture(scope="module")
def told(warehouse):
    """The file in which callbacks leave word."""
    return warehouse / "told"


@pytest.fixture(scope="module")
def dags(airflow, environment, cluster, told):
    if cluster is None:
        pytest.skip("holds dbt by a file that the pod shares with the test")
    file = HERE / "executor_dags/by_executor.py"
    with dags_in(airflow, file, env={**environment, "TOLD": str(told)}, modules=HERE):
        yield


@pytest.fixture(scope="module")
def run_of(airflow, dags, warehouse):
    """Return the finished run of a case. All cases are started at once, the first time that one is asked for."""
    begun, ended = {}, {}

    def begin():
        begun.update({case: Run.start(airflow, case) for case in CASES})
        try:
            # dbt is held in the middle of `x_good` as long.
            until(lambda: runs_of_report(airflow.client), "no consumer is to run")
        finally:
            (warehouse / "x_good.gate").touch()

    def get(dag_id):
        if not begun:
            begin()
        if dag_id not in ended:
            ended[dag_id] = begun[dag_id].ended()
        return ended[dag_id]

    return get


def runs_of_report(client, **which):
    """Return the runs of the DAG that one of the builds of `x_good` begins."""
    return client.get("dags/x_report/dagRuns", **which)["dag_runs"]


def raw(run):
    """Return all that Airflow tells of the sensors of a run, by their ids."""
    path = f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances"
    found = run.airflow.client.get(path, limit=1000)["task_instances"]
    return {item["task_id"]: item for item in found if item["operator"] == "DbtNodeSensor"}


def run_by_executor(run):
    """Return the sensors of a run that no worker has run."""
    return {task_id for task_id, item in raw(run).items() if item["unixname"] == UNIX_NAME}


def test_all_sensors_are_run_by_the_executor_and_take_no_place_of_a_worker(run_of):
    run = run_of("x_good")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    assert run_by_executor(run) == run.sensors().keys()
    assert len(run.sensors()) > 6


def test_airflow_shows_dbts_own_times(run_of):
    run = run_of("x_good")
    for task_id, item in run.sensors().items():
        results = results_in(run.xcom(task_id))
        started = min(result.started_at for result in results)
        finished = max(result.finished_at for result in results)
        assert abs(item.start_date - started) < NEAR, task_id
        assert abs(item.end_date - finished) < NEAR, task_id


def test_each_build_is_told_when_it_is_done_and_a_consumer_runs_while_dbt_goes_on(run_of):
    run = run_of("x_good")
    client = run.airflow.client
    found = client.get("assets/events", source_dag_id=run.dag_id, source_run_id=run.run_id, limit=100)
    events = {event["source_task_id"]: event for event in found["asset_events"]}
    assert len(events) == found["total_entries"]
    assert {event["extra"]["unique_id"].rpartition(".")[2] for event in events.values()} == {
        "customers", "daily_revenue", "orders", "stg_customers", "stg_orders", "stg_payments", "raw_customers", "raw_orders",
        "raw_payments", "order_status_history",
    }  # fmt: skip
    told = events["shop.raw_orders"]
    assert parse_time(told["timestamp"]) < run.tasks[PRODUCER].end_date
    (report,) = until(lambda: runs_of_report(client, state="success"), "no consumer has run")
    assert report["run_type"] == "asset_triggered"
    assert parse_time(report["queued_at"]) < run.tasks[PRODUCER].end_date
    assert Run(run.airflow, "x_report", report["dag_run_id"]).xcom("notice") == [told["extra"]]


def test_a_sensors_log_tells_of_its_node(run_of):
    run = run_of("x_good")
    log = run.log("shop.orders", until="success")
    assert "model orders: success" in log
    assert '"orders"' in log
    assert "raw_orders" not in log


def test_what_failed_is_failed_and_what_it_held_back_is_upstream_failed(run_of):
    run = run_of("x_broken")
    assert run.state == "failed"
    assert run.with_state("failed") == {PRODUCER, "shop.orders"}
    held_back = run.with_state("upstream_failed")
    assert {"shop.customers", "shop.customers.test", "shop.daily_revenue", "shop.orders.test"} <= held_back
    assert {"shop.raw_orders", "shop.stg_orders", "shop.order_status_history"} <= run.with_state("success")
    assert set(run.states.values()) == {"success", "failed", "upstream_failed"}
    assert "order_totl" in run.log("shop.orders", until="Candidate bindings")
    assert "not built: upstream `orders` failed" in run.log("shop.customers", until="not built")
    assert run_by_executor(run) == run.sensors().keys()


def test_the_callback_for_a_failure_is_called_once_with_what_dbt_reported(run_of, told):
    run_of("x_broken")
    until(lambda: "failure shop.orders" in text(told), "the callback of the sensor")
    lines = [line for line in text(told).splitlines() if line.startswith("failure shop.orders")]
    assert lines == ["failure shop.orders model.jaffle_shop.orders=error"]


def text(path):
    return path.read_text() if path.exists() else ""


def test_an_end_with_a_callback_that_needs_a_worker_has_one(run_of, told):
    run = run_of("x_called")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    assert not run_by_executor(run)
    words = "success shop.raw_orders seed.jaffle_shop.raw_orders=success"
    until(lambda: words in text(told), lambda: f"the callback has not told: {text(told)}")


def test_nothing_waits_for_a_project_that_never_runs(run_of):
    run = run_of("x_held_back")
    assert run.state == "failed"
    assert run.states[PRODUCER] == "upstream_failed"
    assert {item.state for item in run.sensors().values()} == {"skipped"}
    assert "dbt did not run" in run.log("shop.orders", until="dbt did not run")


def test_the_next_attempt_builds_what_is_not_done_and_the_sensors_wait_for_it(run_of):
    run = run_of("x_retried")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    assert run.tasks[PRODUCER].try_number == 2
    assert {item.try_number for item in run.sensors().values()} == {1}
    assert "the next attempt will build it again" in run.log("shop.orders", until="model orders: success")
    assert "raw_orders OK" not in run.log(PRODUCER, 2, until="Completed successfully")


def test_clearing_what_failed_builds_just_that(run_of, cluster):
    run = run_of("x_cleared")
    assert run.state == "failed"
    before, began = pods_of(cluster, run), {name: item.start_date for name, item in run.tasks.items()}
    done = run.with_state("success")
    again = run.cleared(only_failed=True)
    assert again.state == "success"
    assert set(again.states.values()) == {"success"}
    assert len(pods_of(cluster, run) - before) == 1
    assert {name: again.tasks[name].start_date for name in done} == {name: began[name] for name in done}
    assert run_by_executor(again) == again.sensors().keys()


def pods_of(cluster, run):
    return {pod.name for pod in cluster.pods() if pod.labels["dag_id"] == run.dag_id}


def test_clearing_the_producer_of_a_green_run_alone_builds_everything_again(run_of, cluster):
    run = run_of("x_cleared").ended()
    before, began = pods_of(cluster, run), {name: item.start_date for name, item in run.sensors().items()}
    again = run.cleared(PRODUCER)
    assert again.state == "success"
    assert len(pods_of(cluster, run) - before) == 1
    assert {name: item.start_date for name, item in again.sensors().items()} == began


def test_clearing_a_whole_run_builds_everything_again_in_one_pod(run_of, cluster):
    run = run_of("x_cleared").ended()
    before = pods_of(cluster, run)
    again = run.cleared()
    assert again.state == "success"
    assert set(again.states.values()) == {"success"}
    assert len(pods_of(cluster, run) - before) == 1
    began = again.tasks[PRODUCER].start_date
    assert all(item.start_date > began for item in again.sensors().values())


def test_clearing_one_sensor_builds_its_node_alone_in_a_pod_of_its_own(run_of, cluster):
    run = run_of("x_cleared").ended()
    before = pods_of(cluster, run)
    again = run.cleared("shop.customers")
    assert again.state == "success"
    assert len(pods_of(cluster, run) - before) == 1
    log = again.log("shop.customers", again.tasks["shop.customers"].try_number, until="customers OK")
    assert "orders OK" not in log
    assert run_by_executor(again) == again.sensors().keys() - {"shop.customers"}


def test_sensors_that_are_cleared_together_build_in_dbts_order_one_at_a_time(run_of, cluster):
    run = run_of("x_cleared").ended()
    before = pods_of(cluster, run)
    cleared = ["shop.daily_revenue", "shop.daily_revenue.test"]
    again = run.cleared(*cleared)
    assert again.state == "success"
    new = [pod for pod in cluster.pods() if pod.name in pods_of(cluster, run) - before]
    assert [pod.labels["task_id"] for pod in new] == cleared
    assert new[0].finished_at <= new[1].created_at


@pytest.fixture
def held(airflow, dags, cluster, warehouse, request):
    """A run in which dbt is held in the middle, and what lets it go on."""
    gate = warehouse / re.sub(r"\W", "_", request.node.name)
    run = Run.start(airflow, "x_gated", {"gate": gate.name})
    until(lambda: run.with_state("success"), "a first node that is built")
    yield run, gate
    gate.touch()


def is_as_if_nothing_had_happened(run):
    assert run.end() == "success"
    assert set(run.states.values()) == {"success"}
    assert {item.try_number for item in run.sensors().values()} == {1}
    assert run_by_executor(run) == run.sensors().keys()
    assert run.log("shop.orders", until="model orders: success").count("model orders: success") == 1


def watching_process(airflow):
    """Return the process that watches, if there is one."""
    for process in psutil.Process(airflow.component_pid("scheduler")).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it may be gone
            if "dbt_watch.executor.process" in process.cmdline():
                return process
    return None


@pytest.mark.faults
def test_the_death_of_the_process_that_watches_is_not_noticed(held, airflow):
    run, gate = held
    process = watching_process(airflow)
    process.send_signal(signal.SIGKILL)
    until(lambda: (found := watching_process(airflow)) and found.pid != process.pid, "another process")
    gate.touch()
    is_as_if_nothing_had_happened(run)


@pytest.mark.faults
def test_an_api_server_that_is_restarted_is_waited_for(held, airflow):
    run, gate = held
    airflow.stop_component("api-server")
    gate.touch()
    airflow.restart_component("api-server", timeout=240)
    is_as_if_nothing_had_happened(run)


@pytest.mark.faults
def test_what_a_scheduler_watched_that_was_killed_the_next_one_watches(held, airflow):
    run, gate = held
    process = watching_process(airflow)
    psutil.Process(airflow.component_pid("scheduler")).kill()
    until(
        lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its process ends too"
    )
    airflow.stop_component("scheduler", grace=0)
    gate.touch()
    airflow.restart_component("scheduler", timeout=240)
    is_as_if_nothing_had_happened(run)


@pytest.mark.faults
def test_a_scheduler_that_is_restarted_in_order_goes_on_with_its_sensors(held, airflow):
    run, gate = held
    airflow.stop_component("scheduler", grace=60)
    airflow.restart_component("scheduler", timeout=240)
    gate.touch()
    is_as_if_nothing_had_happened(run)


@pytest.mark.faults
def test_another_scheduler_takes_over(held, airflow):
    run, gate = held
    other = airflow.start_another("scheduler")
    try:
        airflow.stop_component("scheduler", grace=0)
        gate.touch()
        is_as_if_nothing_had_happened(run)
    finally:
        airflow.restart_component("scheduler", timeout=240)
        airflow.stop_component(other)


@pytest.mark.faults
def test_a_run_that_is_cleared_in_the_middle_begins_anew_as_one(held, cluster):
    run, gate = held
    before = pods_of(cluster, run)
    running = until(lambda: run.with_state("running") - {PRODUCER}, "a sensor that runs")
    run.clear()
    gate.touch()
    assert run.end() == "success"
    assert set(run.states.values()) == {"success"}
    assert {run.tasks[task_id].try_number for task_id in running} == {2}
    assert len(pods_of(cluster, run) - before) == 1
    assert run_by_executor(run) == run.sensors().keys()


@pytest.mark.faults
def test_a_sensor_that_is_marked_while_it_runs_stays_so(held):
    run, gate = held
    runs = next(iter(until(lambda: run.with_state("running") - {PRODUCER}, "a sensor that runs")))
    run.mark(runs, "failed")
    run.mark("shop.customers", "success")
    gate.touch()
    run.end()
    assert run.states[runs] == "failed"
    states = {task_id: state for task_id, state in run.states.items() if task_id != runs}
    assert set(states.values()) == {"success"}


@pytest.mark.faults
def test_a_sensor_that_is_cleared_while_it_runs_is_built_when_dbt_has_ended(held, cluster):
    run, gate = held
    before = pods_of(cluster, run)
    runs = next(iter(until(lambda: run.with_state("running") - {PRODUCER}, "a sensor that runs")))
    run.clear(runs)
    until(lambda: run.tasks[runs].try_number == 2, "another try of it")
    gate.touch()
    assert run.end() == "success"
    assert set(run.states.values()) == {"success"}
    assert len(pods_of(cluster, run) - before) == 1
