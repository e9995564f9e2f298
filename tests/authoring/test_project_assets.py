"""Which tasks tell Airflow of builds by assets, and which assets a consumer's schedule names."""

from datetime import datetime
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Asset, AssetAlias, TriggerRule

from dbt_watch import dbt_asset
from dbt_watch.airflow.compat import HAS_WORKLOAD_TOKENS, STARTS_FROM_TRIGGER
from dbt_watch.exceptions import ArgumentError, SelectionError
from dbt_watch.sensors.operator import NODE_EXECUTOR

NAMESPACE = "postgres://db.example:5432"
ORDERS = "dbt://jaffle_shop/model.jaffle_shop.orders"


def aliases_of(task):
    return {outlet.name.rpartition(".")[2] for outlet in task.outlets if isinstance(outlet, AssetAlias)}


def test_nothing_is_told_unless_it_is_asked_for(dag, decorate):
    @decorate()
    def build(): ...

    build()
    assert not any(task.outlets for task in dag.tasks)
    assert "build.dbt_build.assets" not in dag.task_dict


def test_the_task_that_runs_dbt_tells_of_models_seeds_and_snapshots_at_its_end(dag, decorate):
    @decorate(assets="each")
    def build(): ...

    build()
    producer = dag.task_dict["build.dbt_build"]
    assert aliases_of(producer) == {
        "customers", "daily_revenue", "orders", "stg_customers", "stg_orders", "stg_payments", "raw_customers", "raw_orders",
        "raw_payments", "order_status_history",
    }  # fmt: skip
    assert set(producer.assets.relations) == {alias.name.rpartition("/")[2] for alias in producer.outlets}
    sensor = dag.task_dict["build.orders"]
    assert (sensor.outlets, sensor.tells_assets, list(sensor.worker_for)) == ([], False, [])
    # For the case that it is cleared alone and builds its node itself.
    assert list(sensor.assets.relations) == ["model.jaffle_shop.orders"]
    assert dag.task_dict["build.orders.test"].assets is None


def test_what_a_failed_run_has_built_is_told_by_a_task_that_leaves_the_failure_a_failure(dag, decorate):
    @decorate(
        assets="selected:orders raw_orders", assets_namespace=NAMESPACE, sensor_options={"queue": "small"}
    )
    def build(): ...

    project = build()
    report = dag.task_dict["build.dbt_build.assets"]
    assert report.upstream_task_ids == {"build.dbt_build"}
    assert (report.is_teardown, report.on_failure_fail_dagrun) == (True, False)
    assert report.trigger_rule == TriggerRule.ALL_FAILED
    assert report.queue == "small"
    assert aliases_of(report) == {"orders", "raw_orders"}
    # Airflow knows the assets before the first build; see `asset_events.make_known`.
    assert {asset.uri for asset in report.outlets if isinstance(asset, Asset)} == {
        f"{NAMESPACE}/jaffle_shop/main/{name}" for name in ("orders", "raw_orders")
    }
    assert report.watched["build.orders"] == ("model.jaffle_shop.orders",)
    assert report not in project.leaves
    assert project.producers == [dag.task_dict["build.dbt_build"]]


def test_sensors_tell_each_for_itself_through_a_worker_where_that_is_wished(dag, decorate):
    @decorate(assets="selected:orders", assets_when="built")
    def build(): ...

    build()
    orders = dag.task_dict["build.orders"]
    assert aliases_of(orders) == {"orders"}
    assert list(orders.worker_for) == ["succeed"]
    if STARTS_FROM_TRIGGER:
        assert orders.start_trigger_args.trigger_kwargs["worker_for"] == ["succeed"]
    assert list(dag.task_dict["build.customers"].worker_for) == []
    assert dag.task_dict["build.dbt_build"].outlets == []
    assert "build.dbt_build.assets" not in dag.task_dict


@pytest.mark.skipif(not HAS_WORKLOAD_TOKENS, reason="there is no such executor before Airflow 3.3")
def test_the_executor_tells_as_soon_as_a_node_is_built_and_no_worker_is_started_for_it(decorate, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", f"LocalExecutor,{NODE_EXECUTOR}")
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=100) as dag:

        @decorate(assets="selected:orders", assets_namespace=NAMESPACE, sensors="executor")
        def build(): ...

        build()
    orders = dag.task_dict["build.orders"]
    assert list(orders.worker_for) == []
    assert orders.executor_config[NODE_EXECUTOR]["assets"] == {
        "project": "jaffle_shop",
        "relations": {"model.jaffle_shop.orders": '"jaffle_shop"."main"."orders"'},
        "namespace": NAMESPACE,
    }
    assert "assets" not in dag.task_dict["build.customers"].executor_config[NODE_EXECUTOR]
    assert "build.dbt_build.assets" not in dag.task_dict


