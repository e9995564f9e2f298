"""Assets of nodes: their names, which builds are told of, and what is told."""

from datetime import datetime, timezone

import pytest

from dbt_watch.core.assets import (
    TrackedAssets,
    alias_name,
    asset_uri,
    check_namespace,
    has_asset,
    identity_of,
    relation_parts,
)
from dbt_watch.core.manifest.graph import Node
from dbt_watch.core.results import NodeResult
from dbt_watch.exceptions import ArgumentError

ORDERS, CUSTOMERS, RAW = "model.shop.orders", "model.shop.customers", "seed.shop.raw_orders"
ALIAS = "dbt://shop/model.shop.orders"


def result(unique_id=ORDERS, status="success", **more):
    return NodeResult(unique_id=unique_id, status=status, **more)


@pytest.mark.parametrize(
    ("relation", "parts"),
    [
        ('"shop"."public"."orders"', ["shop", "public", "orders"]),
        ("`my-project`.`shop`.`orders`", ["my-project", "shop", "orders"]),
        ("[shop].[dbo].[orders]", ["shop", "dbo", "orders"]),
        ("SHOP.PUBLIC.ORDERS", ["SHOP", "PUBLIC", "ORDERS"]),
        ('SHOP.PUBLIC."my orders"', ["SHOP", "PUBLIC", "my orders"]),
        ('"shop"."a.b"."say ""hi"""', ["shop", "a.b", 'say "hi"']),
        ("`shop`.`orders`", ["shop", "orders"]),
        ("", []),
    ],
)
def test_a_relation_is_read_in_the_way_of_any_adapter_to_quote_it(relation, parts):
    assert relation_parts(relation) == parts


@pytest.mark.parametrize(
    ("namespace", "relation", "uri"),
    [
        ("postgres://db.example:5432", '"shop"."public"."orders"', "postgres://db.example:5432/shop/public/orders"),
        ("redshift://dw.example:5439/", '"dw"."shop"."orders"', "redshift://dw.example:5439/dw/shop/orders"),
        ("snowflake://my-account", "SHOP.PUBLIC.ORDERS", "snowflake://my-account/SHOP/PUBLIC/ORDERS"),
        ("bigquery://", "`my-project`.`shop`.`orders`", "bigquery://my-project/shop/orders"),
        ("databricks://adb.example", "`main`.`shop`.`orders`", "databricks://adb.example/main/shop/orders"),
        ("trino://trino.example:8080", '"hive"."shop"."orders"', "trino://trino.example:8080/hive/shop/orders"),
        ("mysql://db.example:3306", "`shop`.`orders`", "mysql://db.example:3306/shop/orders"),
        ("file:///warehouse/shop.duckdb", '"shop"."main"."orders"', "file:///warehouse/shop.duckdb/shop/main/orders"),
        ("postgres://db:5432", '"shop"."a b"."c/d"', "postgres://db:5432/shop/a%20b/c%2Fd"),
        (None, '"shop"."public"."orders"', ALIAS),
        ("postgres://db.example:5432", None, ALIAS),
    ],
)  # fmt: skip
def test_an_asset_is_named_by_where_the_relation_lies(namespace, relation, uri):
    assert asset_uri(ALIAS, namespace, relation) == uri


def test_an_alias_needs_nothing_but_the_manifest():
    assert alias_name("shop", ORDERS) == ALIAS
    assert alias_name("", "model.helpers.orders") == "dbt://helpers/model.helpers.orders"


@pytest.mark.parametrize(
    "namespace", ["postgres", "db.example:5432", 5, "postgres://me:secret@db:5432", "postgres://me@db", "x://db?a=1"]
)  # fmt: skip
def test_a_namespace_that_is_none_is_refused(namespace):
    with pytest.raises(ArgumentError, match="assets_namespace"):
        check_namespace("assets_namespace", namespace)


@pytest.mark.parametrize("namespace", [None, "bigquery://", "file:///warehouse/shop.duckdb", "trino://t:1"])
def test_a_namespace_is_the_beginning_of_a_uri(namespace):
    check_namespace("assets_namespace", namespace)


@pytest.mark.parametrize(
    ("kind", "materialized", "expected"),
    [
        ("model", "table", True),
        ("model", "view", True),
        ("model", "ephemeral", False),
        ("seed", "seed", True),
        ("snapshot", "snapshot", True),
        ("test", "test", False),
        ("source", None, False),
        ("unit_test", None, False),
        ("exposure", None, False),
    ],
)
def test_models_seeds_and_snapshots_have_assets_and_tests_have_not(kind, materialized, expected):
    node = Node(f"{kind}.shop.x", "x", kind, "shop", materialized=materialized)
    assert has_asset(node) is expected


@pytest.mark.parametrize(
    ("status", "is_told"),
    [
        ("success", True), ("warn", True), ("error", False), ("skipped", False), ("not run", False), ("started", False),
        ("partial success", False), ("no-op", False), ("reused", False), ("cancelled", False), ("runtime error", False),
    ],
)  # fmt: skip
def test_only_what_was_really_built_is_told(status, is_told):
    assets = TrackedAssets("shop", {ORDERS: None})
    assert bool(assets.events([result(status=status)])) is is_told


def test_an_event_tells_the_rows_the_seconds_and_the_invocation():
    finished = datetime(2026, 11, 26, 10, 0, 3, tzinfo=timezone.utc)
    built = result(
        relation_name='"prod"."public"."orders"',
        rows_affected=150,
        execution_time=1.5,
        finished_at=finished,
        invocation_id="a-1",
    )
    assets = TrackedAssets("shop", {ORDERS: '"dev"."public"."orders"'}, "postgres://db:5432")
    (event,) = assets.events([built, result(CUSTOMERS)])
    # Where dbt ran counts, and not where the manifest was made.
    assert (event.alias, event.uri) == (ALIAS, "postgres://db:5432/prod/public/orders")
    assert event.extra == {
        "unique_id": ORDERS,
        "status": "success",
        "rows": 150,
        "seconds": 1.5,
        "finished_at": "2026-11-26T10:00:03+00:00",
        "invocation_id": "a-1",
    }
    assert identity_of(event.extra) == ("a-1", "2026-11-26T10:00:03+00:00")


def test_a_relation_that_dbt_does_not_tell_is_the_one_of_the_manifest():
    assets = TrackedAssets("shop", {ORDERS: '"dev"."public"."orders"'}, "postgres://db:5432")
    assert assets.events([result()])[0].uri == "postgres://db:5432/dev/public/orders"


def test_the_assets_of_a_part_are_those_of_its_nodes():
    assets = TrackedAssets("shop", {ORDERS: None, RAW: None}, "bigquery://")
    assert assets.only({RAW, CUSTOMERS}) == TrackedAssets("shop", {RAW: None}, "bigquery://")
    assert assets.only({CUSTOMERS}) is None
    assert assets.aliases == [ALIAS, "dbt://shop/seed.shop.raw_orders"]
