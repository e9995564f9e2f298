"""No two nodes of a plan share a task id, whatever dbt lets them be called."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.exceptions import ArgumentError
from dbt_watch.rendering.plan import RUN_TYPES, TEST_TYPES, TESTS, plan_tasks
from dbt_watch.rendering.task_ids import ALL_TESTS_ID, PRODUCER_ID, START_ID, node_task_id

# Words that stand in ids for something else than a name, and names that are made of them.
WORDS = ["orders", "test", "unit_test", "source", "function", "saved_query", "model", "v1", "v2", "1", "5", "raw", "tests",
         "dbt_build", "dbt_start", "orders.test", "orders.v2", "test.orders", "orders-test", "Orders", "vendors"]  # fmt: skip
VERSIONS = [None, "1", "2", "1.5", "endors", "1.test", "1.v2"]
REFERABLE = ("model", "seed", "snapshot")


def node(kind, package, name, *, version=None, source=None, test_name=None, parents=(), mark=""):
    parts = [kind, package, *([source] if source else []), name, *([f"v{version}"] if version else [])]
    return Node(
        unique_id=".".join(parts) + mark,
        name=name,
        resource_type=kind,
        package_name=package,
        path=f"models/{name}.sql",
        version=version,
        source_name=source,
        test_name=test_name,
        depends_on=tuple(parents),
        materialized="view",
    )


def planned(nodes, tests="after_each"):
    graph = Graph(Facts("1.11.0", project_name="shop"), nodes)
    return plan_tasks(graph, frozenset(graph.nodes), tests)


@st.composite
def projects(draw):
    """Return nodes with the names that dbt allows: one for each name of a package, versions and tests apart."""
    # dbt takes no other names of packages.
    packages = st.sampled_from(["shop", *filter(str.isidentifier, WORDS)])
    names = st.sampled_from(WORDS)
    nodes = {}
    for package, name, kind in draw(
        st.lists(
            st.tuples(packages, names, st.sampled_from([*REFERABLE, "function", "saved_query", "source"])),
            min_size=1,
            max_size=8,
            unique_by=lambda item: (item[0], item[1], item[2] in REFERABLE or item[2]),
        )
    ):
        source = draw(names) if kind == "source" else None
        for version in draw(st.sets(st.sampled_from(VERSIONS), min_size=1)) if kind == "model" else [None]:
            made = node(kind, package, name, version=version, source=source)
            nodes[made.unique_id] = made
    keys = sorted(nodes)
    for number, (kind, name, package, parents) in enumerate(
        draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["test", "unit_test"]),
                    names,
                    packages,
                    st.lists(st.sampled_from(keys), max_size=2, unique=True),
                ),
                max_size=6,
            )
        )
    ):
        # Generic tests, and unit tests of different models, may have one name; dbt tells them apart.
        is_generic = kind == "test" and draw(st.booleans())
        mark = f".{number:010x}" if is_generic or kind == "unit_test" else ""
        made = node(
            kind, package, name, test_name="unique" if is_generic else None, parents=parents, mark=mark
        )
        nodes[made.unique_id] = made
    return list(nodes.values())


@settings(max_examples=400)
@given(projects(), st.sampled_from(TESTS))
@example(
    [
        node("model", "shop", "orders"),
        node("model", "orders", "test"),
        node("test", "shop", "t", parents=["model.shop.orders"]),
    ],
    "after_each",
)
@example([node("test", "shop", "x"), node("model", "test", "x")], "after_each")
@example([node("model", "shop", "orders", version="2"), node("model", "orders", "v2")], "after_each")
@example([node("test", "shop", "x", test_name="unique", mark=f".{n:010x}") for n in (1, 2)], "after_each")
def test_distinct_nodes_never_share_an_id(nodes, tests):
    plan = planned(nodes, tests)
    stands_for = {}
    for task in plan.tasks.values():
        kinds = {unique_id.partition(".")[0] in TEST_TYPES for unique_id in task.unique_ids}
        homes = {unique_id for unique_id in task.unique_ids if unique_id.partition(".")[0] not in TEST_TYPES}
        assert len(homes) <= 1, task
        stands_for[task.task_id] = (homes, kinds)
    built = [item for item in nodes if item.resource_type not in TEST_TYPES]
    assert len({plan.node_tasks[item.unique_id] for item in built}) == len(built)
    # The tests of one task are those of one node, or one test: all of them is said by one name that no node has.
    for task in plan.tasks.values():
        tested = {owner for unique_id in task.unique_ids for owner in owners(nodes, unique_id)}
        assert task.task_id == ALL_TESTS_ID or len(task.unique_ids) == 1 or len(tested) == 1, task
    assert not {PRODUCER_ID, START_ID} & set(plan.tasks)
    assert all(re.fullmatch(r"[\w.-]{1,120}", task_id) for task_id in plan.tasks)


def owners(nodes, unique_id):
    found = next(item for item in nodes if item.unique_id == unique_id)
    return set(found.depends_on) or {unique_id} if found.resource_type in TEST_TYPES else {unique_id}


@pytest.mark.parametrize(
    ("ordinary", "task_id"),
    [
        (node("model", "shop", "orders"), "orders"),
        (node("model", "shop", "test"), "test"),
        (node("model", "shop", "source"), "source"),
        (node("model", "shop", "v2"), "v2"),
        (node("model", "shop", "orders", version="2"), "orders.v2"),
        (node("model", "stripe", "orders"), "stripe.orders"),
        (node("model", "stripe", "vendors"), "stripe.vendors"),
        (node("model", "stripe", "v1_orders"), "stripe.v1_orders"),
        (node("model", "stripe", "orders", version="2"), "stripe.orders.v2"),
        (node("test", "shop", "orders_have_customers"), "test.orders_have_customers"),
        (node("test", "stripe", "paid"), "stripe.test.paid"),
        (node("source", "shop", "orders", source="raw"), "source.raw.orders"),
        (
            node(
                "test", "shop", "relationships_a_b__c__ref_d_", test_name="relationships", mark=".0123456789"
            ),
            "test.relationships_a_b__c__ref_d_",
        ),
        (
            node("test", "shop", "source_unique_raw_a_id", test_name="unique", mark=".0123456789"),
            "test.source_unique_raw_a_id",
        ),
        (
            node(
                "test", "shop", "dbt_utils_equal_rowcount_a", test_name="equal_rowcount", mark=".0123456789"
            ),
            "test.dbt_utils_equal_rowcount_a",
        ),
    ],
)
def test_ordinary_nodes_keep_their_plain_ids(ordinary, task_id):
    assert node_task_id(ordinary, "shop") == task_id


def test_two_nodes_that_would_share_an_id_all_the_same_are_refused_by_name():
    # dbt 1.11 lets a seed and a model of one package have one name, as long as their relations differ.
    with pytest.raises(ArgumentError) as caught:
        planned([node("model", "shop", "orders"), node("seed", "shop", "orders")])
    text = str(caught.value)
    assert text.startswith("task_id='orders': expected ")
    assert "model.shop.orders" in text
    assert "seed.shop.orders" in text


def test_every_type_with_a_task_may_be_the_name_of_a_package():
    for kind in RUN_TYPES - set(REFERABLE):
        ids = {node_task_id(item, "shop") for item in (node(kind, "shop", "x"), node("model", kind, "x"))}
        assert len(ids) == 2, kind
