"""`isolate`: which nodes get a pod of their own, with what, and what that makes of the tasks."""

import json

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import task
from airflow.sdk.definitions._internal.contextmanager import DagContext
from kubernetes.client import models as k8s

from dbt_watch import PodSettings, dbt_build, dbt_node
from dbt_watch.core.part import Upstream
from dbt_watch.exceptions import ArgumentError, SelectionError, SelectionWarning
from dbt_watch.sensors.operator import DbtNodeSensor


def variables_of(operator):
    """Return the variables of an operator, which some versions of the provider keep as a list."""
    given = operator.env_vars
    return given if isinstance(given, dict) else {item.name: item.value for item in given}


HEAVY = k8s.V1ResourceRequirements(requests={"memory": "64Gi"})


def made(decorate, **arguments):
    return decorate(group_id="build", **arguments)(lambda: None)()


@pytest.fixture
def with_meta(project, tmp_path):
    """Return the example's manifest with something in `meta.dbt_watch` of the orders."""

    def manifest(settings):
        content = json.loads((project / "target/manifest.json").read_text())
        orders = content["nodes"]["model.jaffle_shop.orders"]
        orders["config"]["meta"] = {"dbt_watch": settings}
        orders["meta"] = {"dbt_watch": settings}
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(content))
        return path

    return manifest


def test_the_task_of_an_isolated_node_runs_dbt_itself(dag, decorate):
    project = made(decorate, isolate="orders")
    orders = dag.task_dict["build.orders"]
    assert orders.task_type == "DbtKubernetesPodOperator"
    assert orders.operator_name == "dbt model"
    assert project["orders"].result.operator is orders
    assert {"model.jaffle_shop.orders"} < orders.part.nodes
    assert orders.part.stands_for == ("model.jaffle_shop.orders",)


def test_its_tests_have_tasks_of_their_own_that_follow_its_pod(dag, decorate):
    made(decorate, isolate="orders")
    tests = dag.task_dict["build.orders.test"]
    assert isinstance(tests, DbtNodeSensor)
    assert tests.producer_task_id == "build.orders"
    assert tests._trigger_arguments()["producer_task_id"] == "build.orders"
    assert dag.task_dict["build.orders"].watched.keys() == {
        "build.orders", "build.orders.test", "build.orders.unit_test",
    }  # fmt: skip


def test_the_rest_is_built_by_a_producer_before_it_and_one_behind_it(dag, decorate):
    project = made(decorate, isolate="orders")
    assert [task.task_id for task in project.producers] == ["build.dbt_build", "build.dbt_build_2"]
    first, second = project.producers
    assert (first.upstream_task_ids, first.trigger_rule) == (set(), "all_success")
    assert dag.task_dict["build.orders"].upstream_task_ids == {
        "build.stg_orders.test",
        "build.stg_payments.test",
    }
    # The test of what comes before it and of it itself, which dbt runs before what depends on both.
    assert {"build.orders.test"} < second.upstream_task_ids
    assert second.trigger_rule == "all_done"
    assert dag.task_dict["build.customers"].producer_task_id == "build.dbt_build_2"
    assert dag.task_dict["build.stg_orders"].producer_task_id == "build.dbt_build"


def test_an_isolated_node_does_not_wait_for_the_sensor_of_its_own_unit_tests(dag, decorate):
    made(decorate, isolate="orders")
    assert "build.orders.unit_test" not in dag.task_dict["build.orders"].upstream_task_ids


def test_the_ids_of_tasks_are_the_same_but_for_the_producers(dag, decorate):
    made(decorate, isolate="orders")
    isolated = set(dag.task_dict)
    plain = decorate(group_id="plain")(lambda: None)()
    ids = {task_id.replace("plain.", "build.") for task_id in dag.task_dict if task_id.startswith("plain.")}
    assert isolated == ids | {"build.dbt_build_2"}
    assert len(plain.producers) == 1


def test_a_pod_per_node_has_no_producer(dag, decorate):
    project = made(decorate, isolate="*")
    assert project.producers == []
    assert project.producer is None
    kinds = {task.task_type for task in dag.tasks if not task.task_id.endswith("test")}
    assert kinds == {"DbtKubernetesPodOperator"}
    assert [task.task_id for task in project.roots] == [
        "build.raw_customers", "build.raw_orders", "build.raw_payments",
    ]  # fmt: skip


