"""The pod of a node that is built alone: what it takes from the producer, and what from the node's own settings."""

import copy

import msgspec
import pytest

from dbt_watch.core.command import Selection, dbt_arguments
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.producers.operator import producer_class
from dbt_watch.producers.single_node import RebuildPod

ORDERS = "model.jaffle_shop.orders"


@pytest.fixture
def producer_of(graph):
    def make(**settings):
        own = copy.copy(graph)
        node = msgspec.structs.replace(graph.nodes[ORDERS], meta={"dbt_watch": settings} if settings else {})
        own.nodes = {**graph.nodes, ORDERS: node}
        return producer_class()(
            task_id="dbt_build",
            image="shop:1",
            build={"target": "prod", "select": "raw_orders"},
            selection=Selection(),
            graph=own,
            selected=frozenset(graph.nodes),
            watched={"shop.orders": (ORDERS,)},
        )

    return make


def test_only_the_node_is_built_with_the_flags_of_the_project(producer_of):
    producer = producer_of()
    operator = RebuildPod(producer, [ORDERS])._operator
    assert operator.selected == {ORDERS}
    assert operator.build == {"target": "prod"}
    assert operator.image == "shop:1"
    assert producer.selected != {ORDERS}


def test_the_image_and_the_resources_of_the_node_count(producer_of):
    resources = {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}}
    operator = RebuildPod(producer_of(image="shop:big", resources=resources), [ORDERS])._operator
    assert operator.image == "shop:big"
    assert operator.container_resources.to_dict()["requests"] == {"memory": "2Gi"}
    assert operator.container_resources.limits == {"memory": "4Gi"}


def test_a_source_is_checked_alone_and_nothing_is_built(landed_shop):
    graph = load_manifest(landed_shop / "target/manifest.json")
    producer = producer_class()(
        task_id="dbt_build",
        image="shop:1",
        build={},
        selection=Selection(),
        graph=graph,
        selected=frozenset(graph.nodes),
        watched={},
    )
    operator = RebuildPod(producer, ["source.landed_shop.landing.orders"])._operator
    arguments = dbt_arguments(operator.build, operator.selection)
    assert arguments[-4:] == ["source", "freshness", "--select", "source:landed_shop.landing.orders"]
