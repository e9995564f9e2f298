"""What the author of a DAG says of the tasks of nodes: `node_task`, `owners`, and tasks for sources that nothing checks."""

import json

import pytest

from dbt_watch.exceptions import ArgumentError

ORDERS = "model.jaffle_shop.orders"


@pytest.fixture
def made(dag, decorate):
    def made(**arguments):
        @decorate(**arguments)
        def shop(): ...

        return shop()

    return made


@pytest.fixture
def owned(project, tmp_path):
    """Return the manifest of the example with owners: of a model, a group, a team."""
    manifest = json.loads((project / "target/manifest.json").read_text())
    config = manifest["nodes"][ORDERS]["config"]
    config["meta"], config["group"] = {"owner": "finance"}, "money"
    manifest["nodes"]["model.jaffle_shop.customers"]["config"]["meta"] = {
        "owner": {"name": "sales", "email": "sales@shop.example"}
    }
    manifest["nodes"]["model.jaffle_shop.stg_orders"]["config"]["meta"] = {"owner": ["ann", "bob"]}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def test_a_function_of_the_node_says_what_its_task_looks_like(dag, made):
    def looks(node):
        if node.name == "orders":
            return {
                "task_display_name": "Orders!", "owner": "finance", "pool": "narrow", "priority_weight": 9, "doc_md": "All of it.",
            }  # fmt: skip
        return {"owner": None} if node.resource_type == "seed" else None

    made(node_task=looks)
    orders, tests = dag.get_task("shop.orders"), dag.get_task("shop.orders.test")
    assert (orders.task_display_name, orders.doc_md) == ("Orders!", "All of it.")
    assert tests.task_display_name == "shop.orders.test"
    for task in (orders, tests):
        assert (task.owner, task.pool, task.priority_weight) == ("finance", "narrow", 9)
    assert dag.get_task("shop.customers").owner == "airflow"


def test_it_is_called_once_for_each_node(made):
    called = []
    made(node_task=lambda node: called.append(node.unique_id))
    assert called
    assert len(called) == len(set(called))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"poool": "narrow"}, "node_task of .*'poool': expected one of .* did you mean pool"),
        ({"task_id": "x"}, "task_display_name instead: the id of a task is derived from its node"),
        ({"retries": 1}, "retries=... in the project's arguments"),
        ({"owner": 7}, "node_task of .*: owner=7: expected text"),
        ({"priority_weight": 0}, "priority_weight=0: expected a whole number"),
        ("finance", "expected a dict with any of"),
    ],
)
def test_what_it_returns_is_checked_while_the_dag_is_parsed(made, value, expected):
    with pytest.raises(ArgumentError, match=expected):
        made(node_task=lambda node: value if node.unique_id == ORDERS else None)


def test_what_is_no_function_is_refused(made):
    with pytest.raises(ArgumentError, match="node_task='x': expected a function"):
        made(node_task="x")


def test_owners_come_from_dbts_meta(dag, made, owned):
    made(manifest=owned, owners="meta")
    owners = {
        name: dag.get_task(f"shop.{name}").owner
        for name in ("orders", "customers", "stg_orders", "raw_orders")
    }
    assert owners == {
        "orders": "finance",
        "customers": "sales",
        "stg_orders": "ann, bob",
        "raw_orders": "airflow",
    }


def test_owners_are_the_names_of_dbts_groups(dag, made, owned):
    made(
        manifest=owned,
        owners="group",
        node_task=lambda node: {"owner": "me"} if node.name == "customers" else None,
    )
    assert [dag.get_task(f"shop.{name}").owner for name in ("orders", "customers", "raw_orders")] == [
        "money",
        "me",
        "airflow",
    ]


def test_without_asking_dbts_owners_are_nothing_to_airflow(dag, made, owned):
    made(manifest=owned)
    assert dag.get_task("shop.orders").owner == "airflow"


@pytest.mark.parametrize("owners", ["Meta", None])
def test_another_place_for_owners_is_refused(made, owners):
    with pytest.raises(ArgumentError, match=r"owners=.* expected one of 'none', 'meta', 'group'"):
        made(owners=owners)


@pytest.fixture
def landed(dag, landed_shop):
    from dbt_watch import dbt_k8s_project  # noqa: PLC0415

    def landed(**arguments):
        @dbt_k8s_project(manifest=landed_shop / "target/manifest.json", image="shop:1", **arguments)
        def shop(): ...

        return shop()

    return landed


def sources_of(dag):
    return {
        task_id: dag.get_task(task_id).task_type
        for task_id in dag.task_ids
        if task_id.startswith("shop.source.")
    }


def test_by_default_a_source_that_is_not_checked_has_no_task(dag, landed):
    landed(tests="none")
    assert sources_of(dag) == {}


def test_with_all_of_them_each_source_that_is_read_has_a_task_that_runs_nothing(dag, landed):
    landed(tests="none", sources="all")
    found = sources_of(dag)
    # One of them is read through an ephemeral model, and one has no policy.
    names = ("orders", "customers", "payments", "countries")
    assert found == {f"shop.source.landing.{name}": "EmptyOperator" for name in names}
    for task_id in found:
        assert dag.get_task(task_id).downstream_task_ids


def test_a_source_that_is_checked_keeps_the_task_of_its_check(dag, landed):
    landed(tests="none", freshness="before", sources="all")
    assert "DbtNodeSensor" in set(sources_of(dag).values())


def test_a_worker_makes_no_task_for_a_source(dag, landed, monkeypatch):
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "shop")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "shop.dbt_build")
    landed(tests="none", sources="all")
    assert sources_of(dag) == {}
