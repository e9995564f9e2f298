"""
The tables of a server, and how they are reached: SQLite in its own directory, or any database of several hosts.

`invocations.store`, `tokens` and `worker.hosts` read and write them. SQLite is for one host: its workers and its API are
processes that share the file.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

METADATA: Final = sa.MetaData()

# SQLite counts up no other type on its own.
_COUNTER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

INVOCATIONS: Final = sa.Table(
    "invocations",
    METADATA,
    sa.Column("seq", _COUNTER, primary_key=True, autoincrement=True),
    sa.Column("task_id", sa.String(250), nullable=False, unique=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("target", sa.String(64), nullable=False),
    sa.Column("sub_command", sa.String(64), nullable=False),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("log_level", sa.String(16), nullable=False),
    sa.Column("callback_url", sa.Text),
    sa.Column("principal", sa.String(250), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("exit_code", sa.Integer),
    sa.Column("exc_type", sa.String(64)),
    sa.Column("exc_message", sa.Text),
    sa.Column("abort_requested", sa.Boolean, nullable=False, default=False),
    # Who runs it, and how far that has come.
    sa.Column("owner", sa.String(250)),
    sa.Column("claims", sa.Integer, nullable=False, default=0),
    sa.Column("begun", sa.Boolean, nullable=False, default=False),
    sa.Column("pid", sa.Integer),
    sa.Column("pid_started", sa.Float),
    sa.Column("heartbeat_at", sa.Float),
    sa.Index("invocations_by_state", "state", "project", "target", "seq"),
    sqlite_autoincrement=True,  # a number is not used again, so that pages of a list go on where they were
)

# Whatever goes wrong elsewhere, no two dbts run for one project and target.
sa.Index(
    "one_dbt_for_each_target",
    INVOCATIONS.c.project,
    INVOCATIONS.c.target,
    unique=True,
    sqlite_where=INVOCATIONS.c.state == "STARTED",
    postgresql_where=INVOCATIONS.c.state == "STARTED",
)

TURNS: Final = sa.Table(
    "turns",
    METADATA,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("last_at", sa.Float, nullable=False),
)
"""When each project had its last turn."""

TOKENS: Final = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("projects", sa.Text),
    sa.Column("commands", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
)

HOSTS: Final = sa.Table(
    "worker_hosts",
    METADATA,
    sa.Column("host", sa.String(250), primary_key=True),
    sa.Column("workers", sa.Integer, nullable=False),
    sa.Column("heartbeat_at", sa.Float, nullable=False),
)

# Which of a database's locks orders those who take work, and those who make the tables.
_LOCK: Final = 7_461_024


class Database:
    """
    A connection pool; every process makes its own.

    :param url: of SQLAlchemy
    :param pooled: whether connections are kept open between transactions
    """

    def __init__(self, url: str, *, pooled: bool = True) -> None:
        parsed = sa.make_url(url)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        options: dict[str, Any] = (
            {"pool_size": 10, "max_overflow": 40} if pooled else {"poolclass": sa.NullPool}
        )
        if self._is_sqlite:
            options["connect_args"] = {"timeout": 30, "check_same_thread": False}
        else:
            options["pool_pre_ping"] = True
        self._engine = sa.create_engine(parsed, **options)
        self._writing = self._engine.execution_options(writes=True)
        if self._is_sqlite:
            event.listen(self._engine, "connect", _set_up_sqlite)
            event.listen(self._engine, "begin", _begin_in_sqlite)

    def make_tables(self) -> None:
        """Make the tables that are not there."""
        with self.writing() as connection:
            self.lock(connection)
            METADATA.create_all(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes; with SQLite it waits for all others that do."""
        with self._writing.begin() as connection:
            yield connection

    def lock(self, connection: sa.Connection) -> None:
        """Wait until no other transaction holds this lock, and hold it until the end of this one."""
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # Transactions are begun by `_begin_in_sqlite`, and not by the driver when it sees fit.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # What was answered with 200 is on disk, also when the machine loses power.
    connection.execute("PRAGMA synchronous=FULL")


def _begin_in_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
