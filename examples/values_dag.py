"""
What a run may be told when it starts: variables, a full refresh, threads, a target, and a part of the project.

Parameters of the run and the results of other tasks reach dbt as templates and as arguments.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag, task

from dbt_watch import dbt_build, dbt_k8s_project

HERE = Path(__file__).parent


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "full_refresh": Param(False, type="boolean"),
        "target": Param("dev", type="string"),
        "only": Param("", type="string", description="Build a part of it, such as `stg_orders+`."),
    },
    tags=["dbt"],
)
def values():
    @task
    def settings() -> dict:
        """Stands for what looks into another system."""
        return {"threads": 2, "batch": "batch-9"}

    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        select=["+stg_orders", "+stg_payments"],
        group_by="folder",
        on_finish_action="keep_pod",
    )
    def build(found):
        return dbt_build(
            vars={"batch": found["batch"], "day": "{{ dag_run.run_after | ds }}"},
            full_refresh="{{ params.full_refresh }}",
            target="{{ params.target }}",
            threads=found["threads"],
            event_time_start="{{ dag_run.run_after | ds }}",
            event_time_end="{{ macros.ds_add(dag_run.run_after | ds, 1) }}",
            select="{{ params.only }}",
            fail_fast=True,
            empty=False,
            flags=["--no-partial-parse"],
        )

    build(settings())


values()