def test_the_only_node_of_a_project_may_be_isolated(dag, decorate):
    project = made(decorate, select="orders", isolate="*")
    assert dag.task_dict["build.orders"].part.stands_for == ("model.jaffle_shop.orders",)
    assert {task.task_id for task in project.leaves} == {
        "build.orders", "build.orders.test", "build.orders.unit_test",
    }  # fmt: skip


def test_the_project_is_done_when_all_pods_and_the_tests_of_isolated_nodes_are(dag, decorate):
    project = made(decorate, isolate="orders")
    assert {task.task_id for task in project.leaves} == {
        "build.dbt_build", "build.dbt_build_2", "build.orders", "build.orders.test", "build.orders.unit_test",
    }  # fmt: skip


def test_settings_replace_arguments_of_the_project_for_the_isolated_node_alone(dag, decorate):
    settings = PodSettings(container_resources=HEAVY, env_vars={"KEY": "of its own"}, pool="heavy")
    project = made(decorate, isolate={"orders": settings}, env_vars={"KEY": "of all"}, namespace="dbt")
    orders = dag.task_dict["build.orders"]
    assert (orders.container_resources, orders.pool, orders.namespace) == (HEAVY, "heavy", "dbt")
    assert variables_of(orders) == {"KEY": "of its own"}
    assert variables_of(project.producer) == {"KEY": "of all"}
    assert project.producer.container_resources is None
    assert project.producer.pool == "default_pool"


def test_of_several_selections_each_adds_its_settings_and_the_later_wins(dag, decorate):
    made(
        decorate,
        isolate={
            "tag:nightly": PodSettings(image="shop:2", service_account_name="nightly"),
            "orders": PodSettings(image="shop:3"),
        },
    )
    orders, customers = dag.task_dict["build.orders"], dag.task_dict["build.customers"]
    assert (orders.image, orders.service_account_name) == ("shop:3", "nightly")
    assert (customers.image, customers.service_account_name) == ("shop:2", "nightly")


def test_the_priority_of_an_isolated_node_is_its_settings_or_the_project_s(dag, decorate, with_meta):
    made(
        decorate,
        isolate={"orders": PodSettings(priority_weight=7), "customers": PodSettings()},
        priority_weight=3,
    )
    weights = [
        dag.task_dict[f"build.{name}"].priority_weight for name in ("orders", "customers", "orders.test")
    ]
    assert weights == [7, 3, 1]


def test_a_node_says_itself_that_it_is_isolated_and_what_is_different_about_its_pod(dag, decorate, with_meta):
    settings = {
        "isolate": {
            "image": "shop:3",
            "node_selector": {"disk": "ssd"},
            "container_resources": {"requests": {"memory": "64Gi"}},
            "tolerations": [{"key": "heavy", "operator": "Exists"}],
        }
    }
    made(decorate, manifest=with_meta(settings), isolate={"orders": PodSettings(image="shop:2")})
    orders = dag.task_dict["build.orders"]
    assert (orders.image, orders.node_selector) == ("shop:3", {"disk": "ssd"})
    assert orders.container_resources == HEAVY
    assert orders.tolerations[0].key == "heavy"


def test_true_is_enough_for_a_node_to_be_isolated(dag, decorate, with_meta):
    made(decorate, manifest=with_meta({"isolate": True}))
    assert dag.task_dict["build.orders"].part.stands_for == ("model.jaffle_shop.orders",)


def test_false_leaves_a_node_where_it_is(dag, decorate, with_meta):
    assert len(made(decorate, manifest=with_meta({"isolate": False})).producers) == 1
    assert isinstance(dag.task_dict["build.orders"], DbtNodeSensor)


def test_tests_that_belong_to_the_task_of_an_isolated_node_are_part_of_its_outcome(dag, decorate):
    made(decorate, isolate="orders", tests="build")
    stands_for = dag.task_dict["build.orders"].part.stands_for
    assert stands_for[0] == "model.jaffle_shop.orders"
    assert any(unique_id.startswith("test.") for unique_id in stands_for)