def test_the_task_of_an_isolated_node_tells_of_it_and_each_producer_of_its_own_nodes(dag, decorate):
    @decorate(assets="each", isolate="stg_orders")
    def build(): ...

    build()
    assert aliases_of(dag.task_dict["build.stg_orders"]) == {"stg_orders"}
    first, second = (aliases_of(dag.task_dict[f"build.dbt_build{number}"]) for number in ("", "_2"))
    assert "raw_orders" in first
    assert "orders" in second
    assert not first & second
    assert "stg_orders" not in first | second
    assert {"build.dbt_build.assets", "build.dbt_build_2.assets"} <= set(dag.task_dict)
    assert "build.stg_orders.assets" not in dag.task_dict


def test_outlets_of_ones_own_stay(dag, decorate):
    @decorate(assets="selected:orders", outlets=[Asset("s3://lake/done")])
    def build(): ...

    build()
    assert dag.task_dict["build.dbt_build"].outlets == [Asset("s3://lake/done"), AssetAlias(ORDERS)]


def test_a_mapped_project_and_a_serialized_dag_have_them_too(dag, decorate, serialized):
    @decorate(assets="selected:orders")
    def build(region): ...

    build.expand(region=["north", "south"])
    told = str(serialized(dag))
    assert "build.dbt_build.assets" in told
    assert ORDERS in told


@pytest.mark.parametrize("task_id", ["build.dbt_build.assets", "build.orders", "build.dbt_build"])
def test_a_worker_makes_only_the_task_that_runs_there(dag, decorate, monkeypatch, task_id):
    context = SimpleNamespace(dag_id="shop", task_id=task_id)
    for module in ("rendering.pod_tasks", "authoring.project_factory", "authoring.pod_arguments"):
        monkeypatch.setattr(f"dbt_watch.{module}.get_parsing_context", lambda: context)

    @decorate(assets="each")
    def build(): ...

    build()
    assert set(dag.task_dict) == {task_id}
    assert dag.task_dict[task_id].assets.relations


@pytest.mark.parametrize("value", ["all", "selected:", "selected: ", ["orders"], None, True])
def test_another_word_for_the_assets_is_refused(decorate, value):
    with pytest.raises(ArgumentError, match="assets"):
        decorate(assets=value)


def test_a_selection_without_a_node_that_has_an_asset_is_refused(dag, decorate):
    @decorate(assets="selected:ordres")
    def misspelt(): ...

    with pytest.raises(SelectionError, match="orders"):
        misspelt()

    @decorate(assets="selected:test_type:generic")
    def tests(): ...

    with pytest.raises(SelectionError, match="model, seed or snapshot"):
        tests()


def test_a_namespace_that_no_asset_can_have_is_refused(dag, decorate):
    with pytest.raises(ArgumentError, match="user"):
        decorate(assets="each", assets_namespace="postgres://me:secret@db:5432")

    @decorate(assets="each", assets_namespace="airflow://db")
    def build(): ...

    with pytest.raises(ArgumentError, match="reserved"):
        build()


def test_a_consumer_is_scheduled_by_the_alias_which_is_right_wherever_dbt_builds(project):
    manifest = project / "target/manifest.json"
    assert dbt_asset(manifest, "orders") == AssetAlias(ORDERS)
    assert dbt_asset(str(manifest), "jaffle_shop.orders") == AssetAlias(ORDERS)
    with DAG("report", schedule=[dbt_asset(manifest, "orders")]) as dag:
        pass
    assert ORDERS in str(dag.timetable.asset_condition)


def test_a_consumer_may_be_scheduled_by_the_uri(project):
    asset = dbt_asset(project / "target/manifest.json", "orders", namespace=NAMESPACE)
    assert asset == Asset(f"{NAMESPACE}/jaffle_shop/main/orders")


def test_a_relative_path_starts_at_the_file_that_names_the_asset(tmp_path, project):
    (tmp_path / "manifest.json").write_bytes((project / "target/manifest.json").read_bytes())
    names = {}
    code = "from dbt_watch import dbt_asset\nasset = dbt_asset('manifest.json', 'orders')"
    exec(compile(code, str(tmp_path / "report_dag.py"), "exec"), names)  # noqa: S102 - as a DAG file is
    assert names["asset"] == AssetAlias(ORDERS)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("ordres", "orders"),
        ("unique_orders_order_id", "is a test"),
        ("no_cancelled_order_is_paid", "is a test"),
    ],
)
def test_what_has_no_asset_is_refused_with_the_reason(project, node, words):
    with pytest.raises(ArgumentError, match=words):
        dbt_asset(project / "target/manifest.json", node)
