"""What the words of a selection find, and how wrong ones are refused; `tests/selection` compares with dbt itself."""

from __future__ import annotations

import json

import pytest
from manifest_builder import generic_test, manifest, resource

from dbt_watch.core.manifest.load import decode_manifest
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import SelectionError

RESOURCES = [
    resource("seed.shop.raw", raw_code=""),
    resource("model.shop.stg", "seed.shop.raw", path="models/staging/stg.sql", config={"tags": ["nightly"]}),
    resource("model.shop.other", path="models/staging/other.sql", config={"materialized": "table"}),
    resource(
        "model.shop.orders", "model.shop.stg", path="models/marts/orders.sql", config={"meta": {"level": 1}}
    ),
    resource("model.shop.report", "model.shop.orders", "model.shop.other", path="models/marts/report.sql"),
    resource("model.shop.blank", raw_code=""),
    resource("model.kit.base", path="models/staging/base.sql"),
    resource("exposure.shop.board", "model.shop.report", path="models/marts/schema.yml"),
    resource("source.shop.web.clicks", source_name="web"),
    generic_test("test.shop.not_null_stg.a", "model.shop.stg"),
    generic_test("test.shop.related.b", "model.shop.orders", "model.shop.other", kind="relationships"),
    resource("test.shop.singular", "model.shop.report", path="tests/singular.sql"),
    resource("unit_test.shop.orders.counts", "model.shop.orders", path="models/marts/schema.yml"),
]


def graph_of(*resources, **sections):
    return decode_manifest(json.dumps(manifest(*resources, **sections)).encode(), location="manifest.json")


SHOP = graph_of(*RESOURCES)


def names(graph=SHOP, **selection):
    return {unique_id.split(".", 2)[2] for unique_id in select_nodes(graph, **selection)}


@pytest.mark.parametrize(
    ("select", "found"),
    [
        ("orders", {"orders", "related.b", "orders.counts"}),
        ("+orders", {"raw", "stg", "orders", "not_null_stg.a", "related.b", "orders.counts"}),
        ("1+orders,resource_type:model", {"stg", "orders", "not_null_stg.a", "related.b", "orders.counts"}),
        ("raw+1,resource_type:seed stg", {"raw", "stg", "not_null_stg.a"}),
        ("tag:night*", {"stg", "not_null_stg.a"}),
        ("path:models/staging,package:this", {"stg", "other", "not_null_stg.a", "related.b"}),
        ("package:kit", {"base"}),
        ("test_type:singular", {"singular"}),
        ("config.materialized:table", {"other", "related.b"}),
        ("config.meta.level:1", set()),
        ("nothing", set()),
    ],
)
def test_a_selection_finds(select, found):
    assert names(select=select) == found


def test_without_a_selection_a_build_takes_all_that_it_builds():
    assert select_nodes(SHOP) == {
        node.unique_id
        for node in SHOP.nodes.values()
        if node.resource_type != "source" and node.unique_id != "model.shop.blank"
    }


def test_a_list_takes_sources_and_empty_models_too():
    assert select_nodes(SHOP, buildable_only=False) == SHOP.nodes.keys()


def test_a_list_of_texts_is_a_union_as_spaces_are():
    assert names(select=["stg", "other report"]) == names(select="stg other report")


def test_at_takes_the_descendants_and_all_that_those_need():
    assert names(select="@stg", indirect_selection="empty") == names(
        select="+report+ stg+", indirect_selection="empty"
    )


@pytest.mark.parametrize(
    ("mode", "tests"),
    [
        ("eager", {"not_null_stg.a", "related.b", "singular", "orders.counts"}),
        ("cautious", {"singular", "orders.counts"}),
        ("buildable", {"singular", "orders.counts", "related.b"}),
        ("empty", set()),
    ],
)
def test_indirect_selection_decides_on_the_tests(mode, tests):
    selected = names(select="orders report stg,resource_type:seed", indirect_selection=mode)
    assert selected - {"orders", "report"} == tests - {"not_null_stg.a"}


def test_a_cautious_test_waits_for_the_other_part_of_a_union():
    assert "related.b" not in names(select="orders", indirect_selection="cautious")
    assert "related.b" in names(select="orders other", indirect_selection="cautious")


def test_resource_types_narrow_a_selection():
    assert names(select="+orders", resource_types=["model", "seed"]) == {"raw", "stg", "orders"}
    assert names(select="+orders", exclude_resource_types=["test", "unit_test"]) == {"raw", "stg", "orders"}
    assert names(select="stg", resource_types=["all"], exclude_resource_types=["test"]) == {"stg"}


@pytest.mark.parametrize(
    ("dbt", "built"),
    [
        ("1.8.10", {"model", "seed", "test", "unit_test"}),
        ("1.9.11", {"model", "seed", "test", "unit_test"}),
        ("1.10.23", {"model", "seed", "test", "unit_test", "exposure"}),
        ("1.13.0", {"model", "seed", "test", "unit_test", "exposure"}),
        ("2.0.0-preview.196", {"model", "seed", "test", "unit_test"}),
    ],
)
def test_each_dbt_builds_its_own_kinds(dbt, built):
    graph = graph_of(*RESOURCES, dbt=dbt)
    assert {graph.nodes[unique_id].resource_type for unique_id in select_nodes(graph)} == built


def test_a_path_of_a_package_counts_only_where_the_project_has_it_too():
    # dbt globs its own directory, and then compares paths that are relative to each package
    assert names(select="path:models/staging") >= {"base", "stg"}
    assert (
        names(graph_of(resource("model.kit.a", path="models/only/a.sql")), select="path:models/only") == set()
    )


