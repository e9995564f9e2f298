"""What has changed since an earlier run: `state:` and `result:` of dbt's node selection, and what is kept of a manifest."""

import copy
import json

import pytest

from dbt_watch.core.selection.state import (
    StateComparison,
    decode_state,
    needs_state,
    reduced,
    takes_all_changes,
)
from dbt_watch.exceptions import ManifestError

ORDERS, SEED, TEST, UNIT, SOURCE, EXPOSURE = (
    "model.shop.orders", "seed.shop.raw", "test.shop.unique", "unit_test.shop.orders.one", "source.shop.raw.a",
    "exposure.shop.page",
)  # fmt: skip
MACRO, DEEPER = "macro.shop.money", "macro.shop.round"
BEFORE = {
    "nodes": {
        ORDERS: {
            "resource_type": "model", "raw_code": "select 1", "fqn": ["shop", "orders"], "description": "d",
            "unrendered_config": {"materialized": "table", "tags": ["a"], "schema": "s", "meta": {"x": 1}},
            "config": {"persist_docs": {}}, "columns": {"id": {"description": "c"}},
            "contract": {"enforced": True, "checksum": "one"}, "access": "protected", "latest_version": None,
            "depends_on": {"macros": [MACRO, None]},
        },
        SEED: {"resource_type": "seed", "checksum": {"name": "sha256", "checksum": "a"}, "raw_code": ""},
        TEST: {
            "resource_type": "test", "raw_code": "{{ test_unique(**_dbt_generic_test_kwargs) }}", "fqn": ["shop", "unique"],
            "test_metadata": {"name": "unique"}, "unrendered_config": {"severity": "warn"},
        },
    },
    "sources": {SOURCE: {"resource_type": "source", "database": "d", "schema": "s", "identifier": "a", "freshness": None}},
    "unit_tests": {UNIT: {"resource_type": "unit_test", "checksum": "one"}},
    "exposures": {EXPOSURE: {"resource_type": "exposure", "url": "https://a", "created_at": 1.0}},
    "macros": {
        MACRO: {"macro_sql": "a", "depends_on": {"macros": [DEEPER]}},
        DEEPER: {"macro_sql": "b", "depends_on": {"macros": [MACRO]}},
    },
}  # fmt: skip
EVERYTHING = (ORDERS, SEED, TEST, UNIT, SOURCE, EXPOSURE)


def changed(section, unique_id, **values):
    now = copy.deepcopy(BEFORE)
    now[section][unique_id].update(values)
    return now


def compared(now, before=BEFORE, results=None):
    def decode(manifest):
        return decode_state(json.dumps(manifest).encode(), location="x")

    return StateComparison(decode(now), None if before is None else decode(before), results)


def found(value, now, before=BEFORE, method="state", **more):
    return set(compared(now, before, **more).find(method, value, EVERYTHING))


def test_what_is_as_it_was_is_not_modified():
    assert found("modified", BEFORE) == set()
    assert found("unmodified", BEFORE) == found("old", BEFORE) == set(EVERYTHING)


@pytest.mark.parametrize(
    "values",
    [
        {"raw_code": "select 2"},
        {"unrendered_config": {"materialized": "view"}},
        {"unrendered_config": {"materialized": "table", "meta": {"x": 2}, "schema": "s"}},
        {"fqn": ["shop", "marts", "orders"]},
        {"contract": {"enforced": True, "checksum": "two"}},
        {"contract": {"enforced": False, "checksum": None}},
        {"access": "public"},
        {"latest_version": 2},
        {"unrendered_config": {"materialized": "table", "schema": "t", "meta": {"x": 1}}},
    ],
)
def test_a_model_is_modified_when_what_it_makes_may_be_another(values):
    assert found("modified", changed("nodes", ORDERS, **values)) == {ORDERS}


@pytest.mark.parametrize(
    "values",
    [
        {"description": "another"},
        {"columns": {"id": {"description": "another"}}},
        {"unrendered_config": {"materialized": "table", "tags": ["b"], "group": "g", "schema": "s", "meta": {"x": 1}}},
    ],
)  # fmt: skip
def test_words_and_tags_alone_are_no_change(values):
    assert found("modified", changed("nodes", ORDERS, **values)) == set()


