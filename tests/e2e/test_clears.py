"""What a person clears is built again, and nothing else. The tests go on from one another, in their order."""

import itertools

import pytest


@pytest.fixture
def pods(cluster):
    """Give the pods of this DAG so far."""
    if cluster is None:
        pytest.skip("needs a database that outlives the pod, which the image cannot bring")
    return lambda: {pod.name for pod in cluster.pods() if pod.labels["dag_id"] == "cleared"}


def test_clearing_what_failed_builds_just_that_in_one_pod(run_of, pods):
    run = run_of("cleared")
    assert run.state == "failed"
    assert "shop.orders" in run.failed()
    before, began = pods(), {name: item.start_date for name, item in run.tasks.items()}
    done = {name for name, state in run.states.items() if state == "success"}
    again = run.cleared(only_failed=True)
    assert again.state == "success"
    assert set(again.states.values()) == {"success"}
    assert len(pods() - before) == 1
    log = again.log("shop.dbt_build", attempt=2)
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
    assert "raw_orders OK" in again.log("shop.dbt_build", attempt=3)
    # Not the end of the task: Airflow 3.3.2 leaves that of the try before when a task ends in its trigger.
    began = again.tasks["shop.dbt_build"].start_date.isoformat()
    results = [again.xcom(task_id) for task_id in again.sensors()]
    nodes = [node for result in results for node in result.get("nodes", [result])]
    assert len(nodes) >= 20
    assert all(node["finished_at"] > began[:19] for node in nodes)


def test_clearing_one_sensor_builds_its_node_alone_in_a_pod_of_its_own(run_of, pods):
    run = run_of("cleared").reread()
    before, began = pods(), {name: item.start_date for name, item in run.tasks.items()}
    again = run.cleared(task_ids=["shop.customers"])
    assert again.state == "success"
    assert len(pods() - before) == 1
    log = again.log("shop.customers", attempt=again.tasks["shop.customers"].try_number, until="succeeded")
    assert "customers OK" in log
    assert "orders OK" not in log
    assert again.xcom("shop.customers")["unique_id"] == "model.jaffle_shop.customers"
    others = set(again.tasks) - {"shop.customers"}
    assert {name: again.tasks[name].start_date for name in others} == {name: began[name] for name in others}


def test_sensors_that_are_cleared_together_build_in_dbts_order_one_at_a_time(run_of, cluster, pods):
    run = run_of("cleared").reread()
    before = pods()
    cleared = ["shop.daily_revenue", "shop.daily_revenue.test", "shop.customers.test"]
    again = run.cleared(task_ids=cleared)
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
    again = run.cleared(task_ids=["shop.orders"])
    assert again.tasks["shop.orders"].state == "failed"
    log = again.log("shop.orders", attempt=2, until="order_totl")
    assert "order_totl" in log
