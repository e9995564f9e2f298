"""The ids of a project's tasks are legal, distinct, and stay what they are when the project grows."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.rendering.plan import TESTS, plan_tasks
from dbt_watch.rendering.task_ids import MAX_LENGTH

LEGAL = re.compile(r"^[\w.-]+$")

NAMES = st.one_of(
    st.sampled_from(
        ["orders", "Orders", "orders.v2", "orders_v2", "tests", "dbt_build", "dbt_start", "a.test"]
    ),
    st.text("ab_.- é日\N{ROLLING ON THE FLOOR LAUGHING}", min_size=1, max_size=6),
    st.text("ab", min_size=1, max_size=3).map(lambda text: text * 150),
)
MODELS = st.tuples(NAMES, st.sampled_from(["shop", "stripe"]), st.sampled_from([None, "1", "2"]))


def model(name, package, version):
    unique_id = f"model.{package}.{name}" + (f".v{version}" if version else "")
    return Node(
        unique_id=unique_id,
        name=name,
        resource_type="model",
        package_name=package,
        version=version,
        path=f"models/{name}.sql",
        materialized="view",
    )


def unique_id_of(item):
    return model(*item).unique_id


def check_of(nodes, number, kind):
    name = f"check_{number}"
    return Node(
        unique_id=f"{kind}.shop.{name}.{number}",
        name=name,
        resource_type=kind,
        package_name="shop",
        path="models/schema.yml",
        depends_on=tuple(node.unique_id for node in nodes),
    )


def planned(nodes, tests="after_each"):
    graph = Graph(Facts("1.11.0", project_name="shop"), nodes)
    return plan_tasks(graph, frozenset(graph.nodes), tests)


@given(st.lists(MODELS, min_size=1, max_size=8, unique_by=unique_id_of), st.data())
def test_ids_stay_when_tests_descriptions_and_models_are_added(models, data):
    nodes = [model(*item) for item in models]
    before = planned(nodes).node_tasks
    more = [
        check_of(data.draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=2)), number, kind)
        for number, kind in enumerate(data.draw(st.lists(st.sampled_from(["test", "unit_test"]), max_size=5)))
    ]
    described = [Node(**{**fields(node), "description": "New.", "tags": ("nightly",)}) for node in nodes]
    grown = [*described, *more, model("one_more", "shop", None)]
    for mode in TESTS:
        after = planned(grown, mode).node_tasks
        assert {unique_id: after[unique_id] for unique_id in before} == before


@given(st.lists(MODELS, min_size=1, max_size=8, unique_by=unique_id_of))
@example([("orders.test", "shop", None), ("orders", "shop", None)])
@example([("stripe.orders", "shop", None), ("orders", "stripe", None)])
@example([("orders", "shop", None), ("orders", "stripe", None), ("orders", "shop", "1")])
def test_ids_are_legal_and_distinct_whatever_the_models_are_called(models):
    nodes = [model(*item) for item in models]
    tests = [check_of([node], number, "test") for number, node in enumerate(nodes)]
    plan = planned([*nodes, *tests])
    assert len({plan.node_tasks[node.unique_id] for node in nodes}) == len(nodes)
    assert len(plan.tasks) == 2 * len(nodes)
    for task_id in plan.tasks:
        assert LEGAL.match(task_id)
        assert len(task_id) <= MAX_LENGTH


def fields(node):
    return {name: getattr(node, name) for name in node.__struct_fields__}
