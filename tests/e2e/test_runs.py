"""Whole runs: a real Airflow, the unmodified KubernetesPodOperator underneath, a real dbt."""

import pytest
from harness import until

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

DOWNSTREAM_OF_ORDERS = {"daily_revenue", "daily_revenue.test", "customers", "customers.test", "orders.test"}


def in_shop(run, state):
    """Return the tasks of the group `shop` in a state, without its name."""
    return {task_id.removeprefix("shop.") for task_id in run.with_state(state)}


def test_a_run_is_one_pod_and_every_node_its_own_task(run_of, cluster, graph):
    run = run_of("jaffle_shop")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    assert {node["unique_id"] for node in run.results()} == {
        uid
        for uid, node in graph.nodes.items()
        if node.resource_type in {"model", "seed", "snapshot", "test", "unit_test"}
    }
    if cluster is not None:
        run_ids = {pod.name: pod.labels["run_id"] for pod in cluster.pods()}
        name = run.xcom("build.dbt_build", "pod_name")
        assert list(run_ids.values()).count(run_ids[name]) == 1


@pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="before Airflow 3.3 every task starts on a worker")
def test_no_sensor_starts_on_a_worker(run_of, airflow):
    run = run_of("jaffle_shop")
    assert not {item.id for item in run.sensors().values()} & set(airflow.task_starts())


def test_the_producers_log_reads_like_dbts_own_each_line_once(run_of):
    lines = run_of("jaffle_shop").log("build.dbt_build", until="Completed successfully").splitlines()
    own = [line for line in lines if " OK" in line or " PASS" in line]
    assert any("raw_orders OK 150 rows" in line for line in own)
    assert len(own) == len(set(own)) >= 20
    assert not [line for line in lines if '"info"' in line]


def test_a_sensors_log_tells_of_its_node(run_of):
    log = run_of("jaffle_shop").log("build.orders", until="success")
    assert "model orders: success" in log
    assert '"orders"' in log
    assert "raw_orders" not in log


@pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="before Airflow 3.3 some sensors end on their worker")
@pytest.mark.parametrize("case", ["jaffle_shop", "broken", "killed"])
def test_no_line_of_a_sensors_log_is_lost_when_many_end_at_once(run_of, case):
    run = run_of(case)
    for task_id in run.sensors():
        if run.states[task_id] in {"success", "failed"}:
            log = run.log(task_id, until="Trigger fired event")
            assert "Trigger fired event" in log, task_id


def test_a_broken_model_fails_its_task_with_dbts_own_words_and_what_depends_on_it(run_of):
    run = run_of("broken")
    assert run.state == "failed"
    assert in_shop(run, "failed") - {"dbt_build"} >= {"orders"}
    relationships = {name for name in in_shop(run, "failed") if "relationships" in name}
    assert in_shop(run, "failed") == {"dbt_build", "orders"} | DOWNSTREAM_OF_ORDERS | relationships
    assert {"raw_orders", "stg_orders", "stg_orders.test", "order_status_history"} <= in_shop(run, "success")
    log = run.log("shop.orders", until="Candidate bindings")
    assert "order_totl" in log
    assert log.count("Binder Error") == 1
    assert log.index("dbt had sent to the database:") < log.index("select order_totl from")
    words = "not built: upstream `orders` failed"
    assert words in run.log("shop.customers", until=words)
    words = "dbt ended with exit code 1: orders: Runtime Error in model orders"
    of_producer = run.log("shop.dbt_build", until=words)
    assert "; failed: orders" in of_producer
    assert " customers SKIPPED" in of_producer
    assert " customers started" not in of_producer
    assert "dbt started" not in run.log("shop.customers")


@pytest.mark.newest
def test_no_line_of_standard_output_fails_a_build_or_hides_a_node(run_of):
    run = run_of("noisy")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    log = run.log("shop.dbt_build")
    assert "\x1b" not in log
    assert max(map(len, log.splitlines())) < 100_000


@pytest.mark.newest
def test_a_dbt_that_was_told_to_be_quiet_is_watched_all_the_same(run_of):
    run = run_of("quiet")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}


def test_a_dbt_that_was_killed_fails_what_it_had_not_finished(run_of):
    run = run_of("killed")
    assert run.state == "failed"
    assert in_shop(run, "success")
    assert in_shop(run, "success") <= {"raw_orders", "raw_customers", "raw_payments"}
    assert {"orders", "customers", "dbt_build"} <= in_shop(run, "failed")
    assert set(run.states.values()) == {"success", "failed"}
    assert "not built" in run.log("shop.customers", until="not built")
    assert "exit code 137" in run.log("shop.dbt_build", until="exit code 137")


