"""Faults and clears where a project is split: `b1` has a pod of its own, one producer comes before it and one behind it."""

import contextlib

import psutil
import pytest
from harness import until

pytestmark = pytest.mark.faults

FIRST, ALONE, SECOND = "shop.dbt_build", "shop.b1", "shop.dbt_build_2"


@pytest.fixture
def faults(cluster):
    yield cluster.faults
    cluster.faults.end_all()


def running(run, task_id):
    """Wait until dbt runs in the pod of a task; return the name of the pod."""
    run.when(task_id, "running", "deferred")
    return until(lambda: run.xcom(task_id, "pod_name"), f"{task_id} has no pod")


def finished(strike, **conf):
    run = strike("split", seconds=0.1, **conf)
    run.end()
    return run


def ends_green(strike, run, **built):
    """Check a run: each node was built so often, and everything is green."""
    strike.row.rounds += 1
    assert run.end() == "success"
    assert {task.state for task in run.tasks.values()} == {"success"}
    found = strike.warehouse(run.schema)
    strike.row.lost += len(strike.models - set(found))
    expected = {name: built.get(name, 1) for name in strike.models}
    strike.row.doubled += sum(max(0, found[name] - expected[name]) for name in strike.models)
    assert found == expected
    strike.row.equal += 1


def test_nothing_happens_to_a_project_that_is_split(strike):
    ends_green(strike, strike("split"))


@pytest.mark.parametrize("producer", ["on a worker"])
def test_the_worker_of_an_isolated_node_is_killed(strike, airflow):
    run = strike("split", seconds=4)
    running(run, ALONE)
    task = psutil.Process(run.tasks[ALONE].pid)
    assert task.pid in airflow.pids()
    for process in (task.parent(), task):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    ends_green(strike, run)
    assert run.tasks[ALONE].try_number == 2


@pytest.mark.parametrize("task_id", [FIRST, ALONE, SECOND])
def test_one_of_several_pods_is_evicted_and_its_next_attempt_goes_on(strike, faults, task_id):
    run = strike("split", seconds=3)
    faults.evict(running(run, task_id))
    strike.check(run)
    assert {name: run.tasks[name].try_number for name in (FIRST, ALONE, SECOND)} == {
        name: 1 + (name == task_id) for name in (FIRST, ALONE, SECOND)
    }


def test_a_producer_that_fails_leaves_the_pods_behind_it_unstarted_with_the_reason(strike, faults, cluster):
    run = strike("split_once", seconds=3)
    faults.evict(running(run, FIRST))
    strike.row.rounds += 1
    assert run.end() == "failed"
    assert {run.states[name] for name in (FIRST, ALONE, SECOND, "shop.c1", "shop.last")} == {"failed"}
    words = "upstream `a1` failed"
    run.wait_for_log(ALONE, words)
    run.wait_for_log("shop.b1.test", f"not built: {words}")
    run.wait_for_log("shop.c1", f"not built: {words}")
    assert {pod.labels["task_id"] for pod in cluster.pods() if pod.labels["dag_id"] == run.dag_id} == {FIRST}
    assert not {"b1", "c1", "last"} & set(strike.warehouse(run.schema))
    strike.row.equal += 1


def test_an_isolated_node_that_fails_leaves_the_other_nodes_alone(strike, faults):
    run = strike("split_once", seconds=3)
    faults.evict(running(run, ALONE))
    strike.row.rounds += 1
    assert run.end() == "failed"
    red = {task_id.removeprefix("shop.") for task_id in run.with_state("failed")}
    assert red == {"b1", "b1.test", "c1", "dbt_build_2", "last", "last.test"}
    assert {"c2", "c3", "c4"} <= set(strike.warehouse(run.schema))
    strike.row.equal += 1


def test_an_isolated_node_is_cleared_alone(strike):
    run = finished(strike)
    run.clear(ALONE)
    ends_green(strike, run, b1=2)


def test_the_tests_of_an_isolated_node_are_cleared_alone(strike):
    run = finished(strike)
    run.clear("shop.b1.test")
    ends_green(strike, run)


def test_a_later_producer_is_cleared_alone(strike):
    run = finished(strike)
    run.clear(SECOND)
    ends_green(strike, run, c1=2, last=2)


def test_a_node_of_a_later_producer_is_cleared_alone(strike):
    run = finished(strike)
    run.clear("shop.c1")
    ends_green(strike, run, c1=2)


def test_the_whole_group_of_a_split_project_is_cleared(strike):
    run = finished(strike)
    run.clear()
    ends_green(strike, run, **dict.fromkeys(strike.models, 2))


def test_the_failed_tasks_of_a_split_project_are_cleared(strike, faults):
    run = strike("split_once", seconds=3)
    faults.evict(running(run, ALONE))
    assert run.end() == "failed"
    run.clear(only_failed=True)
    ends_green(strike, run)
