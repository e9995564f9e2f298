"""
A project over several pods: each mart has a pod of its own, with more memory; all else is built by as few pods as that takes.

`break_model` names a model that is to fail, `break_once` one that fails in its first attempt.
"""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.sdk import Param, dag

from dbt_watch import PodSettings, dbt_build, dbt_k8s_project

HERE = Path(__file__).parent


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"break_model": Param("", type="string"), "break_once": Param("", type="string")},
    tags=["dbt"],
)
def isolated():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        env_vars={"BREAK_MODEL": "{{ params.break_once if ti.try_number == 1 else '' }}"},
        retries=1,
        retry_delay=timedelta(seconds=1),
        isolate={
            "tag:nightly": PodSettings(container_resources={"requests": {"memory": "256Mi"}}),
            "customers": PodSettings(labels={"holds": "personal-data"}),
        },
    )
    def build():
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    build()


isolated()
