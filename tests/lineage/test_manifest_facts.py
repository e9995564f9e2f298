"""What is read of a manifest, and of a catalog, for lineage."""

import json

import msgspec
import pytest
import replayed

from dbt_watch.lineage.facts import ColumnFacts, TestFacts, project_facts
from dbt_watch.lineage.plan import pack_plan, unpack_plan


def resource(name, kind="model", **more):
    return {"name": name, "resource_type": kind, "database": "shop", "schema": "main", "alias": name, **more}


def facts_of(nodes, *, sources=(), catalog=None, wanted=None):
    manifest = {
        "metadata": {"project_name": "shop", "adapter_type": "postgres"},
        "nodes": {f"{node['resource_type']}.shop.{node['name']}": node for node in nodes},
        "sources": {f"source.shop.raw.{source['name']}": source for source in sources},
    }
    everything = [*manifest["nodes"], *manifest["sources"]]
    encoded = None if catalog is None else json.dumps(catalog).encode()
    return project_facts(json.dumps(manifest).encode(), wanted or everything, encoded)


def reading(*unique_ids):
    return {"depends_on": {"nodes": list(unique_ids)}}


def test_the_example_is_read_and_survives_the_way_to_a_trigger():
    plan = replayed.plan()
    assert (plan.facts.name, plan.facts.adapter) == ("jaffle_shop", "duckdb")
    orders = plan.facts.nodes["model.jaffle_shop.orders"]
    assert orders.parts == ("jaffle_shop", "main", "orders")
    assert [column.name for column in orders.columns] == ["order_id", "customer_id"]
    assert unpack_plan(pack_plan(plan)) == plan
    assert len(pack_plan(plan)) < 3_000


def test_what_an_ephemeral_model_reads_is_read_by_whoever_uses_it():
    facts = facts_of(
        [
            resource("orders", **reading("model.shop.helper", "seed.shop.days")),
            resource(
                "helper",
                config={"materialized": "ephemeral"},
                **reading("model.shop.deeper", "source.shop.raw.o"),
            ),
            resource("deeper", config={"materialized": "ephemeral"}, **reading("source.shop.raw.o")),
            resource("days", "seed"),
        ],
        sources=[resource("o", "source", identifier="orders_v2")],
        wanted=["model.shop.orders"],
    )
    assert facts.nodes["model.shop.orders"].reads == ("source.shop.raw.o", "seed.shop.days")
    assert facts.nodes["source.shop.raw.o"].parts == ("shop", "main", "orders_v2")


def test_ephemeral_models_are_no_tables_and_are_named_apart():
    facts = facts_of([resource("helper", config={"materialized": "ephemeral"}), resource("orders")])
    assert facts.ephemeral == {"model.shop.helper"}
    assert set(facts.nodes) == {"model.shop.orders"}


def test_what_is_read_but_not_built_is_known_and_nothing_else():
    facts = facts_of(
        [resource("a"), resource("b", **reading("model.shop.a", "metric.shop.m")), resource("c")],
        wanted=["model.shop.b"],
    )
    assert set(facts.nodes) == {"model.shop.a", "model.shop.b"}


def test_a_catalog_knows_types_and_the_manifest_what_columns_mean():
    described = {"id": {"name": "id", "description": "the key"}, "gone": {"name": "gone"}}
    columns = {
        "AMOUNT": {"name": "AMOUNT", "type": "NUMERIC", "index": 2},
        "ID": {"name": "ID", "type": "BIGINT", "index": 1},
    }
    catalog = {"nodes": {"model.shop.orders": {"columns": columns}}, "sources": {}}
    facts = facts_of([resource("orders", columns=described)], catalog=catalog)
    assert facts.nodes["model.shop.orders"].columns == (
        ColumnFacts("ID", "BIGINT", "the key"),
        ColumnFacts("AMOUNT", "NUMERIC", ""),
    )


def test_without_a_catalog_the_columns_are_those_that_the_project_describes():
    described = {"id": {"name": "id", "data_type": "bigint", "description": "the key"}}
    facts = facts_of([resource("orders", columns=described)])
    assert facts.nodes["model.shop.orders"].columns == (ColumnFacts("id", "bigint", "the key"),)


def test_tags_and_meta_are_tags_and_the_owner_is_the_owner():
    meta = {"owner": ["ann", "bob"], "pii": True, "dbt_watch": {"pool": "x"}, "layer": "gold"}
    node = facts_of([resource("orders", tags=["nightly"], meta=meta)]).nodes["model.shop.orders"]
    assert node.owners == ("ann", "bob")
    assert node.tags == (
        ("nightly", "true", "DBT"),
        ("owner", '["ann", "bob"]', "DBT_META"),
        ("pii", "true", "DBT_META"),
        ("layer", "gold", "DBT_META"),
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {
                "test_metadata": {"name": "unique", "kwargs": {"column_name": "id"}},
                "attached_node": "model.shop.a",
            },
            TestFacts("unique", "id", "model.shop.a", "error", "0"),
        ),
        (
            {
                "test_metadata": {"name": "unique", "kwargs": {"column_name": {"odd": 1}}},
                **reading("model.shop.a"),
            },
            TestFacts("unique", None, "model.shop.a", "error", "0"),
        ),
        ({"config": {"severity": "WARN", "warn_if": "> 10"}}, TestFacts("t", None, None, "warn", "> 10")),
        (
            {"config": {"error_if": " != 0"}, **reading("model.shop.a")},
            TestFacts("t", None, None, "error", "0"),
        ),
    ],
)
def test_what_a_test_checks(more, expected):
    facts = facts_of([resource("t", "test", **more), resource("a")])
    assert facts.nodes["test.shop.t"].test == expected
    assert facts.nodes["test.shop.t"].parts == ()


def test_what_is_no_manifest_is_refused():
    with pytest.raises(msgspec.MsgspecError):
        project_facts(b'{"metadata": {}}', ["model.shop.orders"])
