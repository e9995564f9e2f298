"""Airflow is told of builds by assets, and a consumer runs for them."""

PLACE = "file:///tmp/jaffle_shop.duckdb"
NODE = "model.jaffle_shop.customers"


def events_of(run):
    """Return the events that the tasks of a run have told, as pairs of a task and what it has told."""
    found = run.airflow.client.get(
        "assets/events", source_dag_id=run.dag_id, source_run_id=run.run_id, limit=100
    )
    return [(event["source_task_id"], event) for event in found["asset_events"]]


def told_by(run, group="build"):
    """Return which task has told of each node."""
    told = [(event["extra"]["unique_id"].rpartition(".")[2], task) for task, event in events_of(run)]
    ours = {node: task for node, task in told if task.startswith(f"{group}.")}
    assert len([task for _, task in told if task.startswith(f"{group}.")]) == len(ours)
    return ours


def test_each_build_is_told_once_by_the_task_that_runs_dbt(run_of_example):
    run = run_of_example("assets")
    assert run.state == "success"
    assert told_by(run) == dict.fromkeys(("customers", "orders", "raw_orders"), "build.dbt_build")
    assert run.states["build.dbt_build.assets"] == "skipped"
    uris = {event["uri"] for _, event in events_of(run)}
    assert uris == {f"{PLACE}/jaffle_shop/main/{name}" for name in ("customers", "orders", "raw_orders")}


def test_a_consumer_is_to_run_for_the_build_of_its_node(run_of_example):
    run = run_of_example("assets")
    # The scheduler of this Airflow begins no runs by itself; that of `test_executor` does.
    queued = run.airflow.client.get("dags/assets_report/assets/queuedEvents")["queued_events"]
    (event,) = [event for task, event in events_of(run) if event["extra"]["unique_id"] == NODE]
    assert [item["asset_id"] for item in queued] == [event["asset_id"]]


def test_what_a_run_has_built_that_fails_is_told_all_the_same_and_nothing_else(run_of_example):
    run = run_of_example("assets with a failure")
    assert run.state == "failed"
    assert run.states["build.dbt_build"] == run.states["build.customers"] == "failed"
    assert told_by(run) == dict.fromkeys(("orders", "raw_orders"), "build.dbt_build.assets")


def test_what_an_earlier_attempt_has_built_is_told_once_when_a_later_one_has_built_the_rest(run_of_example):
    run = run_of_example("landed_late")
    assert run.state == "success"
    told = told_by(run, "shop")
    assert set(told.values()) == {"shop.dbt_build"}
    assert {"orders", "customers", "order_payments", "revenue"} <= set(told)
    invocations = {event["extra"]["invocation_id"] for _, event in events_of(run)}
    assert len(invocations) == 2


def test_a_sensor_tells_of_its_node_itself_where_that_is_wished(run_of_example):
    run = run_of_example("twice")
    assert told_by(run, "shop") == {"raw_orders": "shop.raw_orders"}
