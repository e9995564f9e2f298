"""What people clear, in the wrong order, at the wrong time, or very much of it; dbt builds it, once, in one pod at a time."""

import contextlib
import itertools
import os
from pathlib import Path

import pytest
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from harness import until

pytestmark = pytest.mark.faults

PRODUCER = "shop.dbt_build"
# Airflow makes the tasks that it clears one after the other, and keeps a record of each try before it does.
SLOW_CLEAR = """
create or replace function dawdle() returns trigger language plpgsql as $$
begin
    perform pg_sleep(0.8);
    return new;
end $$;
create trigger dawdle before insert on task_instance_history for each row execute function dawdle();
"""


@pytest.fixture
def slow_clear(meddling):
    """For as long as a block lasts, a clear of the whole project takes more than ten seconds."""
    return lambda: meddling(SLOW_CLEAR, "drop trigger dawdle on task_instance_history")


@pytest.fixture
def pods(cluster):
    """Return the pods that a run has had so far, oldest first."""

    def of(run):
        mine = {"dag_id": run.dag_id, "run_id": make_safe_label_value(run.run_id)}
        return [pod for pod in cluster.pods() if mine.items() <= pod.labels.items()]

    return of


def is_one_at_a_time(pods):
    return all(
        (one.finished_at or one.deleted_at) <= after.created_at for one, after in itertools.pairwise(pods)
    )


def ends_green(strike, run, **built):
    """Check a run that has been cleared: each node was built so often."""
    strike.row.rounds += 1
    assert run.end() == "success", run.log(PRODUCER, run.tasks[PRODUCER].try_number)[-3000:]
    assert {task.state for task in run.tasks.values()} == {"success"}
    found = strike.warehouse(run.schema)
    strike.row.lost += len(strike.models - set(found))
    expected = {name: built.get(name, built.get("others", 1)) for name in strike.models}
    strike.row.doubled += sum(max(0, found[name] - expected[name]) for name in strike.models)
    assert found == expected
    strike.row.equal += 1


def pod_of(pods, run, task_id):
    """Wait until a task has a pod."""
    until(lambda: any(pod.labels["task_id"] == task_id for pod in pods(run)), f"{task_id} has no pod")


def finished(strike, dag_id="steady"):
    run = strike(dag_id, seconds=0.1)
    run.end()
    return run


def test_a_clear_of_the_whole_run_takes_more_than_ten_seconds(strike, slow_clear, pods):
    run = finished(strike)
    with slow_clear():
        run.clear()
    ends_green(strike, run, others=2)
    assert len(pods(run)) == 2


def test_the_producer_of_a_green_run_is_cleared_alone(strike, pods):
    run = finished(strike)
    run.clear(PRODUCER)
    ends_green(strike, run, others=2)
    assert len(pods(run)) == 2


def test_the_failed_producer_is_cleared_without_its_sensors_and_then_with_them(strike, cluster, pods):
    run = strike("once")
    with run.held_midway() as pod:
        cluster.faults.evict(pod)
    assert run.end() == "failed"
    red = {task_id for task_id, task in run.tasks.items() if task.state == "failed"}
    run.clear(PRODUCER)
    assert run.end() == "failed"
    assert {task_id for task_id, task in run.tasks.items() if task.state == "failed"} == red
    log = run.log(PRODUCER, 2, until="Clear all failed tasks of the run together")
    assert "were not cleared together with shop.dbt_build" in log
    assert len(pods(run)) == 1
    run.clear(only_failed=True)
    assert run.end() == "success"
    assert len(pods(run)) == 2
    strike.row.rounds += 1
    assert set(strike.warehouse(run.schema)) == strike.models
    strike.row.equal += 1


def test_the_producer_is_cleared_while_a_sensor_builds_its_node_alone(strike, pods):
    run = finished(strike)
    run.clear("shop.a1")
    pod_of(pods, run, "shop.a1")
    run.clear(PRODUCER)
    ends_green(strike, run, a1=3, others=2)
    assert [pod.labels["task_id"] for pod in pods(run)] == [PRODUCER, "shop.a1", PRODUCER]
    assert is_one_at_a_time(pods(run))


def test_a_sensor_is_cleared_while_a_later_one_builds_its_node_alone(strike, pods):
    run = finished(strike)
    run.clear("shop.last")
    pod_of(pods, run, "shop.last")
    run.clear("shop.a1")
    ends_green(strike, run, a1=2, last=2)
    assert is_one_at_a_time(pods(run))


def test_all_sensors_are_cleared_without_the_producer(strike, pods):
    run = finished(strike)
    run.clear(*(task_id for task_id in run.tasks if task_id != PRODUCER))
    ends_green(strike, run, others=2)
    made = pods(run)
    assert len(made) == len(run.tasks)
    assert is_one_at_a_time(made)
    order = [pod.labels["task_id"] for pod in made[1:]]
    assert order.index("shop.a1") < order.index("shop.b1") < order.index("shop.b1.test")
    assert order[-1] == "shop.last.test"


@pytest.fixture
def growing(airflow, dags):
    """For as long as a block lasts, the project of the DAG `growing` has one model more."""
    dag_file = Path(airflow.env["AIRFLOW__CORE__DAGS_FOLDER"]) / "steady.py"
    switch = dag_file.with_name("with_last")

    def is_there(dag_id, task_id):
        return task_id in airflow.client.task_ids(dag_id)

    def until_parsed(dag_id, *, grown):
        def is_parsed():
            # Each time: a parse that was under way, as for a callback, may have read the file before and end after.
            os.utime(dag_file)
            return is_there(dag_id, "shop.last") == grown

        until(is_parsed, "the DAG file was not parsed again")

    @contextlib.contextmanager
    def grown(dag_id):
        switch.touch()
        try:
            until_parsed(dag_id, grown=True)
            yield
        finally:
            switch.unlink()
            until_parsed(dag_id, grown=False)

    return grown


def test_a_node_is_added_to_a_project_whose_run_is_cleared(strike, growing):
    """Its sensor has never run, so nothing but its age tells it that the journal is of another attempt."""
    run = finished(strike, "growing")
    assert "shop.last" not in run.tasks
    with growing(run.dag_id):
        run.clear(latest_version=True)
        ends_green(strike, run, last=1, others=2)
