"""What a decorated function becomes: tasks, edges, and the handle."""

import json
from datetime import datetime, timedelta

import pytest
from airflow.sdk import DAG, TriggerRule, task

from dbt_watch import DbtProject, dbt_build, dbt_k8s_project, dbt_node
from dbt_watch.airflow.compat import HAS_WORKLOAD_TOKENS, STARTS_FROM_TRIGGER
from dbt_watch.exceptions import ExecutorWarning
from dbt_watch.sensors.operator import NODE_EXECUTOR, DbtNodeSensor


@pytest.fixture
def shop(dag, decorate):
    def shop(**overrides):
        @decorate(**overrides)
        def build(): ...

        return build()

    return shop


def upstream(dag, task_id):
    return {item.removeprefix("build.") for item in dag.task_dict[f"build.{task_id}"].upstream_task_ids}


def test_every_node_is_a_task_and_the_tests_of_a_node_are_one(dag, shop):
    project = shop()
    assert isinstance(project, DbtProject)
    ids = {item.removeprefix("build.") for item in dag.task_ids}
    assert {
        "dbt_build",
        "raw_orders",
        "stg_orders",
        "stg_orders.test",
        "orders",
        "orders.unit_test",
        "orders.test",
    } <= ids
    assert "test.relationships_orders_customer_id__customer_id__ref_stg_customers_" in ids


def test_tests_come_after_their_node_and_before_its_children_unit_tests_before_it(dag, shop):
    shop()
    assert upstream(dag, "stg_orders.test") == {"stg_orders"}
    assert upstream(dag, "orders.unit_test") == {"stg_orders.test", "stg_payments.test"}
    assert upstream(dag, "orders") == {"orders.unit_test"}
    assert "orders.test" in upstream(dag, "customers")


def test_a_test_of_several_nodes_comes_after_all_of_them(dag, shop):
    shop()
    name = "test.relationships_orders_customer_id__customer_id__ref_stg_customers_"
    assert upstream(dag, name) == {"orders", "stg_customers"}


def test_tests_may_be_part_of_their_node_or_one_task_or_left_out(dag, decorate, graph):
    tests = {uid for uid, node in graph.nodes.items() if node.resource_type in {"test", "unit_test"}}
    for mode in ("build", "after_all", "none"):

        @decorate(tests=mode, group_id=mode)
        def build(): ...

        build()
    watched = {
        mode: [
            uid
            for item in dag.tasks
            if item.task_id.startswith(f"{mode}.")
            for uid in getattr(item, "unique_ids", ())
        ]
        for mode in ("build", "after_all", "none")
    }
    for mode in ("build", "after_all"):
        assert tests <= set(watched[mode])
        assert len(watched[mode]) == len(set(watched[mode]))
    assert not tests & set(watched["none"])
    assert len(dag.task_dict["after_all.tests"].unique_ids) == len(tests)
    assert dag.task_dict["none.dbt_build"].selection.arguments() == [
        "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test", "--indirect-selection", "eager",
    ]  # fmt: skip


def test_tasks_go_in_front_of_the_producer_and_behind_producer_and_nodes(dag, shop):
    @task
    def first(): ...

    @task
    def behind_all(): ...

    @task
    def behind_one(): ...

    project = shop()
    first() >> project >> behind_all()
    project["customers"] >> behind_one()
    assert dag.task_dict["build.dbt_build"].upstream_task_ids == {"first"}
    assert not dag.task_dict["build.raw_orders"].upstream_task_ids
    assert dag.task_dict["behind_all"].upstream_task_ids == {"build.dbt_build"}
    assert dag.task_dict["behind_one"].upstream_task_ids == {"build.customers.test"}


def test_arguments_of_the_function_hold_back_the_producer_whether_used_or_not(dag, decorate):
    @task
    def land(): ...

    @task
    def look(): ...

    @decorate()
    def build(batch, unused):
        return dbt_build(vars={"batch": batch}, full_refresh="{{ params.full_refresh }}")

    build(land(), unused=look())
    assert dag.task_dict["build.dbt_build"].upstream_task_ids == {"land", "look"}


def test_a_bound_function_comes_after_its_node_and_its_tests(dag, decorate):
    @task
    def last(): ...

    @decorate()
    def build():
        @dbt_node("customers", retries=3)
        def check(result, floor): ...

        check(floor=100)

    project = build()
    project >> last()
    assert dag.task_dict["build.check"].upstream_task_ids == {"build.customers", "build.customers.test"}
    assert dag.task_dict["build.check"].retries == 3
    assert dag.task_dict["last"].upstream_task_ids == {"build.dbt_build", "build.check"}


