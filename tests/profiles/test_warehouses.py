"""What becomes of an Airflow connection in dbt's profile, warehouse by warehouse."""

import base64
import json

import pytest
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
from dbt_watch.exceptions import ArgumentError
from dbt_watch.profiles.warehouses import WAREHOUSES

SECRET = "s3cret-word"


def output(found, kind, **arguments):
    return DbtProfile("warehouse", type=kind, **arguments).output(found)


def refusal(found, kind, **arguments):
    with pytest.raises(ArgumentError) as raised:
        output(found, kind, **arguments)
    text = str(raised.value)
    assert SECRET not in text
    return text


def changed(found, **fields):
    """Return a connection with other fields, those of the extra among them."""
    extra = {**found.extra_dejson, **fields.pop("extra", {})}
    values = {
        "host": found.host,
        "login": found.login,
        "password": found.password,
        "schema": found.schema,
        **fields,
    }
    return connection(found.conn_type, {name: value for name, value in extra.items() if value is not None}, **values)  # fmt: skip


def test_postgres():
    assert output(POSTGRES, "postgres", schema="marts", threads=8) == {
        "type": "postgres",
        "host": "db.example",
        "port": 6432,
        "user": "dbt",
        "password": SECRET,
        "dbname": "shop",
        "schema": "marts",
        "sslmode": "require",
        "threads": 8,
    }


def test_redshift_by_password():
    assert output(REDSHIFT, "redshift", schema="marts") == {
        "type": "redshift",
        "host": "shop.abc.eu-west-1.redshift.amazonaws.com",
        "port": 5439,
        "dbname": "shop",
        "schema": "marts",
        "region": "eu-west-1",
        "connect_timeout": 30,
        "user": "dbt",
        "password": SECRET,
    }


def test_redshift_by_the_identity_of_the_pod():
    found = output(changed(REDSHIFT, password=None, extra={"iam": True}), "redshift", schema="marts")
    assert "password" not in found
    assert (found["method"], found["user"], found["cluster_id"]) == ("iam", "dbt", "shop")
    without_user = output(
        changed(REDSHIFT, password=None, login=None, extra={"iam": "true", "is_serverless": True}),
        "redshift",
        schema="marts",
    )
    assert without_user["method"] == "iam_role"
    assert without_user["is_serverless"] is True
    assert not {"user", "cluster_id"} & without_user.keys()


def test_snowflake_by_password():
    assert output(SNOWFLAKE, "snowflake") == {
        "type": "snowflake",
        "account": "ab12345.eu-west-1",
        "role": "dbt",
        "warehouse": "wh",
        "database": "shop",
        "schema": "marts",
        "user": "dbt",
        "password": SECRET,
    }


def test_the_schema_of_the_author_comes_before_that_of_the_connection():
    assert output(SNOWFLAKE, "snowflake", schema="dev")["schema"] == "dev"


@pytest.mark.parametrize(
    "content", [PEM, PEM.replace("\n", "\\n"), base64.b64encode(PEM.encode()).decode()], ids=["PEM", "one line", "base64"]
)  # fmt: skip
def test_snowflake_by_key_pair(content):
    found = output(changed(SNOWFLAKE, extra={"private_key_content": content}), "snowflake")
    assert found["private_key"] == PEM
    assert found["private_key_passphrase"] == SECRET
    assert "password" not in found


def test_a_key_that_is_no_pem_reaches_dbt_as_der_in_base64():
    der = base64.b64encode(b"0\x82\x04\xa4").decode()
    assert output(changed(SNOWFLAKE, extra={"private_key_content": der}), "snowflake")["private_key"] == der


def test_snowflake_by_a_key_file_of_the_worker(tmp_path):
    path = tmp_path / "key.p8"
    path.write_text(PEM)
    found = output(changed(SNOWFLAKE, password=None, extra={"private_key_file": str(path)}), "snowflake")
    assert found["private_key"] == PEM
    assert "private_key_passphrase" not in found