def test_tests_of_all_are_run_by_a_producer_of_their_own(dag, decorate):
    project = made(decorate, isolate="orders", tests="after_all")
    last = project.producers[-1]
    assert {unique_id.partition(".")[0] for unique_id in last.part.nodes} == {"test", "unit_test"}
    assert dag.task_dict["build.tests"].producer_task_id == last.task_id


def test_sources_may_have_a_pod_of_their_own_too(dag, landed_project):
    project = landed_project(isolate="*", freshness="before")
    source = dag.task_dict["build.source.shop.orders"]
    assert source.part.stands_for == ("source.jaffle_shop.shop.orders",)
    assert source.downstream_task_ids == {"build.stg_orders"}
    assert project.producers == []


@pytest.fixture
def landed_project(decorate, project, tmp_path):
    def make(**arguments):
        content = json.loads((project / "target/manifest.json").read_text())
        content["sources"]["source.jaffle_shop.shop.orders"] = {
            "unique_id": "source.jaffle_shop.shop.orders",
            "name": "orders",
            "source_name": "shop",
            "resource_type": "source",
            "package_name": "jaffle_shop",
            "fqn": ["jaffle_shop", "shop", "orders"],
            "path": "models/sources.yml",
            "original_file_path": "models/sources.yml",
            "config": {"enabled": True},
            "loaded_at_field": "loaded_at",
            "freshness": {"warn_after": {"count": 1, "period": "day"}, "error_after": {}},
        }
        content["nodes"]["model.jaffle_shop.stg_orders"]["depends_on"]["nodes"].append(
            "source.jaffle_shop.shop.orders"
        )
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(content))
        return made(decorate, manifest=path, **arguments)

    return make


# Tasks in the middle.


def test_a_function_before_a_node_splits_the_project_and_gives_a_variable_to_what_is_behind_it(dag, decorate):
    @task
    def land() -> str: ...

    @decorate(group_id="build")
    def build(batch):
        @dbt_node("orders", before=True)
        def cutoff(days: int) -> str: ...

        return dbt_build(vars={"cutoff": cutoff(days=3), "batch": batch})

    project = build(land())
    first, second = project.producers
    assert first.build["vars"].keys() == {"batch"}
    assert second.build["vars"].keys() == {"batch", "cutoff"}
    assert dag.task_dict["build.cutoff"].upstream_task_ids == {
        "build.stg_orders.test",
        "build.stg_payments.test",
    }
    assert first.upstream_task_ids == {"land"}
    assert {"build.cutoff", "build.stg_orders.test", "land"} <= second.upstream_task_ids
    assert second.needs == {"land", "build.cutoff"}
    assert (first.trigger_rule, second.trigger_rule) == ("all_success", "all_done")
    assert dag.task_dict["build.orders"].producer_task_id == "build.dbt_build_2"
    assert not {"build.cutoff"} & {task.task_id for task in project.leaves}


def test_a_function_before_each_node_of_a_selection_is_one_task_for_each(dag, decorate):
    @decorate(group_id="build")
    def build():
        @dbt_node(select="customers daily_revenue", before=True)
        def prepare(): ...

        prepare()

    build()
    assert {"build.prepare.customers", "build.prepare.daily_revenue"} <= set(dag.task_dict)


def test_a_function_before_an_isolated_node_comes_before_its_pod(dag, decorate):
    @decorate(group_id="build", isolate="orders")
    def build():
        @dbt_node("orders", before=True)
        def prepare(): ...

        prepare()

    build()
    assert "build.prepare" in dag.task_dict["build.orders"].upstream_task_ids


def test_a_task_in_front_of_a_node_does_the_same(dag, decorate):
    @task
    def fit(): ...

    project = made(decorate)
    project["stg_orders"] >> fit() >> project["orders"]
    first, second = project.producers
    assert dag.task_dict["fit"].upstream_task_ids == {"build.stg_orders.test"}
    assert dag.task_dict["fit"].downstream_task_ids == {"build.dbt_build_2"}
    assert "model.jaffle_shop.orders" in second.part.nodes
    assert "model.jaffle_shop.stg_payments" in first.part.nodes
    assert dag.task_dict["build.customers"].producer_task_id == "build.dbt_build_2"
    assert dag.task_dict["build.customers"]._trigger_arguments()["producer_task_id"] == "build.dbt_build_2"


