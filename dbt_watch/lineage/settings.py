"""What a DAG author can set for lineage: `DbtLineage`, an option of the decorators."""

from __future__ import annotations

import msgspec

from dbt_watch.exceptions import ArgumentError


class DbtLineage(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where the datasets of a project are, which a manifest does not say.

    Set at most one of the two; with neither, the namespace is BigQuery's own, or else just the adapter's name.

    :param namespace: the namespace of the datasets, as in OpenLineage: `postgres://db.example:5432`, `snowflake://org-account`
    :param conn_id: Airflow's connection to the same warehouse, from which the namespace is made when dbt runs
    """

    namespace: str | None = None
    conn_id: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("namespace", self.namespace), ("conn_id", self.conn_id)):
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise ArgumentError(f"DbtLineage({name})", value, "text, or None")
        if self.namespace is not None and self.conn_id is not None:
            raise ArgumentError("DbtLineage(conn_id)", self.conn_id, "to be left out: namespace=... is set")


class LineageSource(msgspec.Struct, frozen=True):
    """
    A project's settings for lineage.

    :param manifest: where its manifest is
    :param settings: where its datasets are
    """

    manifest: str
    settings: DbtLineage


Lineage = DbtLineage | bool
"""What the option accepts: whether there are events, or where the datasets are."""


def check_lineage(argument: str, value: object) -> None:
    """
    Check the option.

    :raises ArgumentError: when it is not True, False or a `DbtLineage`
    """
    if not isinstance(value, bool | DbtLineage):
        raise ArgumentError(argument, value, "True, False or DbtLineage(...)")
