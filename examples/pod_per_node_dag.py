"""
A pod for each node: slower than one for all, and each with its own resources, its own retries and its own place in a cluster.

`break_model` names a model that is to fail, `break_once` one that fails in its first attempt.
"""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.sdk import Param, dag

from dbt_watch import dbt_build, dbt_k8s_project

HERE = Path(__file__).parent


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"break_model": Param("", type="string"), "break_once": Param("", type="string")},
    tags=["dbt"],
)
def pod_per_node():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        env_vars={"BREAK_MODEL": "{{ params.break_once if ti.try_number == 1 else '' }}"},
        retries=1,
        retry_delay=timedelta(seconds=1),
        select="+orders",
        isolate="*",
    )
    def build():
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    build()


pod_per_node()