def test_snowflake_by_oauth():
    extra = {"authenticator": "oauth", "refresh_token": "r3fresh-token"}
    found = output(changed(SNOWFLAKE, login="client", extra=extra), "snowflake")
    signs_in = {
        "authenticator": "oauth",
        "token": "r3fresh-token",
        "oauth_client_id": "client",
        "oauth_client_secret": SECRET,
    }
    assert signs_in.items() <= found.items()
    assert not {"user", "password"} & found.keys()


def test_snowflake_with_names_of_extras_as_they_were():
    old = {f"extra__snowflake__{name}": value for name, value in SNOWFLAKE_EXTRA.items()}
    found = connection("snowflake", old, login="dbt", password=SECRET, schema="marts")
    assert output(found, "snowflake") == output(SNOWFLAKE, "snowflake")


def test_bigquery_by_a_key():
    assert output(BIGQUERY, "bigquery", schema="marts") == {
        "type": "bigquery",
        "method": "service-account-json",
        "project": "shop",
        "dataset": "marts",
        "keyfile_json": KEY_FILE,
        "location": "EU",
    }


def test_bigquery_by_a_key_file_of_the_worker_and_by_a_key_that_is_no_text(tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(KEY_FILE))
    by_file = connection("gcpbigquery", {"key_path": str(path)})
    by_dict = connection("google-cloud-platform", {"keyfile_dict": KEY_FILE})
    for found in (by_file, by_dict):
        made = output(found, "bigquery", schema="marts")
        assert made["keyfile_json"] == KEY_FILE
        assert made["project"] == "shop-of-the-key"


def test_bigquery_by_the_identity_of_the_pod():
    extra = {
        "extra__google_cloud_platform__project": "shop",
        "impersonation_chain": "dbt@shop.iam",
        "scope": "a, b",
    }
    assert output(connection("google_cloud_platform", extra), "bigquery", schema="marts") == {
        "type": "bigquery",
        "method": "oauth",
        "project": "shop",
        "dataset": "marts",
        "impersonate_service_account": "dbt@shop.iam",
        "scopes": ["a", "b"],
    }


@pytest.mark.parametrize(
    "fields", [{}, {"login": "token"}, {"password": None, "extra": {"token": "dapi-0123456789"}}]
)
def test_databricks_by_token(fields):
    assert output(changed(DATABRICKS, **fields), "databricks") == {
        "type": "databricks",
        "host": "dbc-1.cloud.databricks.com",
        "http_path": "/sql/1.0/warehouses/ab12",
        "schema": "marts",
        "catalog": "shop",
        "token": "dapi-0123456789",
    }


def test_databricks_by_a_service_principal():
    found = changed(DATABRICKS, login="client", password=SECRET, extra={"service_principal_oauth": True})
    signs_in = {"auth_type": "oauth", "client_id": "client", "client_secret": SECRET}
    made = output(found, "databricks")
    assert signs_in.items() <= made.items()
    assert "token" not in made
    azure = output(changed(found, extra={"azure_tenant_id": "t"}), "databricks")
    assert {
        "auth_type": "oauth",
        "azure_client_id": "client",
        "azure_client_secret": SECRET,
    }.items() <= azure.items()


def test_duckdb_and_motherduck():
    assert output(connection("duckdb", host="/data/shop.duckdb"), "duckdb") == {
        "type": "duckdb",
        "path": "/data/shop.duckdb",
    }
    assert output(connection("duckdb", schema="shop", password=SECRET), "duckdb", schema="marts") == {
        "type": "duckdb",
        "path": "md:shop",
        "schema": "marts",
        "settings": {"motherduck_token": SECRET},
    }


def test_fields_of_the_author_win_and_need_not_be_in_the_connection():
    found = connection(
        "databricks", host="dbc-1.cloud.databricks.com", password="dapi-0123456789", schema="marts"
    )
    profile = DbtProfile("warehouse", type="databricks", extra={"http_path": "/sql/x", "schemas": 1})
    file = profile.file(found)
    (made,) = json.loads(file.text)["dbt_watch"]["outputs"].values()
    assert made["http_path"] == "/sql/x"