def test_an_image_that_cannot_be_pulled_fails_every_node_with_the_reason(run_of):
    run = run_of("unpullable")
    assert run.state == "failed"
    assert set(run.states.values()) == {"failed"}
    words = "the pod did not run dbt: "
    for task_id in ("shop.dbt_build", "shop.orders"):
        log = run.log(task_id, until=words)
        assert "ErrImagePull" in log or "ImagePullBackOff" in log
    reasons = [line for line in log.splitlines() if words in line]
    assert {line.count("registry.invalid/nothing:1: not found") for line in reasons} == {1}
    # On a worker Airflow shows the error of the task as well.
    assert len(reasons) == (1 if STARTS_FROM_TRIGGER else 2)


def test_nothing_waits_for_a_project_that_never_runs(run_of):
    run = run_of("held_back")
    assert run.state == "failed"
    assert run.states["shop.dbt_build"] == "upstream_failed"
    assert {item.state for item in run.sensors().values()} == {"skipped"}
    assert "dbt did not run" in run.log("shop.orders", until="dbt did not run")


def test_the_next_attempt_builds_what_is_not_done_and_the_sensors_wait_for_it(run_of, cluster):
    if cluster is None:
        pytest.skip("needs a database that outlives the pod, which the image cannot bring")
    run = run_of("retried")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    assert run.tasks["shop.dbt_build"].try_number == 2
    assert {item.try_number for item in run.sensors().values()} == {1}
    log = run.log("shop.orders", until="model orders: success")
    assert "model orders: success" in log
    # Along the lineage it may start when the next attempt has begun already.
    assert "the next attempt will build it again" in log or not STARTS_FROM_TRIGGER
    assert "raw_orders OK" in run.log("shop.dbt_build", until="raw_orders OK")
    second = run.log("shop.dbt_build", 2, until="Completed successfully")
    assert "raw_orders OK" not in second
    assert "nodes that are not done" in second
    assert "orders OK" in second
    # Before 3.3 Airflow has no place where an attempt could leave them.
    assert (
        "Using the values of the first attempt, although these have changed since: vars" in second
    ) == STARTS_FROM_TRIGGER


@pytest.mark.parametrize("case", ["narrow", "narrow_producer"])
def test_sensors_that_wait_take_no_slot_of_a_pool_from_the_producer(run_of, airflow, case):
    sensors = run_of(case).sensors()
    assert len(sensors) > airflow.client.get("pools/narrow")["slots"]
    assert run_of(case).state == "success"
    assert set(run_of(case).states.values()) == {"success"}
    assert run_of(case).tasks["shop.dbt_build"].try_number == {"narrow": 2, "narrow_producer": 1}[case]


def test_sensors_may_start_along_the_lineage_through_a_worker(run_of, airflow):
    run = run_of("lineage")
    assert run.state == "success"
    assert in_shop(run, "success") == {"raw_orders", "stg_orders", "dbt_build"}
    assert {item.id for item in run.sensors().values()} <= set(airflow.task_starts())


def test_a_bound_function_gets_what_dbt_reported(run_of):
    run = run_of("bound")
    assert run.state == "success"
    assert run.xcom("shop.count") == {"rows": 300, "status": "success"}


def test_a_task_can_wait_for_one_node_and_take_its_result(run_of):
    run = run_of("bound")
    value = run.xcom("after")
    assert "model.jaffle_shop.customers" in str(value)
    assert run.tasks["after"].start_date >= run.tasks["shop.customers"].end_date


def test_templates_and_arguments_of_other_tasks_reach_dbt(run_of, kubernetes, pytestconfig):
    run = run_of("bound")
    namespace = pytestconfig.getoption("--namespace")
    name = run.xcom("shop.dbt_build", "pod_name")
    pod = kubernetes.read_namespaced_pod(name, namespace)
    kubernetes.delete_namespaced_pod(name, namespace)
    container = pod.spec.containers[0]
    arguments, env = container.args, {item.name: item.value for item in container.env}
    assert arguments[arguments.index("--vars") + 1] == "$(DBT_WATCH_VARS)"
    assert env["DBT_WATCH_VARS"] == '{"batch": "batch-7"}'
    assert arguments[arguments.index("--threads") + 1] == "2"
    assert "--full-refresh" in arguments


def test_no_pod_is_left(run_of, cluster):
    finished = {"jaffle_shop", "broken", "killed", "unpullable"}
    for dag_id in finished:
        run_of(dag_id)
    if cluster is None:
        pytest.skip("the pods of a real cluster are not ours to count")

    def are_deleted():
        return all(pod.deleted_at for pod in cluster.pods() if pod.labels["dag_id"] in finished)

    until(are_deleted, "the end of the pods")