def test_a_second_task_may_split_the_project_once_more(dag, decorate):
    @task
    def fit(): ...

    @task
    def check(): ...

    project = made(decorate)
    project["stg_orders"] >> fit() >> project["orders"]
    project["orders"] >> check() >> project["customers"]
    assert [task.task_id for task in project.producers] == [
        "build.dbt_build", "build.dbt_build_2", "build.dbt_build_3",
    ]  # fmt: skip
    assert dag.task_dict["fit"].downstream_task_ids == {"build.dbt_build_2"}
    assert dag.task_dict["check"].downstream_task_ids == {"build.dbt_build_3"}


def test_a_task_that_waits_for_nothing_holds_back_the_one_pod(dag, decorate):
    @task
    def land(): ...

    project = made(decorate)
    land() >> project["raw_orders"]
    (producer,) = project.producers
    assert producer.upstream_task_ids == {"land"}
    assert [upstream.behind for upstream in producer.part.upstreams] == [("seed.jaffle_shop.raw_orders",)]
    assert producer.trigger_rule == "all_done"


def test_a_model_named_like_a_producer_and_more_is_a_node_as_any_other(dag, decorate, project, tmp_path):
    @task
    def fit(): ...

    content = json.loads((project / "target/manifest.json").read_text())
    content["nodes"]["model.jaffle_shop.stg_payments"]["name"] = "dbt_build_stats"
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    shop = made(decorate, manifest=path)
    shop["dbt_build_stats"] >> fit() >> shop["orders"]
    assert "model.jaffle_shop.stg_payments" in shop.producers[0].part.nodes
    assert dag.task_dict["fit"].downstream_task_ids == {"build.dbt_build_2"}


def test_a_task_before_a_node_that_waits_for_what_is_behind_it_is_refused_with_all_three_names(dag, decorate):
    @task
    def fit(): ...

    project = made(decorate)
    with pytest.raises(
        ArgumentError, match=r"fit >> orders.*fit waits for customers, which dbt builds after orders"
    ):
        project["customers"] >> fit() >> project["orders"]


def test_a_sensor_knows_the_tasks_directly_in_front_of_its_node_for_when_it_is_cleared_alone(dag, decorate):
    @task
    def fit(): ...

    @task
    def approve(): ...

    project = made(decorate)
    project["stg_orders"] >> fit() >> project["orders"]
    approve() >> project["orders"]
    barriers = {
        task_id: dag.task_dict[task_id]._rebuild.barriers()
        for task_id in ("build.orders", "build.orders.test", "build.customers", "build.stg_orders")
    }
    assert barriers.pop("build.orders") == ["approve", "fit"]
    assert set(map(tuple, barriers.values())) == {()}


def test_an_edge_that_makes_a_circle_later_is_refused_too(dag, decorate):
    @task
    def fit(): ...

    project = made(decorate)
    fitted = fit()
    fitted >> project["orders"]
    with pytest.raises(ArgumentError, match="fit waits for customers"):
        project["customers"] >> fitted


def test_an_edge_that_came_too_late_is_noticed_when_the_pod_is_about_to_run(dag, decorate):
    @task
    def fit(): ...

    @task
    def between(): ...

    project = made(decorate)
    fitted, step = fit(), between()
    fitted >> project["orders"]
    project["stg_orders"] >> step
    step >> fitted
    with pytest.raises(ArgumentError, match=r"fit >> orders.*to come later in the DAG file"):
        project.producer.check()


def test_of_edges_that_came_too_late_each_is_named(dag, decorate):
    @task
    def fit(): ...

    project = made(decorate)
    fitted, step = fit(), EmptyOperator(task_id="step")
    fitted >> project["orders"]
    fitted >> project["customers"]
    project["stg_orders"] >> step
    step >> fitted
    with pytest.raises(ArgumentError) as caught:
        project.producer.check()
    assert sorted(caught.value.value.split(", ")) == ["fit >> customers", "fit >> orders"]


