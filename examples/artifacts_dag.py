"""
What dbt leaves behind, kept: its results, its manifest, the SQL that ran, and the pages of its documentation.

The files come out of the pod by its log. The pod has no volume for it and no credentials for the store.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag

from dbt_watch import Artifacts, dbt_k8s_project

HERE = Path(__file__).parent
LAKE = os.environ.get("JAFFLE_SHOP_LAKE", "s3://lake/dbt")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["dbt"],
)
def artifacts():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        select="+stg_orders",
        artifacts=Artifacts(
            LAKE + "/{dag_id}/{run_id}/{attempt}/",
            manifest=True,
            catalog=True,  # runs `dbt docs generate` after the build
            compiled=True,
        ),
    )
    def build(): ...

    build()


artifacts()
