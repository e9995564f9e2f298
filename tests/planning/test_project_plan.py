"""`DbtProject.plan`: which pods, tasks and commands a project gives, and why."""

import json

import msgspec
import pytest
from airflow.sdk import task
from kubernetes.client import models as k8s

from dbt_watch import PodSettings, ProjectPlan, dbt_build, dbt_node
from dbt_watch.core import resume
from dbt_watch.core.resume import selection_of_part
from dbt_watch.exceptions import ArgumentError


def pods(plan):
    return {pod.task_id: pod for pod in plan.pods}


def made(decorate, **arguments):
    return decorate(**arguments)(lambda: None)()


def test_a_project_in_one_pod_is_one_producer_with_all_nodes_and_no_reason(dag, decorate):
    plan = made(decorate, namespace="dbt").plan
    (pod,) = plan.pods
    assert (plan.dag_id, plan.group_id, plan.project, plan.is_mapped) == (
        "shop",
        "build",
        "jaffle_shop",
        False,
    )
    assert (pod.task_id, pod.kind, pod.node, pod.why) == ("build.dbt_build", "producer", None, "")
    assert len(pod.nodes) == plan.node_count == 23
    assert plan.task_count == len(dag.tasks)
    assert pod.command[:2] == ("dbt", "--log-format")
    assert (pod.image, pod.pool, pod.settings) == ("shop:1", "default_pool", {})


def test_the_pods_of_isolated_nodes_stand_where_they_can_begin(example_plan):
    plan = example_plan("isolated_dag.py")
    assert [pod.task_id for pod in plan.pods] == [
        "build.dbt_build", "build.orders", "build.dbt_build_2", "build.daily_revenue", "build.customers",
    ]  # fmt: skip


def test_an_isolated_node_names_each_selection_that_asked_for_its_pod(example_plan):
    plan = pods(example_plan("isolated_dag.py"))
    assert plan["build.orders"].why == 'orders has a pod of its own by isolate="tag:nightly"'
    assert plan["build.customers"].why.endswith('by isolate="tag:nightly" and isolate="customers"')


def test_a_node_that_asks_itself_says_so(dag, decorate, project, tmp_path):
    content = json.loads((project / "target/manifest.json").read_text())
    orders = content["nodes"]["model.jaffle_shop.orders"]
    orders["config"]["meta"] = orders["meta"] = {"dbt_watch": {"isolate": True}}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    plan = pods(made(decorate, manifest=path).plan)
    assert plan["build.orders"].why == "orders has a pod of its own by its meta.dbt_watch.isolate"


def test_a_later_producer_names_the_node_and_what_stands_between(dag, decorate):
    plan = pods(made(decorate, isolate="stg_orders").plan)
    assert plan["build.dbt_build_2"].why == (
        "orders is built behind stg_orders, which has a pod of its own and is built behind dbt_build"
    )


def test_a_reason_names_a_model_rather_than_a_test(dag, decorate):
    plan = pods(made(decorate, isolate="orders").plan)
    assert plan["build.dbt_build_2"].why.startswith(
        "customers is built behind orders, which has a pod of its own"
    )


def test_a_later_producer_names_all_isolated_nodes_on_the_way(dag, decorate):
    plan = pods(made(decorate, select="+customers", isolate="stg_orders stg_payments orders").plan)
    assert plan["build.dbt_build_2"].why.endswith(
        "is built behind orders, which has a pod of its own and is built behind stg_orders, which has a pod of its own"
        " and is built behind dbt_build"
    )


def test_a_task_in_the_middle_is_named_as_the_reason(example_plan):
    plan = pods(example_plan("between_dag.py"))
    assert plan["build.dbt_build"].why == ""
    assert plan["build.dbt_build_2"].why == (
        "orders is built behind the task build.name_batch, which waits for dbt_build"
    )
    assert plan["build.dbt_build_3"].why == (
        "customers is built behind the task approve, which waits for dbt_build_2"
    )


def test_a_producer_behind_isolated_nodes_alone_needs_no_reason(dag, decorate):
    (first, *_) = [pod for pod in made(decorate, isolate="raw_orders").plan.pods if pod.kind == "producer"]
    assert [awaited.node for awaited in first.waits_for] == ["seed.jaffle_shop.raw_orders"]
    assert first.why == ""


def test_the_tests_of_all_nodes_are_a_reason_too(dag, decorate):
    plan = made(decorate, isolate="orders", tests="after_all").plan
    assert plan.pods[-1].why == "the tests of all nodes run when everything is built"


