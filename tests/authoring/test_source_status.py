"""`source_status:fresher+`: what is decided in the pod, how dbt is asked for it, and what is kept for the next run."""

import copy
import gzip
import json
from types import SimpleNamespace

import msgspec
import pytest
from kubernetes.client import models as k8s

from dbt_watch import dbt_build, dbt_k8s_project
from dbt_watch.core.command import dbt_arguments
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.enclosed_files import EnclosedFiles, lines_of
from dbt_watch.core.selection import select_nodes
from dbt_watch.core.selection.left_to_dbt import rest_left_to_dbt
from dbt_watch.core.selection.source_freshness import is_source
from dbt_watch.core.selection.state import StateComparison, StateManifest
from dbt_watch.exceptions import ArgumentError

ORDERS, CUSTOMERS, PAYMENTS = (
    f"source.landed_shop.landing.{name}" for name in ("orders", "customers", "payments")
)
FRESHER = "source_status:fresher+"


@pytest.fixture
def make(dag, landed_shop, tmp_path):
    def make(build=None, **arguments):
        settings = {
            "manifest": landed_shop / "target/manifest.json",
            "image": "shop:1",
            "group_id": "build",
            "freshness": "before",
            "artifacts": f"file://{tmp_path}/{{dag_id}}/{{run_id}}/{{attempt}}",
            "state": "last_success",
            **arguments,
        }
        return dbt_k8s_project(**settings)(lambda: build)().producer

    return make


def sources_json(at="2026-11-26T00:00:00Z", **statuses):
    results = [
        {
            "unique_id": f"source.landed_shop.landing.{name}",
            "status": status,
            "max_loaded_at": at,
            "criteria": {},
        }
        for name, status in statuses.items()
    ]
    metadata = {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/sources/v3.json",
        "generated_at": at,
    }
    return json.dumps({"metadata": metadata, "results": results, "elapsed_time": 1}).encode()


ALL_FRESH = sources_json(orders="pass", customers="pass", payments="pass")


class Attempted:
    """An attempt of a task, and what it leaves in the store."""

    def __init__(self, producer, *, run_id="one", tries=1):
        self.ti = SimpleNamespace(
            dag_id="shop", run_id=run_id, task_id=producer.task_id, map_index=-1, try_number=tries, max_tries=0,
            xcom_push=lambda key, value: None,
        )  # fmt: skip
        self.context = {"ti": self.ti}
        self.producer = producer
        self.attempt = SimpleNamespace(number=tries, wanted=None, left_to_dbt="")

    def wanted(self):
        return self.producer._wanted_now(self.context, self.attempt)

    def ends(self, sources=ALL_FRESH, code=0):
        files = EnclosedFiles()
        contents = {"run_results": b'{"metadata": {}, "results": []}', "sources": sources, "manifest": b"{}"}
        for name, content in contents.items():
            files.sift([*lines_of(f"{name}.json", gzip.compress(content))])
        self.producer._keep_state(self.context, Closed(code), files)
        return self.state()

    def state(self):
        return self.producer._earlier_state(self.ti)

    def kept(self, name="sources.json"):
        state = self.state()
        return None if state is None else json.loads(state.read(name))


def names(nodes):
    return {unique_id.split(".", 2)[2] for unique_id in nodes}


def found(producer, selection, *fresher):
    """Return what dbt builds of a selection when some sources have newer data; dbt's rules are those of the evaluator."""
    compared = StateComparison(StateManifest(), None).with_fresher(fresher)
    return names(
        select_nodes(
            producer.graph.compared_with(compared),
            select=selection.select,
            exclude=selection.exclude or None,
            exclude_resource_types=selection.exclude_resource_types,
            indirect_selection=selection.indirect_selection,
        )
    )


def test_without_a_state_everything_is_built(make, caplog):
    producer = make(dbt_build(select=FRESHER))
    first = Attempted(producer)
    wanted = first.wanted()
    assert wanted.whole.nodes == producer.selected
    assert first.attempt.left_to_dbt == ""


