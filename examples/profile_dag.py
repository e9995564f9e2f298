"""
A project that signs in as an Airflow connection says: each pod gets a profiles.yml of its own, as a Secret that goes with it.

Nothing of it is in the image, in the pod's spec or in Airflow's logs.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag

from dbt_watch import DbtProfile, dbt_k8s_project

HERE = Path(__file__).parent


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["dbt"])
def profile():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        profile=DbtProfile(
            "warehouse",  # the id of a connection to Postgres, read when the task runs
            type="postgres",  # by default the adapter that wrote the manifest
            schema="shop",  # where dbt builds; a connection to Postgres does not say it
            threads=2,
        ),
        select="+customers",
        tests="none",
    )
    def build(): ...

    project = build()
    project >> project.command(
        ["show", "--select", "customers", "--limit", "3"]
    )  # signs in as the build does


profile()
