"""Which sources are checked, and which nodes are behind them."""

import json

import pytest
from manifest_builder import generic_test, manifest, resource

from dbt_watch.core.manifest.load import decode_manifest
from dbt_watch.core.resume import selection_of
from dbt_watch.core.selection.source_freshness import (
    readers_of,
    source_criterion,
    sources_read_by,
    sources_selected,
)

DAILY = {"warn_after": {"count": 1, "period": "day"}, "error_after": {"count": None, "period": None}}


def source(name, **values):
    values = {"freshness": DAILY, **values}
    return resource(f"source.shop.raw.{name}", source_name="raw", path="models/raw.yml", **values)


RAW_A, RAW_B, RAW_C = (f"source.shop.raw.{name}" for name in "abc")
SHOP = manifest(
    source("a"),
    source("b"),
    source("c", freshness=None),
    resource("model.shop.stg_a", RAW_A),
    resource("model.shop.hidden", RAW_B, config={"materialized": "ephemeral"}),
    resource("model.shop.more", "model.shop.hidden", config={"materialized": "ephemeral"}),
    resource("model.shop.b", "model.shop.more", RAW_C),
    resource("model.shop.all", "model.shop.stg_a", "model.shop.b"),
    generic_test("test.shop.not_null_all.1", "model.shop.all"),
    generic_test("test.shop.source_not_null.2", RAW_A),
    resource("exposure.shop.board", RAW_A, RAW_B),
)


def graph_of(content):
    return decode_manifest(json.dumps(content).encode(), location="m")


@pytest.fixture
def shop():
    return graph_of(SHOP)


@pytest.mark.parametrize(
    ("nodes", "read"),
    [
        (["model.shop.stg_a"], {RAW_A}),
        (["model.shop.b"], {RAW_B}),
        (["model.shop.all"], set()),
        (["model.shop.all", "model.shop.b", "model.shop.stg_a"], {RAW_A, RAW_B}),
        (["test.shop.source_not_null.2"], {RAW_A}),
        (["exposure.shop.board"], set()),
    ],
)
def test_a_node_reads_sources_itself_or_through_ephemeral_models(shop, nodes, read):
    assert sources_read_by(shop, nodes) == read


def test_only_sources_with_a_policy_are_selected(shop):
    assert sources_selected(shop) == {RAW_A, RAW_B}
    assert sources_selected(shop, select=["source:raw.b", "source:raw.c", "b"]) == {RAW_B}


@pytest.mark.parametrize(
    ("freshness", "config", "has"),
    [
        (DAILY, {}, True),
        ({"warn_after": None, "error_after": {"count": 2, "period": "hour"}}, {}, True),
        ({"warn_after": {"count": 0, "period": "hour"}}, {}, True),
        ({"warn_after": {"count": None, "period": None}, "error_after": None}, {}, False),
        ({"warn_after": {"count": 1, "period": None}}, {}, False),
        ({"filter": "x > 1"}, {}, False),
        (None, {}, False),
        (None, {"freshness": DAILY}, False),
        ("absent", {"freshness": DAILY}, True),
        ("absent", {"freshness": None}, False),
        ("absent", {}, False),
    ],
)
def test_a_policy_needs_an_age_and_stands_at_the_source_or_else_in_its_configuration(freshness, config, has):
    described = source("a", freshness=freshness, config=config)
    if freshness == "absent":
        del described["freshness"]
    assert graph_of(manifest(described)).nodes[RAW_A].has_freshness is has


def test_the_freshness_of_a_model_is_another_thing():
    model = resource("model.shop.a", freshness={"build_after": {"count": 1, "period": "day"}})
    assert not graph_of(manifest(model)).nodes["model.shop.a"].has_freshness


def test_what_is_behind_a_source_is_all_that_dbt_would_exclude_with_it(shop):
    # `stg_a` and `more`, on the way, have been built before or are ephemeral.
    nodes = {RAW_A, RAW_B, "model.shop.hidden", "model.shop.all", "test.shop.source_not_null.2"}
    assert readers_of(shop, nodes) == {
        RAW_A: ("model.shop.all", "test.shop.source_not_null.2"),
        RAW_B: ("model.shop.all",),
    }


def test_a_source_is_named_with_package_and_source(shop):
    assert source_criterion(shop.nodes[RAW_A]) == "source:shop.raw.a"


def test_what_is_left_may_be_sources_and_nodes(shop):
    selection = selection_of(shop, frozenset({RAW_B, RAW_A, "model.shop.b"}))
    assert selection.sources == ("source:shop.raw.a", "source:shop.raw.b")
    assert selection.select == ("fqn:shop.b,resource_type:model,file:b.sql",)
    assert selection.builds


def test_what_is_left_may_be_sources_alone(shop):
    # Ephemeral models are never done, since they have no task.
    selection = selection_of(shop, frozenset({RAW_A, "model.shop.hidden"}))
    assert (selection.sources, selection.select, selection.builds) == (("source:shop.raw.a",), (), False)