def test_with_a_state_dbt_is_asked_for_what_reads_newer_data(make):
    producer = make(dbt_build(select=f"state:modified+ {FRESHER}"))
    Attempted(producer).ends()
    again = Attempted(producer, run_id="two")
    wanted = again.wanted()
    assert again.attempt.left_to_dbt.startswith(
        f"left out of this run by --select state:modified+ {FRESHER}: unchanged since one of 20"
    )
    assert names(node.unique_id for node in wanted.left_out) == {"countries"}
    selection = wanted.whole.selection
    assert selection.select == (FRESHER,)
    assert len(selection.sources) == 3
    assert found(producer, selection) == set()
    assert {"customers"} < found(producer, selection, CUSTOMERS, ORDERS) > {"orders", "revenue"}
    assert "orders" not in found(producer, selection, PAYMENTS)


def test_what_has_changed_is_spelled_out_beside_it(make, landed_shop, tmp_path):
    producer = make(dbt_build(select=f"state:modified+ {FRESHER}"))
    Attempted(producer).ends()
    manifest = (landed_shop / "target/manifest.json").read_text()
    changed = tmp_path / "manifest.json"
    changed.write_text(manifest.replace("select amount from", "select 2 * amount from"))
    producer.manifest = str(changed)
    selection = Attempted(producer, run_id="two").wanted().whole.selection
    assert found(producer, selection) == {"revenue"}


def test_the_selection_of_the_project_holds_beside_it(make):
    producer = make(dbt_build(select=FRESHER), select="orders customers", tests="none")
    Attempted(producer).ends()
    selection = Attempted(producer, run_id="two").wanted().whole.selection
    assert len(selection.sources) == 2
    assert found(producer, selection, ORDERS, CUSTOMERS) == {"orders", "customers"}
    assert found(producer, selection, CUSTOMERS) == {"customers"}


def test_a_later_attempt_asks_again_and_leaves_out_what_is_done(make):
    producer = make(dbt_build(select=FRESHER))
    Attempted(producer).ends()
    whole = Attempted(producer, run_id="two").wanted().whole
    done = {"model.landed_shop.orders", ORDERS}
    rest = rest_left_to_dbt(producer.graph, whole.selection, whole.nodes, whole.nodes - done)
    assert rest.sources == whole.selection.sources
    everything = found(producer, whole.selection, ORDERS, PAYMENTS)
    assert found(producer, rest, ORDERS, PAYMENTS) == everything - {"orders"}


def test_dbt_is_not_asked_for_an_ephemeral_model_alone(make):
    producer = make(dbt_build(select=FRESHER))
    Attempted(producer).ends()
    whole = Attempted(producer, run_id="two").wanted().whole
    done = {
        unique_id
        for unique_id in whole.nodes
        if names([unique_id]) & {"order_payments", "revenue"} or "test." in unique_id
    }
    rest = rest_left_to_dbt(producer.graph, whole.selection, whole.nodes, whole.nodes - done)
    assert found(producer, rest, PAYMENTS) == set()


@pytest.mark.parametrize(("version", "mode"), [("1.8.10", None), ("1.11.16", "empty"), ("2.0.0", "empty")])
def test_a_test_that_is_left_of_a_node_that_is_done_needs_a_dbt_that_can_be_asked_for_it(make, version, mode):
    producer = make(dbt_build(select=FRESHER))
    Attempted(producer).ends()
    whole = Attempted(producer, run_id="two").wanted().whole
    assert whole.selection.indirect_selection == "eager"
    graph = copy.copy(producer.graph)
    graph.facts = msgspec.structs.replace(graph.facts, dbt_version=version)
    done = {"model.landed_shop.order_payments"}
    rest = rest_left_to_dbt(graph, whole.selection, whole.nodes, whole.nodes - done)
    assert (rest and rest.indirect_selection) == mode