def test_a_task_may_wait_for_a_node_through_any_number_of_others(dag, decorate):
    project = made(decorate)
    steps = [EmptyOperator(task_id=f"step{number}") for number in range(3)]
    project["stg_orders"] >> steps[0] >> steps[1] >> steps[2]
    steps[0] >> steps[2]
    steps[2] >> project["orders"]
    first, second = project.producers
    assert "model.jaffle_shop.stg_orders" in first.part.nodes
    assert second.part.upstreams[-1] == Upstream("step2", None, ("model.jaffle_shop.orders",))


def test_a_task_behind_a_function_that_is_bound_to_a_node_waits_for_that_node(dag, decorate):
    @task
    def fit(): ...

    @decorate(group_id="build")
    def build():
        @dbt_node("stg_orders")
        def tell(result): ...

        tell()

    project = build()
    dag.task_dict["build.tell"] >> fit() >> project["orders"]
    assert dag.task_dict["fit"].downstream_task_ids == {"build.dbt_build_2"}


def test_a_task_behind_the_tests_of_all_nodes_can_hold_back_none(dag, decorate):
    project = made(decorate, tests="after_all")
    fit = EmptyOperator(task_id="fit")
    dag.task_dict["build.tests"] >> fit
    with pytest.raises(ArgumentError, match="expected no cycle"):
        fit >> project["orders"]


def test_a_task_behind_the_whole_run_can_hold_back_none_of_its_nodes(dag, decorate):
    project = made(decorate)
    fit = EmptyOperator(task_id="fit")
    project.producer >> fit
    with pytest.raises(ArgumentError, match="expected no cycle"):
        fit >> project["raw_orders"]


def test_tasks_of_another_project_are_none_of_this_one(dag, decorate):
    other = decorate(group_id="other")(lambda: None)()
    project = made(decorate)
    fit = EmptyOperator(task_id="fit")
    other["customers"] >> fit >> project["orders"]
    assert [task.task_id for task in project.producers] == ["build.dbt_build"]
    assert project.producer.part.upstreams == (Upstream("fit", None, ("model.jaffle_shop.orders",)),)


def test_a_task_behind_another_project_that_waits_for_this_one_waits_for_it_too(dag, decorate):
    project = made(decorate)
    other = decorate(group_id="other")(lambda: None)()
    project["stg_orders"] >> other
    fit = EmptyOperator(task_id="fit")
    other["raw_customers"] >> fit >> project["orders"]
    assert [task.task_id for task in project.producers] == ["build.dbt_build", "build.dbt_build_2"]


def test_functions_before_nodes_that_wait_for_none_are_held_back_with_the_project(dag, decorate):
    @decorate(group_id="build")
    def build():
        @dbt_node("raw_orders", before=True)
        def land(): ...

        @dbt_node("orders", before=True)
        def fit(): ...

        land()
        fit()

    before = EmptyOperator(task_id="before")
    before >> build()
    assert before.downstream_task_ids == {"build.land", "build.dbt_build"}


def test_a_task_in_front_of_a_test_is_refused(dag, decorate):
    @task
    def fit(): ...

    project = made(decorate)
    test = next(
        item for key, item in project.nodes.items() if key.startswith("test.") and "unique_orders" in key
    )
    with pytest.raises(ArgumentError, match="a test runs in the pod of the node that it tests"):
        fit() >> test


def test_a_value_that_waits_for_dbt_cannot_be_one_of_its_options(dag, decorate):
    def body():
        @dbt_node("raw_orders")
        def count(result): ...

        return dbt_build(vars={"count": count()})

    with pytest.raises(ArgumentError, match=r"vars='build.count'.*waits for dbt.*before=True"):
        decorate(group_id="build")(body)()


def test_what_a_function_before_a_node_returns_can_be_a_variable_and_nothing_else(dag, decorate):
    def body():
        @dbt_node("orders", before=True)
        def threads(): ...

        return dbt_build(threads=threads())

    with pytest.raises(ArgumentError, match=r"threads='build.threads'.*can only be one of the vars"):
        decorate(group_id="build")(body)()


