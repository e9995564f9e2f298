"""`meta.dbt_watch`: what a dbt project says of its nodes' tasks, without code."""

import json

import pytest

from dbt_watch.core.manifest.graph import Node
from dbt_watch.core.manifest.node_meta import NodeSettings, node_settings
from dbt_watch.exceptions import ArgumentError


@pytest.fixture
def with_meta(project, tmp_path):
    """Return the example's manifest with something said about the orders."""

    def with_meta(value):
        manifest = json.loads((project / "target/manifest.json").read_text())
        orders = manifest["nodes"]["model.jaffle_shop.orders"]
        orders["config"]["meta"] = orders["meta"] = {"dbt_watch": value, "other": {"pool": 7}}
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(manifest))
        return path

    return with_meta


def test_a_task_takes_its_pool_its_priority_and_its_owner_from_the_project(dag, decorate, with_meta):
    @decorate(manifest=with_meta({"pool": "warehouse", "priority": 5, "owner": "finance"}))
    def build(): ...

    build()
    for task_id in ("build.orders", "build.orders.test"):
        task = dag.task_dict[task_id]
        assert (task.pool, task.priority_weight, task.owner) == ("warehouse", 5, "finance")
    other = dag.task_dict["build.customers"]
    assert (other.pool, other.priority_weight, other.owner) == ("default_pool", 1, "airflow")


def test_settings_for_a_build_of_the_node_alone():
    resources = {"requests": {"memory": "2Gi", "cpu": 1}}
    node = Node(
        "model.shop.a", "a", "model", "shop", meta={"dbt_watch": {"image": "shop:2", "resources": resources}}
    )
    assert node_settings(node) == NodeSettings(image="shop:2", resources=resources)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("fast", "meta.dbt_watch of model.jaffle_shop.orders='fast': expected a mapping"),
        (
            {"pol": "x"},
            "'pol': expected one of pool, priority, owner, image, resources, isolate; did you mean pool?",
        ),
        ({"pool": 7}, "pool=7: expected text"),
        ({"pool": " "}, "pool=' ': expected text"),
        ({"priority": "high"}, "priority='high': expected a whole number, 1 or more"),
        ({"priority": True}, "priority=True: expected a whole number"),
        ({"priority": 0}, "priority=0: expected a whole number, 1 or more"),
        ({"owner": ["a"]}, "owner=['a']: expected text"),
        ({"image": None}, "image=None: expected text"),
        ({"resources": {"memory": "2Gi"}}, "expected requests and limits"),
        ({"resources": {"limits": {"memory": [2]}}}, "expected requests and limits"),
        ({"resources": {}}, "expected requests and limits"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_with_its_node(dag, decorate, with_meta, given, words):
    with pytest.raises(ArgumentError) as caught:
        decorate(manifest=with_meta(given), group_id="build")(lambda: None)()
    assert "meta.dbt_watch of model.jaffle_shop.orders" in str(caught.value)
    assert words in str(caught.value)