def test_the_container_gets_the_earlier_sources_by_variables(make):
    producer = make(dbt_build(select=FRESHER))
    first = Attempted(producer)
    first.ends()
    container = k8s.V1Container(name="base")
    request = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[container]))
    selection = Attempted(producer, run_id="two").wanted().whole.selection
    producer._command(request, producer.build, selection, first.ti)
    variables = {item.name for item in container.env}
    assert "DBT_WATCH_SOURCES_0" in variables
    assert "DBT_WATCH_STATE_0" not in variables
    assert FRESHER in container.args
    assert dbt_arguments(producer.build, selection)[0].isdecimal()


def test_the_times_of_sources_that_a_run_has_not_checked_stay(make):
    producer = make()
    Attempted(producer).ends(sources_json("2026-11-26T01:00:00Z", orders="pass", customers="pass"))
    again = Attempted(producer, run_id="two")
    again.ends(sources_json("2026-11-26T02:00:00Z", orders="warn"))
    times = {item["unique_id"]: item["max_loaded_at"] for item in again.kept()["results"]}
    assert times == {ORDERS: "2026-11-26T02:00:00Z", CUSTOMERS: "2026-11-26T01:00:00Z"}


@pytest.mark.parametrize(("select", "tries"), [("state:modified+", 1), (None, 2)])
def test_times_stay_when_not_all_that_reads_newer_data_was_built_after_the_check(make, select, tries):
    producer = make()
    Attempted(producer).ends()
    producer.build = dbt_build(select=select).to_dict()
    again = Attempted(producer, run_id="two", tries=tries)
    state = again.ends(sources_json("2026-11-27T00:00:00Z", orders="pass"))
    assert state.since.startswith("two of")
    assert {item["max_loaded_at"] for item in again.kept()["results"]} == {"2026-11-26T00:00:00Z"}


def test_a_run_of_newer_data_alone_leaves_the_earlier_project_to_compare_with(make, tmp_path):
    producer = make(dbt_build(select=FRESHER))
    first = Attempted(producer)
    first.ends()
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"nodes": {}}))
    producer.manifest = str(other)
    again = Attempted(producer, run_id="two")
    again.ends(sources_json("2026-11-27T00:00:00Z", orders="pass"))
    assert again.kept("parsed_manifest.json")["nodes"]
    assert b"2026-11-27" in again.state().read("sources.json")


def test_a_run_with_a_stale_source_keeps_no_state(make):
    producer = make(on_stale="skip")
    assert Attempted(producer).ends(sources_json(orders="pass", payments="error")) is None


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        ({"select": FRESHER}, {"freshness": "none"}, f"select='{FRESHER}': expected freshness=\"before\""),
        ({"select": FRESHER}, {"state": None}, "expected state=... of @dbt_k8s_project"),
        ({"exclude": FRESHER}, {}, "expected `source_status:` in select only"),
        ({"select": f"{FRESHER},state:modified+"}, {}, "no `state:` and no `result:` joined"),
        (
            {"select": FRESHER},
            {"state": "/prod", "isolate": "orders"},
            "no `source_status:` beside isolate=...",
        ),
    ],
)
def test_what_dbt_cannot_be_asked_is_refused(make, build, arguments, message):
    with pytest.raises(ArgumentError) as caught:
        make(dbt_build(**build), **arguments)
    assert message in str(caught.value)


def test_an_unknown_value_is_refused_with_the_one_that_there_is(make):
    producer = make(dbt_build(select="source_status:fresh+"))
    Attempted(producer).ends()
    with pytest.raises(Exception, match=r"`source_status:` and one of fresher"):
        Attempted(producer, run_id="two").wanted()


def test_sources_are_among_the_nodes_that_are_watched(make):
    producer = make(dbt_build(select=FRESHER))
    Attempted(producer).ends()
    nodes = Attempted(producer, run_id="two").wanted().whole.nodes
    assert set(filter(is_source, nodes)) == {ORDERS, CUSTOMERS, PAYMENTS}