def test_a_function_before_a_node_takes_no_outcome(dag, decorate):
    with pytest.raises(ArgumentError, match="on='failure': expected to be left out with before=True"):
        dbt_node("orders", before=True, on="failure")


# On a worker.


@pytest.fixture
def on_a_worker(monkeypatch):
    def run(task_id):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "shop")
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", task_id)

    return run


def split_by_a_task(decorate):
    @task
    def fit(): ...

    @decorate(group_id="build", isolate="customers")
    def build():
        @dbt_node("customers")
        def tell(result): ...

        tell()

    project = build()
    project["stg_orders"] >> fit() >> project["orders"]
    return project


@pytest.mark.parametrize("task_id", ["build.dbt_build", "build.dbt_build_2", "build.customers"])
def test_a_worker_makes_the_one_task_that_runs_dbt_and_knows_its_part(dag, decorate, on_a_worker, task_id):
    split_by_a_task(decorate)
    whole = dag.task_dict[task_id].part
    with type(dag)("shop", schedule=None) as worker_dag:
        on_a_worker(task_id)
        split_by_a_task(decorate)
    pods = [task.task_id for task in worker_dag.tasks if task.task_type == "DbtKubernetesPodOperator"]
    assert pods == [task_id]
    assert worker_dag.task_dict[task_id].part == whole
    worker_dag.task_dict[task_id].check()


def test_a_worker_that_runs_a_sensor_knows_which_pod_it_follows(dag, decorate, on_a_worker):
    on_a_worker("build.daily_revenue")
    split_by_a_task(decorate)
    assert dag.task_dict["build.daily_revenue"].producer_task_id == "build.dbt_build_2"


def test_a_sensor_that_was_cleared_alone_finds_the_pod_of_its_part(dag, decorate, on_a_worker):
    on_a_worker("build.customers.test")
    project = split_by_a_task(decorate)
    producer = project._tasks.producer_of("customers.test")
    assert producer.task_id == "build.customers"
    assert producer.part.stands_for == ("model.jaffle_shop.customers",)
    assert DagContext.get_current() is dag


# Bad input.


def test_a_selection_that_matches_nothing_is_refused(dag, decorate):
    with pytest.raises(SelectionError, match=r"isolate='ordres'.*did you mean orders"):
        made(decorate, isolate="ordres")


def test_a_selection_of_tests_alone_is_refused(dag, decorate):
    with pytest.raises(SelectionError, match="a test of one node runs in that node's pod"):
        made(decorate, isolate="test_type:unit")


def test_a_part_of_a_selection_that_matches_nothing_is_warned_of(dag, decorate):
    with pytest.warns(SelectionWarning, match="ordres"):
        made(decorate, isolate="orders ordres")


@pytest.mark.parametrize(
    ("isolate", "message"),
    [
        (7, "isolate=7: expected a selection"),
        ("", "isolate='': expected a selection"),
        ({"orders": {"image": "shop:2"}}, r"isolate\['orders'\].*expected PodSettings"),
        ({7: PodSettings()}, "isolate=7: expected a selection in dbt's syntax as each key"),
    ],
)
def test_what_is_no_selection_and_no_settings_is_refused(decorate, isolate, message):
    with pytest.raises(ArgumentError, match=message):
        decorate(isolate=isolate)


def test_a_setting_that_the_operator_does_not_know_is_refused_by_name(dag, decorate):
    with pytest.raises(ArgumentError, match=r"node_selektor=.*did you mean node_selector"):
        made(decorate, isolate={"orders": PodSettings(node_selektor={})})


def test_an_option_of_the_whole_project_is_no_setting():
    with pytest.raises(ArgumentError, match=r"tests='none'.*applies to the whole project"):
        PodSettings(tests="none")


def test_settings_of_a_node_that_are_wrong_are_refused_with_its_name(dag, decorate, with_meta):
    with pytest.raises(ArgumentError, match=r"meta.dbt_watch of model.jaffle_shop.orders: isolate=7"):
        made(decorate, manifest=with_meta({"isolate": 7}))


def test_the_values_of_settings_are_not_shown():
    assert "hush" not in repr(PodSettings(env_vars={"PASSWORD": "hush"}))
