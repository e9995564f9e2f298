"""How datasets are named, as OpenLineage's specification and dbt-ol name them."""

import pytest

from dbt_watch.lineage.naming import dataset_name, namespace_by_adapter, namespace_of, parts_of


@pytest.mark.parametrize(
    ("adapter", "connection", "namespace"),
    [
        ("postgres", {"host": "db.example", "port": 5433}, "postgres://db.example:5433"),
        ("postgres", {"host": "db.example", "port": None}, "postgres://db.example:5432"),
        ("redshift", {"host": "cluster.example"}, "redshift://cluster.example:5439"),
        ("snowflake", {"account": "org-account"}, "snowflake://org-account"),
        ("snowflake", {"account": "xy12345"}, "snowflake://xy12345.us-west-1.aws"),
        ("snowflake", {"account": "xy12345.eu-west-2"}, "snowflake://xy12345.eu-west-2.aws"),
        ("snowflake", {"account": "xy12345.west-europe.azure"}, "snowflake://xy12345.west-europe.azure"),
        ("snowflake", {"account": "org-account.snowflakecomputing.com"}, "snowflake://org-account"),
        ("bigquery", {}, "bigquery"),
        (
            "databricks",
            {"host": "https://adb-1.azuredatabricks.net/"},
            "databricks://adb-1.azuredatabricks.net",
        ),
        ("trino", {"host": "trino.example", "port": 443}, "trino://trino.example:443"),
        ("sqlserver", {"server": "mssql.example"}, "mssql://mssql.example:1433"),
        ("athena", {"region_name": "eu-central-1"}, "awsathena://athena.eu-central-1.amazonaws.com"),
        ("spark", {"host": "spark.example"}, "spark://spark.example:10001"),
        ("clickhouse", {"host": "ch.example", "port": 9000}, "clickhouse://ch.example:9000"),
        ("duckdb", {"path": "/data/shop.duckdb"}, "duckdb:///data/shop.duckdb"),
    ],
)
def test_a_namespace_is_made_of_a_connection(adapter, connection, namespace):
    assert namespace_of(adapter, connection) == namespace


@pytest.mark.parametrize(
    ("adapter", "connection"),
    [("postgres", {}), ("snowflake", {"host": "x"}), ("duckdb", {"path": ""}), ("unheard_of", {"host": "x"})],
)
def test_where_the_connection_does_not_say_there_is_none(adapter, connection):
    assert namespace_of(adapter, connection) is None


def test_without_a_connection_the_adapter_stands_for_it():
    assert [namespace_by_adapter(adapter) for adapter in ("bigquery", "postgres", "")] == [
        "bigquery",
        "postgres",
        "dbt",
    ]


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ('"shop"."main"."orders"', ("shop", "main", "orders")),
        ("`project`.`dataset`.`table`", ("project", "dataset", "table")),
        ("`project.dataset.table`", ("project", "dataset", "table")),
        ("[shop].[dbo].[or]]ders]", ("shop", "dbo", "or]ders")),
        ("ANALYTICS.shop.orders", ("ANALYTICS", "shop", "orders")),
        ('"sh""op"."a.b"', ('sh"op', "a.b")),
        ("orders", ("orders",)),
        ("", ()),
        (None, ()),
        ('"shop".', ()),
        ("select * from orders", ()),
    ],
)
def test_the_parts_of_a_quoted_name(written, parts):
    assert parts_of(written) == parts


def test_the_name_of_a_dataset_leaves_out_what_it_has_not():
    assert dataset_name((None, "main", "orders")) == "main.orders"
