"""Parts of Airflow die, stall or answer badly while dbt runs; the run ends as an undisturbed one does."""

import contextlib
import time

import psutil
import pytest

pytestmark = pytest.mark.faults


def test_nothing_happens(strike):
    strike.check(strike())


@pytest.mark.quick(producer="on a worker")
def test_the_triggerer_is_killed_and_comes_back(strike, airflow):
    run = strike()
    with run.held_midway():
        airflow.stop_component("triggerer", grace=0)
    airflow.restart_component("triggerer", timeout=240)
    strike.check(run)


def test_the_triggerer_is_away_until_dbt_is_done(strike, airflow):
    run = strike().midway()
    airflow.stop_component("triggerer", grace=0)
    run.when_all_is_built()
    airflow.restart_component("triggerer", timeout=240)
    strike.check(run)


def test_two_triggerers_of_which_one_is_killed(strike, airflow):
    second = airflow.start_another("triggerer")
    try:
        runs = [strike() for _ in range(3)]
        runs[-1].midway()
        airflow.stop_component("triggerer", grace=0)
        for run in runs:
            strike.check(run)
    finally:
        airflow.restart_component("triggerer", timeout=240)
        airflow.stop_component(second)


@pytest.mark.parametrize("producer", ["deferred"])
def test_a_triggerer_freezes_until_another_one_has_its_triggers(strike, airflow):
    run = strike(seconds=12).midway()
    second = airflow.start_another("triggerer")
    try:
        with airflow.frozen("triggerer"):
            run.when("shop.b1", "success")
        strike.check(run)
    finally:
        airflow.stop_component(second)
    assert run.tasks["shop.dbt_build"].try_number == 1


def test_the_scheduler_is_killed_and_comes_back(strike, airflow):
    run = strike().midway()
    airflow.stop_component("scheduler", grace=0)
    time.sleep(3)
    airflow.restart_component("scheduler", timeout=240)
    strike.check(run)


def test_the_api_server_is_killed_and_comes_back(strike, airflow):
    run = strike().midway()
    airflow.stop_component("api-server", grace=0)
    airflow.restart_component("api-server", timeout=240)
    strike.check(run)


@pytest.mark.parametrize("answer", ["500", "silence"])
def test_the_api_server_answers_badly_for_half_a_minute(strike, airflow, answer):
    run = strike().midway()
    before = airflow.proxy.answered_badly
    with airflow.proxy.failing(hangs=answer == "silence"):
        time.sleep(30)
    assert airflow.proxy.answered_badly > before
    strike.check(run)


def test_the_journal_cannot_be_written_for_a_minute(strike, journal_refused):
    run = strike().midway()
    with journal_refused() as refusals:
        time.sleep(60)
        assert refusals()
    strike.check(run)


def test_the_same_dag_runs_four_times_at_once(strike):
    for run in [strike() for _ in range(4)]:
        strike.check(run)


def test_a_pool_that_counts_deferred_tasks_is_smaller_than_the_project(strike, kubernetes):
    run = strike("four_slots")
    with run.held_midway() as pod:
        kubernetes.delete_namespaced_pod(pod, "default", grace_period_seconds=0)
    strike.check(run)


@pytest.mark.parametrize("producer", ["on a worker"])
def test_the_worker_of_the_producer_is_killed(strike, airflow):
    run = strike()
    with run.held_midway():
        task = psutil.Process(run.tasks["shop.dbt_build"].pid)
        assert task.pid in airflow.pids()
        for process in (task.parent(), task):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    strike.check(run)


def test_two_projects_in_one_dag(strike, warehouse):
    run = strike("pair")
    strike.row.rounds += 1
    assert run.end() == "success"
    assert {task.state for task in run.tasks.values()} == {"success"}
    for name in ("left", "right"):
        assert warehouse(f"{run.schema}_{name}") == dict.fromkeys(strike.models, 1)
    strike.row.equal += 1
