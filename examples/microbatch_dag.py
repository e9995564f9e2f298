"""
A microbatch model: each run builds the day before its date, and a backfill builds the days of the past.

    airflow backfill create --dag-id microbatch --from-date 2026-01-02 --to-date 2026-01-31 --max-active-runs 1
"""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.sdk import dag

from dbt_watch import dbt_build, dbt_k8s_project

HERE = Path(__file__).parent


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 2, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,  # duckdb has one writer at a time
    tags=["dbt"],
)
def microbatch():
    @dbt_k8s_project(
        manifest=os.environ.get("METERED_SHOP_MANIFEST", str(HERE / "metered_shop/target/manifest.json")),
        image=os.environ.get("METERED_SHOP_IMAGE", "metered-shop:latest"),
        project_dir="/usr/app/metered_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        env_vars={"METERED_SHOP_DB": os.environ.get("METERED_SHOP_DB", "/warehouse/metered_shop.duckdb")},
    )
    def build():
        return dbt_build(event_time=timedelta(days=1))

    build()


microbatch()