WITHOUT = {
    "postgres": (POSTGRES, {"host": "host", "login": "login", "password": "password", "schema": "schema"}),
    "redshift": (REDSHIFT, {"host": "host", "login": "login", "password": "password", "schema": "schema"}),
    "snowflake": (SNOWFLAKE, {"login": "login", "password": "password", "schema": "schema"}),
    "databricks": (DATABRICKS, {"host": "host", "password": "password", "schema": "schema"}),
}


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind, (_, fields) in WITHOUT.items() for field in fields]
)
def test_a_field_that_is_missing_is_named_with_the_connection(kind, field):
    found, _ = WITHOUT[kind]
    schema = {} if WAREHOUSES[kind].has_schema else {"schema": "marts"}
    text = refusal(changed(found, **{field: None}), kind, **schema)
    assert text.startswith(f"connection warehouse: {field}=None: expected the ") or "a token" in text


@pytest.mark.parametrize(
    ("kind", "found", "name"),
    [
        ("snowflake", SNOWFLAKE, "account"),
        ("snowflake", SNOWFLAKE, "database"),
        ("databricks", DATABRICKS, "http_path"),
    ],
)
def test_an_extra_that_is_missing_is_named(kind, found, name):
    text = refusal(changed(found, extra={name: None}), kind)
    assert text.startswith(f"connection warehouse: {name}=None: expected the ")
    assert f"DbtProfile(..., extra={{{name!r}: ...}})" in text


def test_the_path_of_duckdb_is_missing():
    assert "host=None: expected the path of the database" in refusal(connection("duckdb"), "duckdb")


@pytest.mark.parametrize(
    ("kind", "found", "name"),
    [
        ("postgres", changed(POSTGRES, extra={"iam": True}), "iam"),
        ("snowflake", changed(SNOWFLAKE, extra={"authenticator": "externalbrowser"}), "authenticator"),
        ("snowflake", changed(SNOWFLAKE, extra={"private_key_content": f"{SECRET}!"}), "private_key_content"),
        ("snowflake", changed(SNOWFLAKE, extra={"private_key_content": PEM, "private_key_file": "/k"}), "private_key_content"),
        ("snowflake", changed(SNOWFLAKE, extra={"authenticator": "oauth", "azure_conn_id": "a"}), "azure_conn_id"),
        ("bigquery", changed(BIGQUERY, extra={"key_secret_name": "k", "keyfile_dict": None}), "key_secret_name"),
        ("bigquery", changed(BIGQUERY, extra={"keyfile_dict": SECRET}), "keyfile_dict"),
        ("bigquery", changed(BIGQUERY, extra={"keyfile_dict": {"type": "authorized_user"}}), "keyfile_dict"),
        ("bigquery", changed(BIGQUERY, extra={"impersonation_chain": ["a", "b"]}), "impersonation_chain"),
        ("databricks", changed(DATABRICKS, login="u", extra={"use_azure_managed_identity": True}), "use_azure_managed_identity"),
    ],
)  # fmt: skip
def test_what_dbt_cannot_use_is_refused_without_its_value(kind, found, name):
    schema = {} if WAREHOUSES[kind].has_schema else {"schema": "marts"}
    text = refusal(found, kind, **schema)
    assert text.startswith(f"connection warehouse: {name}")
    assert "=...: expected " in text


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 70_000], ids=["none", "no text", "too long"])
def test_a_key_file_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "key.p8"
    if content is not None:
        path.write_bytes(content)
    text = refusal(changed(SNOWFLAKE, extra={"private_key_file": str(path)}), "snowflake")
    assert str(path) in text
    assert "a text file that this worker can read" in text


@pytest.mark.parametrize("kind", WAREHOUSES)
def test_a_connection_to_something_else_is_refused_and_a_generic_one_is_not(kind):
    text = refusal(connection("mysql", host="h"), kind, schema="marts")
    assert text.startswith("connection warehouse: conn_type='mysql': expected ")
    generic = changed(POSTGRES)
    generic.conn_type = "generic"
    assert output(generic, "postgres", schema="marts")["host"] == "db.example"