def test_arguments_of_the_operator_are_passed_on(dag, shop):
    shop(namespace="dbt", retries=2, labels={"team": "shop"}, cmds=["/opt/dbt"], service_account_name="dbt")
    producer = dag.task_dict["build.dbt_build"]
    assert (producer.namespace, producer.retries, producer.labels) == ("dbt", 2, {"team": "shop"})
    assert producer.cmds == ["/opt/dbt"]
    assert producer.service_account_name == "dbt"
    sensors = [item for item in dag.tasks if item is not producer]
    assert {(item.retries, item.retry_delay) for item in sensors} == {(0, timedelta(0))}


def test_the_producer_comes_before_its_sensors_in_the_queue(dag, shop):
    shop()
    producer = dag.task_dict["build.dbt_build"]
    others = [item for item in dag.tasks if item is not producer]
    assert producer.priority_weight > max(item.priority_weight for item in others)


def test_override_changes_what_is_named_and_keeps_the_rest(dag, decorate):
    @decorate(namespace="dbt", select="raw_orders")
    def build(): ...

    build()
    build.override(group_id="again", select="raw_payments", image="shop:2")()
    again = dag.task_dict["again.dbt_build"]
    assert (again.image, again.namespace) == ("shop:2", "dbt")
    assert "again.raw_payments" in dag.task_ids
    assert "again.raw_orders" not in dag.task_ids


def test_one_project_can_be_used_twice_in_a_dag(dag, decorate):
    @decorate()
    def build(): ...

    first, second = build(), build()
    assert first.group.group_id != second.group.group_id
    assert len({item.task_id for item in dag.tasks}) == 2 * (1 + len(first.group.children) - 1)


def test_how_sensors_start_can_be_chosen(dag, decorate):
    for mode in ("auto", "eager", "lineage"):

        @decorate(sensors=mode, group_id=mode)
        def build(): ...

        build()
    eager, lineage = dag.task_dict["eager.orders"], dag.task_dict["lineage.orders"]
    assert eager.trigger_rule is TriggerRule.ALWAYS
    assert eager.start_from_trigger is STARTS_FROM_TRIGGER
    assert lineage.trigger_rule is TriggerRule.ALL_DONE
    assert lineage.start_from_trigger is False
    auto = dag.task_dict["auto.orders"]
    assert auto.trigger_rule is (TriggerRule.ALWAYS if STARTS_FROM_TRIGGER else TriggerRule.ALL_DONE)


def executors(monkeypatch, names):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", names)


@pytest.mark.skipif(not HAS_WORKLOAD_TOKENS, reason="the executor needs Airflow 3.3")
@pytest.mark.parametrize(
    "names",
    ["LocalExecutor,dbt_watch.NodeExecutor", "CeleryExecutor, dbt:dbt_watch.NodeExecutor;team=LocalExecutor"],
)
def test_sensors_may_be_run_by_the_executor(decorate, monkeypatch, names):
    executors(monkeypatch, names)
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=64) as dag:

        @decorate(sensors="executor")
        def build(): ...

        build()
    sensor = dag.task_dict["build.orders"]
    assert sensor.executor == NODE_EXECUTOR
    assert sensor.trigger_rule is TriggerRule.ALWAYS
    assert not sensor.start_from_trigger
    assert sensor.executor_config[NODE_EXECUTOR]["unique_ids"] == ["model.jaffle_shop.orders"]
    assert dag.task_dict["build.dbt_build"].executor is None


@pytest.mark.skipif(not HAS_WORKLOAD_TOKENS, reason="the executor needs Airflow 3.3")
@pytest.mark.parametrize(
    ("names", "places", "words"),
    [
        (
            "LocalExecutor",
            64,
            r"\[core\] executor is LocalExecutor, not LocalExecutor,dbt_watch\.NodeExecutor",
        ),
        ("dbt_watch.NodeExecutor", 64, r"\[core\] executor is dbt_watch\.NodeExecutor, not"),
        ("LocalExecutor,dbt_watch.NodeExecutor", 16, "max_active_tasks=[0-9]+, or at least [0-9]+"),
    ],
)
def test_where_the_executor_cannot_run_them_sensors_start_as_ever_and_a_warning_says_what_is_missing(
    decorate, monkeypatch, names, places, words
):
    executors(monkeypatch, names)
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=places) as dag:

        @decorate(sensors="executor")
        def build(): ...

        with pytest.warns(ExecutorWarning, match=words):
            build()
    assert dag.task_dict["build.orders"].executor is None
    assert dag.task_dict["build.orders"].start_from_trigger


@pytest.mark.skipif(not HAS_WORKLOAD_TOKENS, reason="the executor needs Airflow 3.3")
def test_the_sensors_of_all_projects_of_a_dag_are_counted_against_its_limit(decorate, monkeypatch):
    executors(monkeypatch, "LocalExecutor,dbt_watch.NodeExecutor")
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=30) as dag:

        @decorate(sensors="executor")
        def build(): ...

        build()
        count = len([item for item in dag.tasks if item.executor == NODE_EXECUTOR])
        assert count < 30 <= 2 * count
        with pytest.warns(
            ExecutorWarning,
            match=f"{2 * count} node tasks .* max_active_tasks={2 * count + 16}, or at least {2 * count + 1}",
        ):
            build()


