"""The pod of a node that is built alone: what it takes from the producer, and what from the node's own settings."""

import copy
import logging
from types import SimpleNamespace

import msgspec
import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard

from dbt_watch.core.command import Selection, dbt_arguments
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.part import Part, Upstream
from dbt_watch.exceptions import ProjectIsBusy, SelectionError
from dbt_watch.producers.pods.operator import producer_class
from dbt_watch.producers.single_node import LoneBuild

ORDERS, CUSTOMERS = "model.jaffle_shop.orders", "model.jaffle_shop.customers"


@pytest.fixture
def producer_of(graph):
    def make(**settings):
        own = copy.copy(graph)
        node = msgspec.structs.replace(graph.nodes[ORDERS], meta={"dbt_watch": settings} if settings else {})
        own.nodes = {**graph.nodes, ORDERS: node}
        return producer_class()(
            task_id="dbt_build",
            image="shop:1",
            build={"target": "prod", "select": "raw_orders", "exclude": "customers"},
            selection=Selection(),
            graph=own,
            selected=frozenset(graph.nodes),
            watched={"shop.orders": (ORDERS,)},
        )

    return make


def test_only_the_node_is_built_with_the_flags_of_the_project(producer_of):
    producer = producer_of()
    operator = LoneBuild(producer, [ORDERS])._operator
    assert operator.selected == {ORDERS}
    assert operator.watched == {}
    assert operator.build == {"target": "prod"}
    assert operator.image == "shop:1"
    assert producer.selected != {ORDERS}


def test_the_image_and_the_resources_of_the_node_count(producer_of):
    resources = {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}}
    operator = LoneBuild(producer_of(image="shop:big", resources=resources), [ORDERS])._operator
    assert operator.image == "shop:big"
    assert operator.container_resources.to_dict()["requests"] == {"memory": "2Gi"}
    assert operator.container_resources.limits == {"memory": "4Gi"}


def test_nothing_that_came_before_its_part_of_the_project_keeps_a_node_from_being_built_alone(producer_of):
    def refuse():
        raise AssertionError("the edges of the DAG")

    producer = producer_of()
    producer.part = Part(frozenset({CUSTOMERS, ORDERS}), (CUSTOMERS,), (Upstream("fit", None, (ORDERS,)),))
    producer.needs = frozenset({"land"})
    producer.check = refuse
    operator = LoneBuild(producer, [ORDERS])._operator
    assert (operator.part, operator.needs, operator.check) == (None, frozenset(), None)
    assert (producer.part.stands_for, producer.needs, producer.check) == ((CUSTOMERS,), {"land"}, refuse)


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
    operator = LoneBuild(producer, ["source.landed_shop.landing.orders"])._operator
    arguments = dbt_arguments(operator.build, operator.selection)
    assert arguments[-4:] == ["source", "freshness", "--select", "source:landed_shop.landing.orders"]


def test_nodes_that_dbt_cannot_be_asked_for_alone_are_an_error(producer_of, monkeypatch):
    monkeypatch.setattr("dbt_watch.producers.single_node.selection_of", lambda graph, nodes: None)
    with pytest.raises(SelectionError) as caught:
        LoneBuild(producer_of(), [CUSTOMERS, ORDERS])
    assert str(caught.value) == (
        f"select='{CUSTOMERS}, {ORDERS}': expected nodes that one dbt command can select by name: some names are ambiguous, or the list is too long"
    )


class Operator:
    """The copy of the producer, which ends as a test says."""

    log = logging.getLogger("task")

    def __init__(self, watch, error=None):
        self.watch, self.error = watch, error
        self.calls = []

    def render_template_fields(self, context):
        self.calls.append(("render", context))

    def execute(self, context):
        self.calls.append(("execute", context))
        assert ExecutorSafeguard.tracker.get() is self
        if self.error is not None:
            raise self.error

    def on_kill(self):
        self.calls.append("kill")


@pytest.fixture
def single_pod(producer_of):
    def make(watch, error=None):
        pod = LoneBuild(producer_of(), [ORDERS])
        pod._operator = Operator(watch, error)
        return pod, pod._operator

    return make


CONTEXT = {"ti": "of the sensor"}
ENDED = SimpleNamespace(results=["a result"], closed="an end")


@pytest.mark.parametrize("error", [None, RuntimeError("the pod failed")])
def test_a_build_that_has_ended_tells_how_whatever_the_operator_makes_of_it(single_pod, error):
    pod, operator = single_pod(ENDED, error)
    before = ExecutorSafeguard.tracker.get(None)
    assert pod.run(CONTEXT) == (["a result"], "an end")
    assert operator.calls == [("render", CONTEXT), ("execute", CONTEXT)]
    assert ExecutorSafeguard.tracker.get(None) is before


@pytest.mark.parametrize(
    ("watch", "error"),
    [
        (None, RuntimeError("no pod")),
        (SimpleNamespace(results=[], closed=None), RuntimeError("no end")),
        (ENDED, ProjectIsBusy("dbt runs elsewhere")),
    ],
)
def test_what_keeps_dbt_from_running_is_raised(single_pod, watch, error):
    pod, _ = single_pod(watch, error)
    with pytest.raises(type(error), match=str(error)):
        pod.run(CONTEXT)


def test_a_sensor_that_is_stopped_ends_its_pod_as_the_producer_would(single_pod):
    pod, operator = single_pod(ENDED)
    pod.kill()
    assert operator.calls == ["kill"]
