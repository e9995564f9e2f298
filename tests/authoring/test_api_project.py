"""`@dbt_api_project`: the same group as that of `@dbt_k8s_project`, and what a server cannot be told."""

import io

import pytest
from rich.console import Console

from dbt_watch import dbt_api_project, dbt_build, dbt_k8s_project, dbt_node
from dbt_watch.authoring.api_arguments import API_OPTIONS, known_arguments
from dbt_watch.authoring.options import DEFAULTS, ApiOptions
from dbt_watch.authoring.pod_types import ApiProjectArguments
from dbt_watch.exceptions import ArgumentError
from dbt_watch.planning.drawing import drawing_of
from dbt_watch.planning.tree import tree_of


@pytest.fixture
def decorate(project):
    return lambda **given: dbt_api_project(**{"manifest": project / "target/manifest.json", **given})


def test_the_tasks_are_those_of_a_project_in_a_pod(dag, project, decorate):
    def shop(): ...

    def pods(): ...

    made = decorate()(shop)()
    other = dbt_k8s_project(project / "target/manifest.json", image="shop:1")(pods)()
    tasks = {task_id.partition(".")[2] for task_id in dag.task_dict if task_id.startswith("shop.")}
    assert tasks == {task_id.partition(".")[2] for task_id in dag.task_dict if task_id.startswith("pods.")}
    assert made.producer.task_type == "DbtApiOperator"
    assert (made.producer.conn_id, made.producer.deferrable) == ("dbt_api", False)
    upstream = made["orders"]._tasks.node_task("model.jaffle_shop.orders").upstream_task_ids
    theirs = other["orders"]._tasks.node_task("model.jaffle_shop.orders").upstream_task_ids
    assert {each.partition(".")[2] for each in upstream} == {each.partition(".")[2] for each in theirs}


def test_the_arguments_reach_the_task(dag, decorate):
    def shop():
        return dbt_build(vars={"day": "{{ ds }}"}, target="prod")

    producer = decorate(
        conn_id="dbt_prod", project_dir="shop", deferrable=True, retries=3, pool="dbt", queue="net"
    )(shop)().producer
    assert (producer.conn_id, producer.project_dir, producer.deferrable) == ("dbt_prod", "shop", True)
    assert (producer.retries, producer.pool, producer.queue) == (3, "dbt", "net")
    assert producer.build == {"vars": {"day": "{{ ds }}"}, "target": "prod"}


def test_it_can_be_serialized(dag, decorate, serialized):
    def shop(): ...

    decorate()(shop)()
    assert "DbtApiOperator" in str(serialized(dag))


def test_functions_are_bound_to_nodes_and_tasks_stand_between_them(dag, decorate):
    def shop():
        @dbt_node("raw_orders")
        def enough(result): ...

        @dbt_node("orders", before=True)
        def cutoff(): ...

        enough()
        return dbt_build(vars={"cutoff": cutoff()})

    project = decorate()(shop)()
    assert [task.task_id for task in project.producers] == ["shop.dbt_build", "shop.dbt_build_2"]


def test_a_node_alone_is_built_by_a_server_where_a_connection_is_given(dag, project):
    @dbt_node("orders", manifest=project / "target/manifest.json", conn_id="dbt_api")
    def check(result): ...

    check()
    assert dag.task_dict["check.dbt_build"].task_type == "DbtApiOperator"


def test_it_may_be_mapped_and_made_again_with_other_arguments(dag, decorate):
    def shop(region):
        return dbt_build(vars={"region": region})

    factory = decorate()(shop)
    factory.expand(region=["north", "south"])
    again = factory.override(group_id="again", conn_id="other")("east")
    assert again.producer.conn_id == "other"


def test_a_plan_can_be_shown(dag, decorate):
    def shop(): ...

    plan = decorate()(shop)().plan
    (invocation,) = plan.pods
    assert (plan.runs_in, invocation.image) == ("invocation", None)


def test_a_plan_has_the_command_that_the_server_is_asked_for_without_the_values_of_variables(dag, decorate):
    def shop():
        return dbt_build(
            vars={"day": "monday", "batch": "{{ ds }}"}, full_refresh="{{ params.full }}", target="prod"
        )

    (invocation,) = decorate(select="+stg_orders")(shop)().plan.pods
    assert list(invocation.command) == [
        "dbt", "--log-format", "json", "--log-level", "debug", "--no-use-colors", "build", "--target", "prod",
        "--vars", '{"day": "...", "batch": "..."}', "[--full-refresh if {{ params.full }}]",
        "--select", "+stg_orders", "--indirect-selection", "eager",
    ]  # fmt: skip
    assert invocation.vars == ("day", "batch")


def test_a_plan_calls_what_a_server_runs_no_pods(dag, decorate):
    def shop(): ...

    plan = decorate()(shop)().plan
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tree_of(plan))
    shown = console.export_text() + drawing_of(plan)
    assert f"{plan.node_count} nodes in 1 invocation" in shown
    assert f"nodes: {plan.node_count}, invocations: 1" in shown
    assert "pod" not in shown


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("image", "shop:1", "it configures a pod"),
        ("namespace", "dbt", "it configures a pod"),
        ("isolate", "tag:heavy", "there are no pods"),
        ("operator_class", object, "there are no pods"),
        ("keep_entrypoint", True, "there are no pods"),
        ("deps", True, "where the server's project is deployed"),
        ("profiles_dir", "/etc/dbt", "the server decides it"),
        ("freshness", "before", "in a separate project"),
        ("trigger_rule", "all_done", "put tasks upstream of the project"),
        ("task_id", "build", "group_id"),
        ("conn_id", "", "the id of Airflow's connection"),
        ("con_id", "dbt_api", "did you mean conn_id"),
        ("retires", 3, "did you mean retries"),
        ("dbt_vars", {}, "dbt_build(vars=...)"),
    ],
)
def test_what_cannot_be_told_a_server_is_refused_by_its_name(dag, decorate, argument, value, words):
    def shop(): ...

    with pytest.raises(ArgumentError) as caught:
        decorate(**{argument: value})(shop)()
    assert str(caught.value).startswith(f"{argument}={value!r}: expected")
    assert words in str(caught.value)


def test_parentheses_are_asked_for_by_the_right_name():
    with pytest.raises(ArgumentError, match=r"@dbt_api_project\(manifest=...\)"):
        dbt_api_project(lambda: None)


def test_every_option_is_one_of_a_project_and_every_argument_is_taken():
    assert set(ApiOptions.__annotations__) < set(DEFAULTS)
    assert {*ApiProjectArguments.__annotations__, "manifest"} <= known_arguments()
    assert known_arguments() >= API_OPTIONS
