"""Airflow connections as the tests write them: what of a connection is read, and nothing else."""

import json
from dataclasses import dataclass


@dataclass
class Connection:
    """Stands for Airflow's, of which the same fields are read."""

    conn_type: str
    conn_id: str = "warehouse"
    host: str | None = None
    login: str | None = None
    password: str | None = None
    schema: str | None = None
    port: int | None = None
    extra: str = ""

    @property
    def extra_dejson(self):
        return json.loads(self.extra) if self.extra else {}


def connection(conn_type, extra=None, **fields):
    return Connection(conn_type, extra=json.dumps(extra) if extra else "", **fields)


PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nq83vEjRWeJCrze8SNFZ4kA==\n-----END PRIVATE KEY-----\n"
KEY_FILE = {
    "type": "service_account",
    "project_id": "shop-of-the-key",
    "private_key_id": "0a1b2c",
    "private_key": PEM,
    "client_email": "dbt@shop.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}

POSTGRES = connection(
    "postgres", host="db.example", port=6432, login="dbt", password="s3cret-word", schema="shop", extra={"sslmode": "require"}
)  # fmt: skip
REDSHIFT = connection(
    "redshift", host="shop.abc.eu-west-1.redshift.amazonaws.com", login="dbt", password="s3cret-word", schema="shop",
    extra={"region": "eu-west-1", "timeout": 30},
)  # fmt: skip
SNOWFLAKE_EXTRA = {
    "account": "ab12345",
    "region": "eu-west-1",
    "warehouse": "wh",
    "database": "shop",
    "role": "dbt",
}
SNOWFLAKE = connection("snowflake", SNOWFLAKE_EXTRA, login="dbt", password="s3cret-word", schema="marts")
BIGQUERY = connection(
    "google_cloud_platform", {"project": "shop", "keyfile_dict": json.dumps(KEY_FILE), "location": "EU"}
)
DATABRICKS_EXTRA = {"http_path": "/sql/1.0/warehouses/ab12", "catalog": "shop"}
DATABRICKS = connection(
    "databricks", DATABRICKS_EXTRA, host="https://dbc-1.cloud.databricks.com/", password="dapi-0123456789", schema="marts"
)  # fmt: skip
