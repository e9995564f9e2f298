"""What a person clears is built again, and nothing else. The tests go on from one another, in their order."""

import itertools

import pytest
from harness import until


@pytest.fixture
def pods(cluster):
    """Return the pods of this DAG so far."""
    if cluster is None:
        pytest.skip("needs a database that outlives the pod, which the image cannot bring")
    return lambda: {pod.name for pod in cluster.pods() if pod.labels["dag_id"] == "cleared"}


def test_clearing_what_failed_builds_just_that_in_one_pod(run_of, pods):
    run = run_of("cleared")
    assert run.state == "failed"
    assert "shop.orders" in run.with_state("failed")
    before, began = pods(), {name: item.start_date for name, item in run.tasks.items()}
    done = {name for name, state in run.states.items() if state == "success"}
    again = run.cleared(only_failed=True)
    assert again.state == "success"
    assert set(again.states.values()) == {"success"}
    assert len(pods() - before) == 1
    log = again.log("shop.dbt_build", attempt=2, until="Completed successfully")
    assert "nodes that are not done" in log
    assert "orders OK" in log
    assert "raw_orders OK" not in log
    assert {name: again.tasks[name].start_date for name in done} == {name: began[name] for name in done}


def test_clearing_a_whole_run_builds_everything_again_in_one_pod(run_of, pods):
    run = run_of("cleared")
    before = pods()
    again = run.cleared()
    assert again.state == "success"
    assert set(again.states.values()) == {"success"}
    assert len(pods() - before) == 1
    assert "raw_orders OK" in again.log("shop.dbt_build", attempt=3, until="raw_orders OK")
    # Not the end of the task: Airflow 3.3.2 leaves that of the try before when a task ends in its trigger.
    began = again.tasks["shop.dbt_build"].start_date.isoformat()
    nodes = again.results()
    assert len(nodes) >= 20
    assert all(node["finished_at"] > began[:19] for node in nodes)


def test_clearing_the_producer_of_a_green_run_alone_builds_everything_again(run_of, pods):
    run = run_of("cleared").ended()
    before, began = pods(), {name: item.start_date for name, item in run.sensors().items()}
    again = run.cleared("shop.dbt_build")
    assert again.state == "success"
    assert len(pods() - before) == 1
    attempt = again.tasks["shop.dbt_build"].try_number
    log = again.log("shop.dbt_build", attempt, until="Completed successfully")
    assert "Building all" in log
    for name in ("raw_orders", "orders", "customers"):
        assert f"{name} OK" in log
    assert {name: item.start_date for name, item in again.sensors().items()} == began


def test_clearing_a_failed_producer_alone_builds_nothing_and_says_what_else_to_clear(run_of, cluster):
    run = run_of("broken")
    made = set() if cluster is None else {pod.name for pod in cluster.pods()}
    red = run.with_state("failed")
    again = run.cleared("shop.dbt_build")
    assert again.state == "failed"
    assert again.with_state("failed") == red
    log = again.log("shop.dbt_build", attempt=2, until="Task failed with exception")  # Airflow's, an error
    assert "Clear all failed tasks of the run together" in log
    assert "have failed and were not cleared together with shop.dbt_build" in log
    for task_id in red - {"shop.dbt_build"}:
        assert task_id in log
    if cluster is not None:
        new = [pod for pod in cluster.pods() if pod.name not in made]
        assert not [pod for pod in new if pod.labels["dag_id"] == "broken"]


def test_clearing_one_sensor_builds_its_node_alone_in_a_pod_of_its_own(run_of, pods):
    run = run_of("cleared").ended()
    before, began = pods(), {name: item.start_date for name, item in run.tasks.items()}
    again = run.cleared("shop.customers")
    assert again.state == "success"
    assert len(pods() - before) == 1
    log = again.log("shop.customers", attempt=again.tasks["shop.customers"].try_number, until="customers OK")
    assert "customers OK" in log
    assert "orders OK" not in log
    assert again.xcom("shop.customers")["unique_id"] == "model.jaffle_shop.customers"
    others = set(again.tasks) - {"shop.customers"}
    assert {name: again.tasks[name].start_date for name in others} == {name: began[name] for name in others}


def test_sensors_that_are_cleared_together_build_in_dbts_order_one_at_a_time(run_of, cluster, pods):
    run = run_of("cleared").ended()
    before = pods()
    cleared = ["shop.daily_revenue", "shop.daily_revenue.test", "shop.customers.test"]
    again = run.cleared(*cleared)
    assert again.state == "success"
    names = pods() - before
    new = [pod for pod in cluster.pods() if pod.name in names]
    order = [pod.labels["task_id"] for pod in new]
    assert sorted(order) == sorted(cleared)
    assert order.index("shop.daily_revenue") < order.index("shop.daily_revenue.test")
    assert all(first.finished_at <= second.created_at for first, second in itertools.pairwise(new))


def test_a_sensor_whose_own_build_fails_tells_why(run_of, pods):
    run = run_of("broken")
    assert run.state == "failed"
    again = run.cleared("shop.orders")
    assert again.tasks["shop.orders"].state == "failed"
    log = again.log("shop.orders", attempt=2, until="order_totl")
    assert "order_totl" in log


class Crossed:
    """The run `crossed`, whose pods can be held back."""

    def __init__(self, run, cluster, warehouse):
        self.run, self._cluster, self._warehouse = run, cluster, warehouse
        self._before = {pod.name for pod in cluster.pods()}

    def held(self, task_id):
        return self._warehouse / f"{task_id}.held"

    def pods(self):
        new = [pod for pod in self._cluster.pods() if pod.name not in self._before]
        return [pod for pod in new if pod.labels["dag_id"] == "crossed"]


@pytest.fixture
def crossed(run_of, cluster, warehouse):
    if cluster is None:
        pytest.skip("holds dbt by a file that the pod shares with the test")
    run = run_of("crossed").ended()
    assert run.state == "success"
    crossed = Crossed(run, cluster, warehouse)
    yield crossed
    for held in warehouse.glob("*.held"):
        held.unlink()


@pytest.mark.parametrize(
    ("first", "second"), [("shop.stg_orders", "shop.dbt_build"), ("shop.orders", "shop.raw_orders")]
)
def test_what_is_cleared_while_a_sensor_builds_alone_waits_for_the_end_of_its_pod(crossed, first, second):
    """The producer, and a sensor that has its turn before the one that builds."""
    run, held = crossed.run, crossed.held(first)
    held.touch()
    run.clear(first)
    until(lambda: len(crossed.pods()) == 1, "a pod of the first task")
    attempt = run.tasks[second].try_number + 1
    run.clear(second)
    words = f"Waiting until dbt has ended in pod {crossed.pods()[0].name} of {first}"

    def waits():
        task = run.tasks[second]
        is_in_triggerer = task.state == "deferred"  # for its turn
        return is_in_triggerer or (task.state == "running" and run.has_logged(second, words, attempt))

    until(waits, f"{second} waits")
    assert len(crossed.pods()) == 1
    held.unlink()
    assert run.end() == "success"
    assert set(run.states.values()) == {"success"}
    pods = crossed.pods()
    assert [pod.labels["task_id"] for pod in pods] == [first, second]
    assert all(one.finished_at <= next_one.created_at for one, next_one in itertools.pairwise(pods))
