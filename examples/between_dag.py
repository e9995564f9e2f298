"""
Python between two models: a function runs when the staged orders are there, and what it returns goes into the orders.

`break_model` names a model that is to fail, `break_once` one that fails in its first attempt.
"""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.sdk import Param, dag, task

from dbt_watch import dbt_build, dbt_k8s_project, dbt_node

HERE = Path(__file__).parent


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"break_model": Param("", type="string"), "break_once": Param("", type="string")},
    tags=["dbt"],
)
def between():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        env_vars={"BREAK_MODEL": "{{ params.break_once if ti.try_number == 1 else '' }}"},
        retries=1,
        retry_delay=timedelta(seconds=1),
    )
    def build():
        @dbt_node("orders", before=True)
        def name_batch(prefix: str) -> str:
            """Stands for what trains a model, or asks a service, with what is built so far."""
            return f"{prefix}-7"

        batch = name_batch(prefix="scored")
        return dbt_build(vars={"batch": batch, "break_model": "{{ params.break_model }}"})

    @task
    def approve():
        """Stands for a check by another system, without which the customers are not built."""

    project = build()
    project["orders"] >> approve() >> project["customers"]


between()
