"""A DAG of the end-to-end tests whose project has sources."""

import os
from datetime import datetime, timedelta

from airflow.sdk import dag

from dbt_watch import dbt_k8s_project


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def landed_late():
    """A source that is stale at first, and fresh when the next attempt asks."""

    @dbt_k8s_project(
        manifest=os.environ["LANDED_SHOP_MANIFEST"],
        image=os.environ["LANDED_SHOP_IMAGE"],
        namespace=os.environ["JAFFLE_SHOP_NAMESPACE"],
        project_dir="/usr/app/landed_shop",
        env_vars={
            "LANDED_SHOP_DB": "/warehouse/landed_shop.duckdb",  # what one attempt builds, the next one reads
            "PAYMENTS_AGE": "{{ 30 if ti.try_number == 1 else 0 }}",
        },
        freshness="before",
        deferrable=True,
        retries=1,
        retry_delay=timedelta(seconds=1),
        on_finish_action="keep_pod",
        assets="each",
    )
    def shop():
        pass

    shop()


landed_late()
