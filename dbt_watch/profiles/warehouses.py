"""
How the connections of Airflow's providers become outputs of dbt's profiles.yml, warehouse by warehouse.

What a connection calls its fields is what the hook of its provider reads: `PostgresHook`, `RedshiftSQLHook`, `SnowflakeHook`,
`GoogleBaseHook` and `BigQueryHook`, `DatabricksSqlHook`, and the `DuckDBHook` of airflow-provider-duckdb. What dbt calls them are the
credentials classes of its adapters. docs/profiles.md has the same as tables.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from dbt_watch.profiles.connection_fields import ConnectionFields, present

Output = dict[str, Any]


def postgres(fields: ConnectionFields) -> Output:
    """Return the output for Postgres."""
    if fields.is_on("iam"):
        raise fields.wrong("iam", "a password: dbt's postgres adapter does not support IAM")
    return present(
        host=fields.need("host", fields.host, "host", "the address of the server"),
        port=fields.port or 5432,
        user=fields.need("user", fields.login, "login", "the user"),
        password=fields.need("password", fields.password, "password", "the password"),
        dbname=fields.need("dbname", fields.connection_schema, "schema", "the name of the database"),
        schema=fields.need_schema(),
        **fields.all_of_extra(
            {
                "sslmode": "sslmode",
                "sslcert": "sslcert",
                "sslkey": "sslkey",
                "sslrootcert": "sslrootcert",
                "keepalives_idle": "keepalives_idle",
                "connect_timeout": "connect_timeout",
                "application_name": "application_name",
            }
        ),
    )


def redshift(fields: ConnectionFields) -> Output:
    """Return the output for Redshift, by password or by the identity that the pod has in AWS."""
    host = fields.need("host", fields.host, "host", "the address of the cluster")
    output = present(
        host=host,
        port=fields.port or 5439,
        dbname=fields.need("dbname", fields.connection_schema, "schema", "the name of the database"),
        schema=fields.need_schema(),
        **fields.all_of_extra(
            {
                "sslmode": "sslmode",
                "timeout": "connect_timeout",
                "region": "region",
                "is_serverless": "is_serverless",
            }
        ),
    )
    if not fields.is_on("iam"):
        user = fields.need("user", fields.login, "login", "the user")
        password = fields.need("password", fields.password, "password", "the password, or an extra `iam`")
        return {**output, **present(user=user, password=password)}
    cluster = None
    if not fields.is_on("is_serverless"):
        cluster = fields.of_extra("cluster_identifier") or (host or "").split(".", 1)[0] or None
    by_role = fields.login is None and fields.of_extra("db_user") is None
    return {
        **output,
        **present(
            method="iam_role" if by_role else "iam",
            user=None if by_role else fields.of_extra("db_user") or fields.login,
            cluster_id=cluster,
        ),
        **fields.all_of_extra(
            {
                "profile": "iam_profile",
                "db_groups": "db_groups",
                "auto_create": "autocreate",
                "access_key_id": "access_key_id",
                "secret_access_key": "secret_access_key",
            }
        ),
    }


def snowflake(fields: ConnectionFields) -> Output:
    """Return the output for Snowflake, by password, key pair or OAuth."""
    account, region = fields.of_extra("account"), fields.of_extra("region")
    if account is not None and region is not None and "." not in account:
        account = f"{account}.{region}"
    session = fields.of_extra("session_parameters")
    output = present(
        account=fields.need("account", account, "account", "the account, in the extra"),
        role=fields.of_extra("role"),
        warehouse=fields.of_extra("warehouse"),
        database=fields.need(
            "database", fields.of_extra("database"), "database", "the database, in the extra"
        ),
        schema=fields.need_schema(fields.connection_schema),
        insecure_mode=fields.is_on("insecure_mode") or None,
        query_tag=session.get("QUERY_TAG") if isinstance(session, Mapping) else None,
        **fields.all_of_extra(
            {
                "host": "host",
                "port": "port",
                "proxy_host": "proxy_host",
                "proxy_port": "proxy_port",
                "client_session_keep_alive": "client_session_keep_alive",
            }
        ),
    )
    return {**output, **_snowflake_login(fields)}


def _snowflake_login(fields: ConnectionFields) -> Output:
    authenticator, refresh = fields.of_extra("authenticator"), fields.of_extra("refresh_token")
    if refresh is not None or authenticator == "oauth":
        return _snowflake_oauth(fields, refresh)
    if authenticator == "externalbrowser":
        raise fields.wrong("authenticator", "another authenticator: there is no browser in a pod")
    user = fields.need("user", fields.login, "login", "the user")
    key = _snowflake_key(fields)
    if key is not None:
        return present(user=user, private_key=key, private_key_passphrase=fields.password)
    what = "the password, or a private_key_content in the extra"
    return present(
        user=user,
        password=fields.need("password", fields.password, "password", what),
        authenticator=None if authenticator == "snowflake" else authenticator,
    )


def _snowflake_oauth(fields: ConnectionFields, refresh: str | None) -> Output:
    """Return the part of an output that signs in by OAuth: dbt takes a token, or a refresh token and its client."""
    for name in ("azure_conn_id", "token_endpoint"):
        if fields.of_extra(name) is not None:
            raise fields.wrong(name, "to be left out: dbt gets its tokens from Snowflake itself")
    if refresh is None:
        what = "a refresh_token in the extra, with which dbt gets its tokens"
        token = fields.need("token", fields.of_extra("token"), "refresh_token", what)
        return present(authenticator="oauth", token=token, user=fields.login)
    client = fields.need("oauth_client_id", fields.login, "login", "the id of the OAuth client")
    secret = fields.need("oauth_client_secret", fields.password, "password", "the secret of the OAuth client")
    return present(authenticator="oauth", token=refresh, oauth_client_id=client, oauth_client_secret=secret)


def _snowflake_key(fields: ConnectionFields) -> str | None:
    """Return the private key as PEM, or as DER in base64, as dbt takes it."""
    content, path = fields.of_extra("private_key_content"), fields.of_extra("private_key_file")
    if content is not None and path is not None:
        raise fields.wrong("private_key_content, private_key_file", "one of the two")
    if path is not None:
        return fields.file("private_key_file", path)
    if content is None or content.lstrip().startswith(_PEM):
        return None if content is None else _with_lines(content.lstrip())
    # As in the provider, it may be PEM in base64 once more.
    try:
        decoded = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise fields.wrong("private_key_content", "a private key in PEM or base64") from None
    return decoded.decode() if decoded.startswith(_PEM.encode()) else content


def bigquery(fields: ConnectionFields) -> Output:
    """Return the output for BigQuery, by a key of a service account or by the identity that the pod has."""
    for name in ("key_secret_name", "credential_config_file", "idp_issuer_url", "is_anonymous"):
        if fields.of_extra(name):
            expected = "to be left out: use a keyfile_dict, a key_path, or neither for the identity of the pod's service account"
            raise fields.wrong(name, expected)
    key = _google_key(fields)
    scopes = fields.of_extra("scope")
    return present(
        method="oauth" if key is None else "service-account-json",
        project=fields.of_extra("project") or (key or {}).get("project_id"),
        dataset=fields.need_schema(),
        keyfile_json=key,
        impersonate_service_account=_only_one(fields, "impersonation_chain"),
        scopes=[scope.strip() for scope in scopes.split(",")] if isinstance(scopes, str) else scopes,
        **fields.all_of_extra(
            {"location": "location", "priority": "priority", "quota_project_id": "quota_project"}
        ),
    )


def _google_key(fields: ConnectionFields) -> dict[str, Any] | None:
    content, path = fields.of_extra("keyfile_dict"), fields.of_extra("key_path")
    name = "keyfile_dict" if content is not None else "key_path"
    if content is None and path is not None:
        content = fields.file("key_path", path)
    if content is None:
        return None
    try:
        key = json.loads(content) if isinstance(content, str) else content
    except ValueError:
        key = None
    if not isinstance(key, Mapping) or not key.get("private_key"):
        raise fields.wrong(name, "a service account key in JSON, with a private_key")
    return {**key, "private_key": str(key["private_key"]).replace("\\n", "\n")}


def _only_one(fields: ConnectionFields, name: str) -> str | None:
    """Return the one element of a list, which may be written as text."""
    value = fields.of_extra(name)
    if value is None:
        return None
    chain = [item.strip() for item in (value.split(",") if isinstance(value, str) else value)]
    if len(chain) != 1:
        raise fields.wrong(name, "a single service account: dbt does not support a chain")
    return chain[0]


def databricks(fields: ConnectionFields) -> Output:
    """Return the output for Databricks, by token or by a service principal."""
    host = fields.of_extra("host") or fields.host
    what = "the http_path of a SQL warehouse or a cluster, in the extra"
    output = present(
        host=None if host is None else _host_of(host),
        http_path=fields.need("http_path", fields.of_extra("http_path"), "http_path", what),
        schema=fields.need_schema(fields.connection_schema),
        catalog=fields.of_extra("catalog"),
        session_properties=fields.of_extra("session_configuration"),
    )
    fields.need("host", host, "host", "the address of the workspace")
    return {**output, **_databricks_login(fields)}


def _databricks_login(fields: ConnectionFields) -> Output:
    token = fields.of_extra("token")
    if token is None and fields.login in {None, "token"}:
        token = fields.password
    if token is not None:
        return {"token": token}
    for name in ("use_azure_managed_identity", "use_default_azure_credential", "federated_k8s"):
        if fields.is_on(name):
            raise fields.wrong(
                name, "a token or a service principal: dbt-databricks supports no other authentication"
            )
    is_azure = fields.of_extra("azure_tenant_id") is not None
    if not (is_azure or fields.is_on("service_principal_oauth")):
        what = "a token and no login, or a service principal and an extra `service_principal_oauth`"
        fields.need("token", None, "password", what)
        return {}
    prefix = "azure_" if is_azure else ""
    names = (f"{prefix}client_id", f"{prefix}client_secret")
    client = fields.need(names[0], fields.login, "login", "the id of the service principal")
    secret = fields.need(names[1], fields.password, "password", "the secret of the service principal")
    return {"auth_type": "oauth", **present(**dict(zip(names, (client, secret), strict=True)))}


def duckdb(fields: ConnectionFields) -> Output:
    """Return the output for duckdb, or for MotherDuck where there is a token or the name of a database there."""
    path, token = fields.host, fields.password
    if path is None and (token or fields.connection_schema):
        path = f"md:{fields.connection_schema or ''}"
    what = "the path of the database in the pod, or nothing if the password is a MotherDuck token"
    return present(
        path=fields.need("path", path, "host", what),
        schema=fields.schema,
        settings=None if token is None else {"motherduck_token": token},
    )


@dataclass(frozen=True, slots=True)
class Warehouse:
    """
    What is known of a kind of warehouse.

    :param output: makes an output of a connection
    :param conn_types: the types that its connections have in Airflow
    :param has_schema: whether a connection may say the schema that dbt builds in, or dbt has a default
    :param prefix: see `ConnectionFields`
    """

    output: Callable[[ConnectionFields], Output]
    conn_types: tuple[str, ...]
    has_schema: bool = False
    prefix: str = ""


WAREHOUSES: Final[Mapping[str, Warehouse]] = {
    "postgres": Warehouse(postgres, ("postgres", "postgresql")),
    "redshift": Warehouse(redshift, ("redshift", "postgres")),
    "snowflake": Warehouse(snowflake, ("snowflake",), has_schema=True, prefix="snowflake"),
    "bigquery": Warehouse(bigquery, ("google_cloud_platform", "gcpbigquery"), prefix="google_cloud_platform"),
    "databricks": Warehouse(databricks, ("databricks",), has_schema=True),
    "duckdb": Warehouse(duckdb, ("duckdb", "motherduck"), has_schema=True),
}

GENERIC: Final = "generic"
"""Airflow's type of a connection to anything."""

_PEM: Final = "-----BEGIN"


def _with_lines(key: str) -> str:
    """Return a key in PEM whose ends of lines may have been written as a backslash and an n."""
    return key if "\n" in key else key.replace("\\n", "\n")


def _host_of(address: str) -> str:
    """Return the host of an address that may be a URL."""
    return urlsplit(address).hostname or address.rstrip("/")