def test_each_pod_knows_the_tasks_that_follow_it_and_their_nodes(example_plan):
    plan = pods(example_plan("isolated_dag.py"))
    tests = {task.task_id: task.nodes for task in plan["build.orders"].tasks}
    assert tests.keys() == {"build.orders.test", "build.orders.unit_test"}
    assert all(unique_id.startswith("test.") for unique_id in tests["build.orders.test"])


def test_each_pod_knows_what_it_waits_for(dag, decorate):
    @task
    def land(): ...

    @task
    def batch() -> str: ...

    @decorate(isolate="orders")
    def build(batch):
        return dbt_build(vars={"batch": batch})

    project = build(batch())
    land() >> project
    plan = pods(project.plan)
    assert [(awaited.task_id, awaited.node) for awaited in plan["build.dbt_build"].waits_for] == [
        ("batch", None), ("land", None),
    ]  # fmt: skip
    waits = {awaited.task_id: awaited.node for awaited in plan["build.orders"].waits_for}
    assert waits["build.stg_orders.test"] == "model.jaffle_shop.stg_orders"


def test_what_is_different_about_a_pod_is_told(example_plan):
    orders, customers = (
        pods(example_plan("isolated_dag.py"))[f"build.{name}"] for name in ("orders", "customers")
    )
    assert (orders.resources, orders.settings) == ({"requests": {"memory": "256Mi"}}, {})
    assert customers.settings == {"labels": {"holds": "personal-data"}}


def test_models_of_kubernetes_are_written_as_in_its_manifests(dag, decorate):
    own = PodSettings(tolerations=[k8s.V1Toleration(key="heavy", toleration_seconds=60)], pool="heavy")
    orders = pods(made(decorate, isolate={"orders": own}).plan)["build.orders"]
    assert orders.settings == {"tolerations": [{"key": "heavy", "tolerationSeconds": 60}]}
    assert orders.pool == "heavy"


def test_what_all_tasks_of_a_dag_are_given_counts(dag, decorate):
    dag.default_args["pool"] = "warehouse"
    assert made(decorate).plan.pods[0].pool == "warehouse"


def test_the_commands_are_those_that_the_containers_get(dag, decorate):
    @decorate(isolate="orders", project_dir="/usr/app", cmds=["uv", "run", "dbt"])
    def build():
        return dbt_build(vars={"day": "today"}, full_refresh=True, threads=4, flags=["--warn-error"])

    plan = build().plan
    for pod in plan.pods:
        operator = dag.task_dict[pod.task_id]
        container = k8s.V1Container(name="base")
        request = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))
        nodes = selection_of_part(operator.graph, operator.selection, operator.selected, operator.part.nodes)
        operator._command(request, operator.build, nodes)
        assert list(pod.command) == [*operator.cmds, *container.args]


def test_templates_and_references_stand_as_they_are_written(dag, decorate):
    @task
    def choose() -> str: ...

    @decorate(image="shop:{{ params.tag }}")
    def build(target):
        return dbt_build(
            full_refresh="{{ params.full }}",
            threads="{{ params.threads }}",
            target=target,
            select="{{ params.select }}",
            flags=["--warn-error-options", "{{ params.options }}"],
        )

    (pod,) = build(choose()).plan.pods
    words = list(pod.command)
    assert pod.image == "shop:{{ params.tag }}"
    assert "[--full-refresh if {{ params.full }}]" in words
    assert words[words.index("--threads") + 1] == "{{ params.threads }}"
    assert "choose" in words[words.index("--target") + 1]
    assert "{{ params.options }}" in words
    assert pod.narrowed_by == {"select": "{{ params.select }}"}


def test_a_selection_that_is_known_already_narrows_the_plan(dag, decorate):
    @decorate(isolate="orders daily_revenue")
    def build():
        return dbt_build(select="+orders")

    plan = pods(build().plan)
    assert "model.jaffle_shop.customers" not in {node for pod in plan.values() for node in pod.nodes}
    assert (plan["build.daily_revenue"].nodes, plan["build.daily_revenue"].command) == ((), ())
    assert "model.jaffle_shop.orders" in plan["build.orders"].nodes


def test_only_names_of_variables_are_told_and_no_secret_anywhere(dag, decorate):
    @decorate(
        isolate={"orders": PodSettings(env_vars={"TOKEN": "hush-token"}, annotations={"vault": "hush-role"})},
        env_vars={"PASSWORD": "hush-password"},
        cmds=["dbt", "--hush-password"],
    )
    def build():
        return dbt_build(vars={"api_token": "hush-vars", "day": "today"}, target="hush-vars")

    plan = build().plan
    first, orders, *_ = plan.pods
    assert (first.env_vars, first.vars) == (("PASSWORD",), ("api_token", "day"))
    assert (orders.env_vars, orders.hidden_settings) == (("TOKEN",), ("annotations",))
    assert "--***" in first.command
    assert "hush" not in json.dumps(plan.to_dict()) + repr(plan)


