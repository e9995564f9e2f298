"""
What dbt's own adapters make of the profiles: their credentials classes, read by dbt's own profile reader.

Postgres and duckdb are there in all tests; the others are large, and `nox -s profiles` has them.
"""

import os
from types import SimpleNamespace

import pytest
import yaml
from connections import (
    BIGQUERY,
    DATABRICKS,
    KEY_FILE,
    PEM,
    POSTGRES,
    REDSHIFT,
    SNOWFLAKE,
    SNOWFLAKE_EXTRA,
    connection,
)

from dbt_watch import DbtProfile

pytestmark = pytest.mark.newest

PASSWORD = 'p4ss "word" {{ not_a_template }} {% raw %} $HOME \\ end'


@pytest.fixture
def credentials(monkeypatch):
    """Return a function that has dbt read the profile of a connection, and gives the credentials of the adapter."""

    def read(found, kind, **arguments):
        pytest.importorskip(f"dbt.adapters.{kind}")
        from dbt.adapters.factory import load_plugin  # noqa: PLC0415 - it takes seconds
        from dbt.config import profile as dbt_profile  # noqa: PLC0415
        from dbt.config.renderer import ProfileRenderer  # noqa: PLC0415
        from dbt_common.context import set_invocation_context  # noqa: PLC0415

        file = DbtProfile("warehouse", type=kind, threads=3, **arguments).file(found, project_name="shop")
        for name, value in file.variables.items():
            monkeypatch.setenv(name, value)
        set_invocation_context(os.environ)
        monkeypatch.setattr(dbt_profile, "get_flags", lambda: SimpleNamespace(LOG_CACHE_EVENTS=False))
        load_plugin(kind)
        profile = dbt_profile.Profile.from_raw_profiles(
            yaml.safe_load(file.text), "shop", ProfileRenderer({})
        )
        assert (profile.threads, profile.target_name) == (3, "default")
        return profile.credentials

    return read


@pytest.mark.parametrize("password", [PASSWORD, "s3cret-word", "short", "{{", "12345678", "null"])
def test_postgres_gets_the_password_as_it_is(credentials, password):
    found = connection("postgres", host="h", login="{% u", password=password, schema="shop")
    made = credentials(found, "postgres", schema="marts")
    assert (made.host, made.port, made.user, made.password) == ("h", 5432, "{% u", password)
    assert (made.database, made.schema) == ("shop", "marts")


def test_postgres_with_tls_and_a_role(credentials):
    made = credentials(POSTGRES, "postgres", schema="marts", extra={"role": "{{ 'a' ~ 'b' }}"})
    assert (made.sslmode, made.role, made.port) == ("require", "ab", 6432)


def test_duckdb(credentials):
    made = credentials(connection("duckdb", host="/data/shop.duckdb"), "duckdb")
    assert (made.path, made.database, made.schema) == ("/data/shop.duckdb", "shop", "main")


def test_motherduck(credentials):
    made = credentials(connection("duckdb", schema="shop", password="t0ken-t0ken"), "duckdb")
    assert (made.path, made.settings["motherduck_token"]) == ("md:shop", "t0ken-t0ken")
    assert made.is_motherduck


def test_redshift(credentials):
    made = credentials(REDSHIFT, "redshift", schema="marts")
    assert (made.method, made.user, made.password, made.region) == (
        "database",
        "dbt",
        "s3cret-word",
        "eu-west-1",
    )
    extra = {"iam": True, "region": "eu-west-1"}
    by_identity = connection("redshift", extra, host="shop.abc", login="dbt", schema="shop")
    made = credentials(by_identity, "redshift", schema="marts")
    assert (made.method, made.user, made.cluster_id, made.password) == ("iam", "dbt", "shop", None)


def test_snowflake(credentials):
    made = credentials(SNOWFLAKE, "snowflake")
    assert (made.account, made.user, made.password) == ("ab12345.eu-west-1", "dbt", "s3cret-word")
    assert (made.database, made.schema, made.warehouse, made.role) == ("shop", "marts", "wh", "dbt")
    by_key = connection(
        "snowflake",
        {**SNOWFLAKE_EXTRA, "private_key_content": PEM},
        login="dbt",
        password="w0rd-w0rd",
        schema="marts",
    )
    made = credentials(by_key, "snowflake")
    assert (made.private_key, made.private_key_passphrase, made.password) == (PEM, "w0rd-w0rd", None)


def test_snowflake_by_oauth(credentials):
    extra = {**SNOWFLAKE_EXTRA, "refresh_token": "r3fresh-token"}
    found = connection("snowflake", extra, login="client", password="s3cret-word", schema="marts")
    made = credentials(found, "snowflake")
    assert (made.authenticator, made.token, made.oauth_client_id) == ("oauth", "r3fresh-token", "client")
    assert made.oauth_client_secret == "s3cret-word"


def test_bigquery(credentials):
    made = credentials(BIGQUERY, "bigquery", schema="marts")
    assert (made.method, made.database, made.schema, made.location) == (
        "service-account-json",
        "shop",
        "marts",
        "EU",
    )
    assert made.keyfile_json == KEY_FILE
    made = credentials(connection("google_cloud_platform", {"project": "shop"}), "bigquery", schema="marts")
    assert (made.method, made.keyfile_json) == ("oauth", None)


def test_databricks(credentials, monkeypatch):
    made = credentials(DATABRICKS, "databricks")
    assert (made.host, made.http_path) == ("dbc-1.cloud.databricks.com", "/sql/1.0/warehouses/ab12")
    assert (made.token, made.database, made.schema) == ("dapi-0123456789", "shop", "marts")
    made.validate_creds()


def test_databricks_by_a_service_principal(credentials, monkeypatch):
    pytest.importorskip("dbt.adapters.databricks")
    from dbt.adapters.databricks.credentials import DatabricksCredentialManager  # noqa: PLC0415 - it may not be there

    # It would ask the workspace for its first token.
    monkeypatch.setattr(DatabricksCredentialManager, "__post_init__", lambda self: None)
    extra = {"http_path": "/sql/x", "service_principal_oauth": True}
    found = connection(
        "databricks", extra, host="dbc-1", login="client", password="s3cret-word", schema="marts"
    )
    made = credentials(found, "databricks")
    assert (made.auth_type, made.client_id, made.client_secret) == ("oauth", "client", "s3cret-word")
    made.validate_creds()
