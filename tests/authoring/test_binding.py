"""Functions bound to nodes: which nodes, after what, and for which outcome."""

import pytest
from airflow.sdk import TriggerRule, XComArg, task

from dbt_watch import dbt_build, dbt_node
from dbt_watch.authoring.node_functions import AFTER, ON
from dbt_watch.exceptions import ArgumentError, SelectionError


@pytest.fixture
def bound(dag, decorate):
    """Bind a function in a project of its own, call it, and give the project and what the call gave."""

    def bound(*args, function=None, project=None, **kwargs):
        made = []

        @decorate(group_id="build", **(project or {}))
        def build():
            def check(result): ...

            made.append(dbt_node(*args, **kwargs)(function or check)())

        return build(), made[0]

    return bound


def test_a_function_may_wait_for_the_node_alone(dag, bound):
    bound("orders", after="node")
    assert dag.task_dict["build.check"].upstream_task_ids == {"build.orders"}


@pytest.mark.parametrize(
    "selection", [{"args": ["tag:nightly"]}, {"select": "tag:nightly"}, {"select": ["tag:nightly"]}]
)
def test_a_selection_gives_one_task_for_each_match(dag, bound, graph, selection):
    _, made = bound(
        *selection.get("args", []), **({"select": selection["select"]} if "select" in selection else {})
    )
    tagged = {
        node.name for node in graph.nodes.values() if "nightly" in node.tags and node.resource_type == "model"
    }
    assert tagged
    assert {item.operator.task_id for item in made} == {f"build.check.{name}" for name in tagged}
    assert dag.task_dict["build.check.orders"].upstream_task_ids == {"build.orders", "build.orders.test"}


def test_a_call_gives_an_xcomarg_for_other_tasks(dag, bound):
    _, made = bound("orders")
    assert isinstance(made, XComArg)

    @task
    def report(value): ...

    report(made)
    assert dag.task_dict["report"].upstream_task_ids == {"build.check"}


@pytest.mark.parametrize(
    ("on", "rule", "holds_back"),
    [
        ("success", TriggerRule.ALL_SUCCESS, True),
        ("warn", TriggerRule.ALL_SUCCESS, False),
        ("failure", TriggerRule.ALL_DONE, False),
        ("any", TriggerRule.ALL_DONE, True),
    ],
)
def test_for_which_outcome_a_function_runs(dag, bound, on, rule, holds_back):
    @task
    def last(): ...

    project, _ = bound("orders", on=on)
    project >> last()
    assert dag.task_dict["build.check"].trigger_rule is rule
    assert ("build.check" in dag.task_dict["last"].upstream_task_ids) is holds_back


@pytest.mark.parametrize(("argument", "allowed"), [("after", AFTER), ("on", ON)])
def test_a_value_that_is_none_of_those_allowed(bound, argument, allowed):
    with pytest.raises(ArgumentError) as caught:
        bound("orders", **{argument: "later"})
    assert f"{argument}='later': expected one of {', '.join(map(repr, allowed))}" in str(caught.value)


def test_a_trigger_rule_of_ones_own_is_refused(bound):
    with pytest.raises(ArgumentError, match="trigger_rule='all_done': expected on="):
        bound("orders", trigger_rule="all_done")


@pytest.mark.parametrize("selection", ["tag:no_such_tag", "no_such_package.*"])
def test_a_selection_that_matches_nothing(bound, selection):
    with pytest.raises(SelectionError, match="at least one node"):
        bound(selection)


def test_neither_a_node_nor_a_selection(bound):
    for arguments in ({}, {"node": "orders", "select": "orders"}):
        with pytest.raises(ArgumentError, match="either a node or select="):
            bound(**arguments)


def test_a_node_of_the_wrong_type(bound):
    with pytest.raises(ArgumentError, match="node=7: expected the name of a node"):
        bound(7)


def test_the_decorator_without_parentheses():
    with pytest.raises(ArgumentError, match="in parentheses"):

        @dbt_node
        def check(result): ...


def test_a_function_that_is_bound_already(dag, decorate):
    @decorate()
    def build():
        def check(result): ...

        dbt_node("orders")(check)
        dbt_node("customers")(check)

    with pytest.raises(
        ArgumentError, match=r"@dbt_node\('customers'\)='check'.*is already bound by @dbt_node\('orders'\)"
    ):
        build()


def test_decorators_one_above_the_other(dag, decorate):
    @decorate()
    def build():
        @dbt_node("orders")
        @dbt_node("customers")
        def check(result): ...

    with pytest.raises(ArgumentError, match="not bound yet"):
        build()


def test_outside_of_a_project_a_function_has_a_group_of_its_own_that_builds_just_its_node(dag, project):
    manifest = project / "target/manifest.json"

    @dbt_node(
        "model.jaffle_shop.orders", manifest=manifest, image="shop:1", retries=2, build=dbt_build(threads=2)
    )
    def check(result, floor): ...

    made = check(floor=1)
    assert isinstance(made, XComArg)
    assert {item for item in dag.task_ids if ".test." not in item} == {
        "check.dbt_build", "check.orders", "check.orders.test", "check.orders.unit_test", "check.check",
    }  # fmt: skip
    producer = dag.task_dict["check.dbt_build"]
    assert (producer.retries, producer.build) == (2, {"threads": 2})
    assert producer.selection.select[0].startswith("fqn:jaffle_shop.marts.orders")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"imge": "shop:1"}, "did you mean image"),
        ({"image": "shop:1", "exclude": "a"}, "the node is the selection"),
        ({"image": "shop:1", "build": 7}, "expected dbt_build"),
    ],
)
def test_wrong_arguments_outside_of_a_project(dag, project, arguments, words):
    def check(result): ...

    with pytest.raises(ArgumentError, match=words):
        dbt_node("orders", manifest=project / "target/manifest.json", **arguments)(check)()


def test_a_bound_function_that_is_never_called_is_refused_with_the_call_to_write(dag, decorate):
    @decorate()
    def build():
        @dbt_node("orders")
        def first(result): ...

        @dbt_node("customers")
        def count(result, unit, *, floor, ceiling=9, **more): ...

        first()

    with pytest.raises(ArgumentError) as caught:
        build()
    assert str(caught.value).startswith("@dbt_node('customers')='count': expected a function that is called")
    assert str(caught.value).endswith(": count(unit=..., floor=...)")


def test_a_function_bound_to_a_selection_that_is_never_called(dag, decorate):
    @decorate()
    def build():
        @dbt_node(select="tag:nightly")
        def note(result): ...

    with pytest.raises(ArgumentError, match=r"note\(\)$"):
        build()


@pytest.mark.parametrize(
    ("task_id", "owner"),
    [("orders", "model.jaffle_shop.orders"), ("orders.test", r"test\.jaffle_shop\.")],
)
def test_a_bound_function_does_not_take_the_task_id_of_a_node(dag, decorate, task_id, owner):
    @decorate()
    def build():
        @dbt_node("customers", task_id=task_id)
        def check(result): ...

        check()

    with pytest.raises(ArgumentError, match=rf"task_id='{task_id}': expected another name .*{owner}"):
        build()


def test_a_manifest_inside_of_a_project_is_refused(bound):
    with pytest.raises(ArgumentError, match="to be left out inside a project"):
        bound("orders", manifest="manifest.json")