@pytest.mark.parametrize(
    ("env_vars", "names"),
    [
        (None, ()),
        ({}, ()),
        ([k8s.V1EnvVar("B", "1"), k8s.V1EnvVar("A")], ("A", "B")),
        ("{{ params.env }}", ("*",)),
    ],
)
def test_variables_of_the_container_are_named_in_each_form_that_the_operator_takes(
    dag, decorate, env_vars, names
):
    assert made(decorate, env_vars=env_vars).plan.pods[0].env_vars == names


@pytest.mark.parametrize(
    ("values", "names", "is_passed"),
    [(None, (), False), ("", (), False), ({"day": 1}, ("day",), True), ("{day: 1}", ("*",), True)],
)
def test_the_command_takes_the_variables_of_dbt_where_there_are_some(dag, decorate, values, names, is_passed):
    (pod,) = decorate()(lambda: dbt_build(vars=values))().plan.pods
    assert (pod.vars, "--vars" in pod.command) == (names, is_passed)


def test_a_text_too_short_to_be_masked_hides_nothing_else(dag, decorate):
    (pod,) = made(decorate, env_vars={"PASSWORD": "dbt"}).plan.pods
    assert pod.command[0] == "dbt"


def test_functions_before_and_after_nodes_are_told(dag, decorate):
    @task
    def publish(): ...

    @task
    def report(): ...

    @decorate()
    def build():
        @dbt_node("orders", before=True)
        def prepare(): ...

        @dbt_node("customers")
        def count(result): ...

        prepare()
        count()

    project = build()
    project["stg_orders"] >> publish()
    project >> report()
    around = {item.task_id: item for item in project.plan.around}
    assert around.keys() == {"build.prepare", "build.count", "publish"}
    assert around["build.prepare"].before == ("model.jaffle_shop.orders",)
    assert around["build.count"].after == ("model.jaffle_shop.customers",)
    assert [item.is_function for item in around.values()] == [True, True, False]
    assert around["publish"].after == ("model.jaffle_shop.stg_orders",)


def test_a_plan_is_there_while_the_file_is_parsed_and_follows_it(dag, decorate):
    @task
    def fit(): ...

    project = made(decorate)
    before = project.plan
    project["stg_orders"] >> fit() >> project["orders"]
    assert (len(before.pods), len(project.plan.pods)) == (1, 2)


def test_edges_that_came_too_late_are_refused_as_they_are_when_the_pod_runs(dag, decorate):
    @task
    def fit(): ...

    @task
    def between(): ...

    project = made(decorate)
    fitted, step = fit(), between()
    fitted >> project["orders"]
    project["stg_orders"] >> step
    step >> fitted
    with pytest.raises(ArgumentError, match="to come later in the DAG file"):
        _ = project.plan


def test_a_mapped_project_says_so(dag, decorate):
    @decorate()
    def build(region):
        return dbt_build(vars={"region": region}, target=region)

    plan = build.expand(region=["eu", "us"]).plan
    assert plan.is_mapped
    assert plan.pods[0].vars == ("region",)
    assert "{{ one of several values }}" in plan.pods[0].command


def test_a_worker_has_the_same_plan(dag, decorate, monkeypatch):
    whole = made(decorate, isolate="orders").plan
    with type(dag)("shop", schedule=None):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "shop")
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "build.dbt_build")
        assert made(decorate, isolate="orders").plan == whole


def test_the_json_is_the_plan(example_plan):
    for name in ("isolated_dag.py", "pod_per_node_dag.py", "between_dag.py"):
        plan = example_plan(name)
        text = json.dumps(plan.to_dict())
        assert msgspec.json.decode(text, type=ProjectPlan, strict=True) == plan


def test_a_parse_makes_no_plan(dag, decorate, monkeypatch):
    monkeypatch.setattr(resume, "selection_of", pytest.fail)
    made(decorate, isolate="*")


@pytest.mark.parametrize("depth", [5, 10])
def test_dbts_selection_is_asked_for_once_for_each_pod(dag, decorate, layers, monkeypatch, depth):
    project = made(decorate, manifest=layers(20, depth), isolate="*")
    asked = []
    select_nodes = resume.select_nodes
    monkeypatch.setattr(
        resume, "select_nodes", lambda *args, **kwargs: asked.append(args) or select_nodes(*args, **kwargs)
    )
    assert len(project.plan.pods) == len(asked) == 20 * depth