SELECTORS = {
    "nightly": {"name": "nightly", "definition": {"method": "tag", "value": "nightly"}},
    "wide": {
        "name": "wide",
        "definition": {
            "union": [
                {"method": "fqn", "value": "orders", "parents": True, "parents_depth": "1"},
                {"method": "fqn", "value": "other", "indirect_selection": "empty"},
                {"exclude": ["unit_test:*"]},
            ]
        },
    },
    "again": {"name": "again", "definition": {"method": "selector", "value": "wide"}},
}


@pytest.mark.parametrize("dbt", ["1.11.16", "1.12.6"])
def test_a_yaml_selector_is_taken_by_its_name(dbt):
    graph = graph_of(*RESOURCES, selectors=SELECTORS, dbt=dbt)
    assert names(graph, selector="nightly") == {"stg", "not_null_stg.a"}
    assert names(graph, selector="wide") == {"stg", "orders", "other", "not_null_stg.a", "related.b"}
    assert names(graph, selector="again") == names(graph, selector="wide")


def test_the_default_selector_holds_when_nothing_is_asked_for():
    selectors = {**SELECTORS, "nightly": {**SELECTORS["nightly"], "default": True}}
    graph = graph_of(*RESOURCES, selectors=selectors)
    assert names(graph) == {"stg", "not_null_stg.a"}
    assert names(graph, select="report") == {"report", "singular"}
    assert "stg" not in names(graph, exclude="stg")
    assert "report" in names(graph, exclude="stg")


def test_a_selector_is_a_method_since_dbt_1_12():
    graph = graph_of(*RESOURCES, selectors=SELECTORS)
    assert names(graph, select="selector:night*,resource_type:model") == {"stg", "not_null_stg.a"}
    assert names(graph, select="selector:night*+1", indirect_selection="empty") == {
        "stg",
        "orders",
        "not_null_stg.a",
    }
    with pytest.raises(SelectionError, match=r"dbt 1\.11\.16"):
        names(graph_of(*RESOURCES, selectors=SELECTORS, dbt="1.11.16"), select="selector:nightly")


@pytest.mark.parametrize("dbt", ["1.11.16", "1.12.6"])
def test_selectors_that_refer_to_each_other_in_a_circle_are_refused(dbt):
    circle = {
        "a": {"name": "a", "definition": {"union": [{"method": "selector", "value": "b"}]}},
        "b": {"name": "b", "definition": {"method": "selector", "value": "a"}},
    }
    with pytest.raises(SelectionError, match=r"a -> b -> a|b -> a -> b"):
        names(graph_of(*RESOURCES, selectors=circle, dbt=dbt), selector="a")


@pytest.mark.parametrize(
    "definition",
    [
        None,
        3,
        ["tag:x"],
        {"union": "tag:x"},
        {"method": "tag"},
        {"method": "tag", "value": ["x"]},
        {"method": "tag", "value": 3},
        {"tagg": "x"},
        {"method": "fqn", "value": "x", "parents": True, "parents_depth": "many"},
        {"method": "fqn", "value": "x", "indirect_selection": "brave"},
        {"method": "fqn", "value": "x", "children": True, "childrens_parents": True},
        {"union": ["x", {"exclude": ["y"]}, {"exclude": ["z"]}]},
        {"method": "selector", "value": "gone"},
        {"error": "Invalid selector spec"},
    ],
)
@pytest.mark.parametrize("dbt", ["1.11.16", "1.12.6"])
def test_a_broken_definition_is_refused(definition, dbt):
    graph = graph_of(*RESOURCES, selectors={"mine": {"name": "mine", "definition": definition}}, dbt=dbt)
    with pytest.raises(SelectionError, match=r"^selector="):
        names(graph, selector="mine")


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"select": "tagg:x"}, "select='tagg'.*did you mean tag"),
        ({"exclude": "tagg:x"}, "exclude='tagg'"),
        ({"select": "state:modified+"}, "not known while a DAG is parsed"),
        ({"select": "result:error"}, "not known while a DAG is parsed"),
        ({"select": "source_status:fresher+"}, "not known while a DAG is parsed"),
        ({"select": "@stg+"}, "not both"),
        ({"select": "resource_type:modle"}, "did you mean model"),
        ({"select": "test_type:genric"}, "did you mean generic"),
        ({"select": "version:lastest"}, "did you mean latest"),
        ({"select": "source:a.b.c.d"}, "package.source.table"),
        ({"select": "exposure:a.b.c"}, "one dot at most"),
        ({"select": "path:/models"}, "relative to the project"),
        ({"select": "path:models/st**"}, "only by itself"),
        ({"select": "stg\norders"}, "on one line"),
        ({"select": " "}, "text, or None"),
        ({"select": ["stg", 3]}, "select=3"),
        ({"selector": "nihgtly"}, "there is none"),
        ({"selector": "nightly", "select": "stg"}, "dbt would ignore"),
        ({"indirect_selection": "egar"}, "did you mean eager"),
        ({"resource_types": ["modle"]}, "resource_types='modle'.*did you mean model"),
        ({"resource_types": ["source"]}, "resource_types='source'"),
        ({"exclude_resource_types": ["modle"]}, "exclude_resource_types='modle'"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(selection, words):
    with pytest.raises(SelectionError, match=f"(?s){words}"):
        names(**selection)


def test_the_nearest_selector_is_named():
    with pytest.raises(SelectionError, match="did you mean nightly"):
        names(graph_of(*RESOURCES, selectors=SELECTORS), selector="nihgtly")


def test_empty_lists_are_no_restriction():
    assert select_nodes(SHOP, select=[], exclude=[]) == select_nodes(SHOP)
