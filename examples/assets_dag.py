"""
Assets: a DAG that is scheduled by what another DAG's dbt has really built.

`assets` builds the shop and tells Airflow of three of its nodes; `assets_report` runs as soon as the customers were built.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag, task

from dbt_watch import dbt_asset, dbt_build, dbt_k8s_project

MANIFEST = os.environ.get(
    "JAFFLE_SHOP_MANIFEST", str(Path(__file__).parent / "jaffle_shop/target/manifest.json")
)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "break_model": Param("", type="string", description="A model that is to fail, such as `customers`.")
    },
    tags=["dbt"],
)
def assets():
    @dbt_k8s_project(
        manifest=MANIFEST,
        assets="selected:customers orders raw_orders",
        assets_namespace="file:///tmp/jaffle_shop.duckdb",
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
    )
    def build():
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    build()


CUSTOMERS = dbt_asset(MANIFEST, "customers")


@dag(
    schedule=[CUSTOMERS],
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
)
def assets_report():
    @task
    def notice(triggering_asset_events=None):
        """Tell of the builds that this run is about."""
        return [event.extra for event in triggering_asset_events[CUSTOMERS]]

    notice()


assets()
assets_report()
