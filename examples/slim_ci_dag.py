"""
Build what has changed since the last good run, and nothing else.

`nightly` builds what has changed since it went well the last time. `pull_request` builds what has changed since the last good
night; whatever it does not build it reads where the night has built it (`defer`).
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag

from dbt_watch import dbt_build, dbt_k8s_project

HERE = Path(__file__).parent
LAKE = os.environ.get("JAFFLE_SHOP_LAKE", "s3://lake/dbt")
PROJECT = {
    "manifest": os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
    "image": os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
    "project_dir": "/usr/app/jaffle_shop",
    "namespace": os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
    "select": "+stg_orders",
}
ARGUMENTS = {
    "start_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "catchup": False,
    "tags": ["dbt"],
}


@dag(schedule=None, **ARGUMENTS)
def nightly():
    @dbt_k8s_project(
        **PROJECT,
        artifacts=LAKE + "/{dag_id}/{run_id}/{attempt}",
        state="last_success",
    )
    def build():
        return dbt_build(select="state:modified+")

    build()


@dag(schedule=None, **ARGUMENTS)
def pull_request():
    @dbt_k8s_project(
        **PROJECT,
        state=LAKE + "/nightly/last_success/build",
    )
    def build():
        return dbt_build(select="state:modified+", defer=True)

    build()


nightly()
pull_request()
