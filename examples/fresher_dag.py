"""
Build what reads data that has landed since the last good run, and what has changed since in the project.

`dbt source freshness` runs first, in the same pod. dbt compares what it finds with what it found before the last good run, and builds
only what reads from the sources that have newer data. How old each of them is said to be comes from the run's parameters.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag

from dbt_watch import dbt_build, dbt_k8s_project

HERE = Path(__file__).parent
LAKE = os.environ.get("JAFFLE_SHOP_LAKE", "s3://lake/dbt")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"orders_age": 1, "customers_age": 1, "payments_age": 1},  # in hours
    tags=["dbt"],
)
def fresher():
    @dbt_k8s_project(
        manifest=os.environ.get("LANDED_SHOP_MANIFEST", str(HERE / "landed_shop/target/manifest.json")),
        image=os.environ.get("LANDED_SHOP_IMAGE", "landed-shop:latest"),
        project_dir="/usr/app/landed_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        env_vars={"LANDED_SHOP_DB": "/warehouse/fresher.duckdb"},
        freshness="before",
        artifacts=LAKE + "/{dag_id}/{run_id}/{attempt}",
        state="last_success",
    )
    def build():
        return dbt_build(
            select="state:modified+ source_status:fresher+",
            vars="{{ params | tojson }}",
        )

    build()


fresher()