def test_descriptions_that_are_stored_in_the_database_are_a_change():
    persists = {"persist_docs": {"relation": True, "columns": True}}
    before = changed("nodes", ORDERS, config=persists)
    for values in ({"description": "another"}, {"columns": {"id": {"description": "another"}}}):
        now = copy.deepcopy(before)
        now["nodes"][ORDERS].update(values)
        assert found("modified", now, before) == {ORDERS}
        assert found("modified.persisted_descriptions", now, before) == {ORDERS}


@pytest.mark.parametrize("macro", [MACRO, DEEPER])
def test_a_macro_that_changes_changes_what_uses_it_directly_or_not(macro):
    now = changed("macros", macro, macro_sql="c")
    assert found("modified", now) == found("modified.macros", now) == {ORDERS}
    assert found("modified.body", now) == set()


def test_each_kind_of_node_has_its_own_idea_of_a_change():
    assert found("modified", changed("nodes", SEED, checksum={"name": "sha256", "checksum": "b"})) == {SEED}
    assert found("modified", changed("nodes", TEST, raw_code="another")) == set()
    assert found("modified", changed("nodes", TEST, unrendered_config={"severity": "error"})) == {TEST}
    assert (
        found("modified", changed("nodes", TEST, unrendered_config={"severity": "warn", "meta": {}})) == set()
    )
    assert found("modified", changed("unit_tests", UNIT, checksum="two")) == {UNIT}
    assert found("modified", changed("sources", SOURCE, identifier="b")) == {SOURCE}
    assert found("modified", changed("exposures", EXPOSURE, url="https://b")) == {EXPOSURE}
    assert found("modified", changed("exposures", EXPOSURE, created_at=2.0)) == set()


def test_without_an_earlier_run_all_is_new_and_for_dbt_a_new_source_is_no_change():
    assert found("new", BEFORE, None) == set(EVERYTHING)
    assert found("modified", BEFORE, None) == {*EVERYTHING} - {SOURCE}


def test_the_results_of_the_earlier_run_select_by_their_status():
    results = {ORDERS: "error", SEED: "success"}
    assert found("error", BEFORE, method="result", results=results) == {ORDERS}
    assert compared(BEFORE).find("state", "altered", EVERYTHING) is None


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        (["state:modified+"], True), (["tag:a,1+state:modified.body"], True), (["@state:new"], True), (["result:error+"], True),
        (["+source_status:fresher+"], True), (["orders", "tag:state"], False), (["path:state"], False), ([], False),
    ],
)  # fmt: skip
def test_a_selection_that_needs_an_earlier_run_is_known_by_its_words(words, is_one):
    assert needs_state(words) is is_one


@pytest.mark.parametrize(
    ("select", "exclude", "is_all"),
    [
        ((), (), True), (("state:modified+",), (), True), (("+state:modified+", "result:error+"), (), True),
        (("state:modified",), (), False), (("state:modified+1",), (), False), (("state:modified+,tag:a",), (), False),
        (("orders",), (), False), ((), ("orders",), False), (("state:modified.body+",), (), False),
    ],
)  # fmt: skip
def test_a_state_is_kept_only_of_a_run_that_has_built_all_that_had_changed(select, exclude, is_all):
    assert takes_all_changes(select, exclude) is is_all


def test_of_a_manifest_the_names_of_relations_are_left():
    node = {
        "resource_type": "model", "unique_id": ORDERS, "database": "d", "schema": "s", "alias": "orders", "relation_name": '"d"',
        "raw_code": "select 'secret'", "config": {"materialized": "table", "meta": {"a": 1}},
    }  # fmt: skip
    whole = {
        "metadata": {"dbt_schema_version": "v12", "env": {"A": "b"}}, "macros": {"m": {}},
        "nodes": {ORDERS: node, TEST: {"resource_type": "test"}},
    }  # fmt: skip
    small = json.loads(reduced(json.dumps(whole).encode(), location="x"))
    assert small["nodes"] == {
        ORDERS: {
            **{
                key: node[key]
                for key in ("resource_type", "unique_id", "database", "schema", "alias", "relation_name")
            },
            "config": {"materialized": "table"},
        }
    }
    assert (small["macros"], small["metadata"]) == ({}, {"dbt_schema_version": "v12"})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"nodes": []}', b'{"nodes": {"a": 1}}'])
def test_what_is_no_manifest_is_refused_by_its_place(content):
    with pytest.raises(ManifestError, match=r"state='s3://lake/manifest\.json': expected a manifest"):
        decode_state(content, location="s3://lake/manifest.json")
    with pytest.raises(ManifestError):
        reduced(content, location="x")
