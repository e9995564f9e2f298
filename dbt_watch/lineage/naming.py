"""
How OpenLineage names datasets: a namespace for each database server, a name for each table.

The forms are those of the specification (https://openlineage.io/docs/spec/naming), as far as dbt has an adapter, and of the
`dbt-ol` of openlineage-dbt where that has none: DuckDB, ClickHouse, Dremio and Fabric.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


def namespace_of(adapter: str, connection: Mapping[str, Any]) -> str | None:
    """
    Return the namespace of all datasets behind a connection; None where it lacks what the namespace is made of.

    :param adapter: the type of dbt's adapter, as in a profile and in a manifest
    :param connection: the fields of the connection, by their names in dbt's profile
    """
    if adapter == "snowflake":
        account = connection.get("account")
        return f"snowflake://{snowflake_account(str(account))}" if account else None
    form, defaults = _FORMS.get(adapter, ("", {}))
    known = {name: value for name, value in connection.items() if value not in {None, ""}}
    if "host" in known:
        known["host"] = _SCHEME.sub("", str(known["host"])).rstrip("/")
    try:
        return form.format(**{**defaults, **known}) or None
    except KeyError:
        return None


def namespace_by_adapter(adapter: str) -> str:
    """Return the namespace where nothing is known of the connection: the only one, or the bare name of the adapter."""
    return namespace_of(adapter, {}) or adapter or "dbt"


_FORMS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "athena": ("awsathena://athena.{region_name}.amazonaws.com", {}),
    "bigquery": ("bigquery", {}),
    "clickhouse": ("clickhouse://{host}:{port}", {"port": 8123}),
    "databricks": ("databricks://{host}", {}),
    "dremio": ("dremio://{software_host}:{port}", {"port": 9047}),
    "duckdb": ("duckdb://{path}", {}),
    "fabric": ("fabric-warehouse://{server}", {}),
    "postgres": ("postgres://{host}:{port}", {"port": 5432}),
    "presto": ("presto://{host}:{port}", {"port": 8080}),
    "redshift": ("redshift://{host}:{port}", {"port": 5439}),
    "spark": ("spark://{host}:{port}", {"port": 10001}),
    "sqlserver": ("mssql://{server}:{port}", {"port": 1433}),
    "trino": ("trino://{host}:{port}", {"port": 8080}),
}
_SCHEME: Final = re.compile(r"\A[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def snowflake_account(account: str) -> str:
    """
    Return how OpenLineage writes an account of Snowflake.

    `organization-account` stays as it is. A locator gets its region and cloud, which Snowflake lets its users leave out for
    us-west-1 and for AWS.

    :param account: as in a profile; what comes after it in a host name may follow
    """
    name, *place = account.removesuffix(".snowflakecomputing.com").split(".")
    if "-" in name:
        return name
    defaults = ["us-west-1", "aws"]
    return ".".join([name, *place, *defaults[len(place) :]])


def dataset_name(parts: tuple[str | None, ...]) -> str:
    """Return the name of a dataset, of its database, its schema and its own name, as far as it has them."""
    return ".".join(part for part in parts if part)


# A name in quotes of whatever kind, in which the quote itself is written twice, or a bare one.
_PART: Final = re.compile(r'"((?:[^"]|"")*)"|`((?:[^`]|``)*)`|\[((?:[^\]]|\]\])*)\]|([^.\s"`\[\]]+)')


def parts_of(relation_name: str | None) -> tuple[str, ...]:
    """Return the parts of a quoted name such as `"shop"."main"."orders"`; none where it is no such name."""
    parts: list[str] = []
    at = 0
    text = relation_name or ""
    while match := _PART.match(text, at):
        double, back, square, bare = match.groups()
        if double is not None:
            parts.append(double.replace('""', '"'))
        elif back is not None:
            # BigQuery may quote the whole of a name at once.
            parts += back.replace("``", "`").split(".")
        else:
            parts.append(square.replace("]]", "]") if square is not None else bare)
        at = match.end()
        if at == len(text):
            return tuple(parts)
        if text[at] != ".":
            return ()
        at += 1
    return ()