@pytest.mark.skipif(not HAS_WORKLOAD_TOKENS, reason="the executor needs Airflow 3.3")
def test_a_mapped_project_is_not_run_by_the_executor(decorate, monkeypatch):
    executors(monkeypatch, "LocalExecutor,dbt_watch.NodeExecutor")
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=1000):

        @decorate(sensors="executor")
        def build(day): ...

        with pytest.warns(ExecutorWarning, match="mapped"):
            build.expand(day=["1", "2"])


def test_default_arguments_of_a_dag_leave_the_sensors_as_they_must_be(project):
    limit = timedelta(minutes=5)
    defaults = {
        "retries": 5,
        "execution_timeout": limit,
        "trigger_rule": "one_failed",
        "namespace": "dbt",
        "priority_weight": 7,
    }
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), default_args=defaults) as dag:

        @dbt_k8s_project(manifest=project / "target/manifest.json", image="shop:1", sensors="lineage")
        def build(): ...

        build()
    sensor = dag.task_dict["build.orders"]
    # A node takes as long as dbt takes; a sensor that runs again was cleared.
    assert (sensor.retries, sensor.execution_timeout) == (0, None)
    assert sensor.trigger_rule is TriggerRule.ALL_DONE
    assert dag.task_dict["build.dbt_build"].retries == 5
    assert dag.task_dict["build.dbt_build"].execution_timeout == limit
    assert dag.task_dict["build.dbt_build"].namespace == "dbt"


def test_a_task_bears_the_kind_and_the_description_of_its_node(dag, shop, graph):
    shop()
    kinds = {
        name: dag.task_dict[f"build.{name}"].operator_name
        for name in ("orders", "raw_orders", "orders.unit_test")
    }
    assert kinds == {"orders": "dbt model", "raw_orders": "dbt seed", "orders.unit_test": "dbt unit test"}
    described = graph.nodes["model.jaffle_shop.orders"].description
    assert described
    assert dag.task_dict["build.orders"].doc_md == f"{described}\n\n`models/marts/orders.sql`"
    assert dag.task_dict["build.orders.test"].doc_md is None


def test_the_serialized_dag_stays_small(dag, shop, serialized):
    shop()
    size = len(json.dumps(serialized(dag)))
    assert size / len(dag.tasks) < 1500


def test_on_a_worker_only_the_task_to_be_run_is_made(project, monkeypatch):
    def tasks_for(task_id):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "shop")
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", task_id)
        with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

            @task
            def publish(): ...

            @dbt_k8s_project(manifest=project / "target/manifest.json", image="shop:1")
            def build():
                @dbt_node("raw_orders")
                def check(result): ...

                check()

            shop = build()
            shop["customers"] >> publish()
            task(lambda: None).override(task_id="before")() >> shop
        return {item for item in dag.task_ids if item.startswith("build.")}

    asked_for = {"build.check", "build.customers.test", "build.raw_orders"}
    assert tasks_for("build.orders") == {"build.orders"} | asked_for
    assert tasks_for("build.dbt_build") == {"build.dbt_build"} | asked_for
    assert tasks_for("publish") == asked_for


def test_each_sensor_has_a_turn_after_those_it_depends_on(dag, shop):
    shop()
    sensors = {task.task_id: task for task in dag.tasks if isinstance(task, DbtNodeSensor)}
    turns = {task_id: sensor._trigger_arguments()["turn"] for task_id, sensor in sensors.items()}
    assert sorted(turns.values()) == list(range(len(sensors)))
    for task_id, sensor in sensors.items():
        assert all(turns[parent] < turns[task_id] for parent in sensor.upstream_task_ids)
        others = list(sensor._rebuild.others())
        assert set(others) == set(sensors) - {task_id}
        assert [turns[other] for other in others] == sorted(turns[other] for other in others)


def test_a_sensor_takes_no_slot_of_a_pool_whatever_the_dag_says(project, serialized):
    defaults = {"pool": "narrow", "pool_slots": 3}
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), default_args=defaults) as dag:

        @dbt_k8s_project(manifest=project / "target/manifest.json", image="shop:1")
        def build(): ...

        build()
    stored = {task["__var"]["task_id"]: task["__var"] for task in serialized(dag)["dag"]["tasks"]}
    for task_id, slots in {"build.orders": 0, "build.orders.test": 0, "build.dbt_build": 3}.items():
        assert (dag.task_dict[task_id].pool, dag.task_dict[task_id].pool_slots) == ("narrow", slots)
        assert stored[task_id]["pool_slots"] == slots
