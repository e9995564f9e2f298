"""
Where the example project builds while a benchmark runs it.

As it is, it builds in a file of DuckDB, which one dbt at a time can open. Where several pods build at once, it is a Postgres.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psycopg2
from local_postgres import local_postgres

from dbt_watch.local.localkube import Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    StartWarehouse = Callable[[Path], AbstractContextManager["Warehouse"]]

POSTGRES_PROFILE = """
jaffle_shop:
  target: dev
  outputs:
    dev:
      {type: postgres, host: "{{ env_var('WAREHOUSE_HOST') }}", port: 5432, user: postgres, password: "", dbname: warehouse,
       schema: "{{ env_var('SHOP_SCHEMA', 'shop') }}", threads: 4}
"""


class Warehouse(Protocol):
    """
    What dbt builds in.

    :ivar env: variables by which dbt finds it
    :ivar mounts: what a pod needs of this machine for it
    """

    env: Mapping[str, str]
    mounts: Mapping[str, Mount]

    def empty(self) -> None:
        """Drop what was built."""


class Postgres:
    """A database of a Postgres."""

    def __init__(self, host: str) -> None:
        self.env = {"WAREHOUSE_HOST": host}
        self.mounts = {host: Mount(Path(host), shared=True)}
        self._host = host

    def empty(self) -> None:
        """Drop what was built."""
        connection = psycopg2.connect(host=self._host, user="postgres", dbname="warehouse")
        with contextlib.closing(connection), connection, connection.cursor() as cursor:
            for schema in ("shop", "snapshots"):
                cursor.execute(f"drop schema if exists {schema} cascade")


class DuckDb:
    """A file of DuckDB in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.env = {"JAFFLE_SHOP_DB": str(directory / "shop.duckdb")}
        self.mounts = {str(directory): Mount(directory, shared=True)}
        self._directory = directory

    def empty(self) -> None:
        """Drop what was built."""
        for file in self._directory.iterdir():
            file.unlink()


@contextlib.contextmanager
def in_postgres(shop: Path) -> Iterator[Warehouse]:
    """Start a Postgres, and have a copy of the example project build there."""
    (shop / "profiles.yml").write_text(POSTGRES_PROFILE)
    # Postgres gives a sum a scale of its own, by which the unit test of this model would fail.
    orders = shop / "models/marts/orders.sql"
    orders.write_text(
        orders.read_text().replace(
            "coalesce(paid.amount, 0)", "cast(coalesce(paid.amount, 0) as decimal(10, 2))"
        )
    )
    with local_postgres("warehouse") as host:
        yield Postgres(host)


@contextlib.contextmanager
def as_it_is(shop: Path) -> Iterator[Warehouse]:
    """Have a copy of the example project build as it says itself: in a file of DuckDB."""
    del shop
    with tempfile.TemporaryDirectory(prefix="dbt-watch-duckdb-") as directory:
        yield DuckDb(Path(directory))
