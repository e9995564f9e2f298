"""
The shop's nightly build: one pod runs the whole dbt project, and each node of it is a task.

The environment says where things are, so that the same file runs in the demo, in tests and on a cluster.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag, task

from dbt_watch import NodeResult, dbt_build, dbt_k8s_project, dbt_node

HERE = Path(__file__).parent


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "full_refresh": Param(False, type="boolean", description="Build incremental models from scratch."),
        "break_model": Param("", type="string", description="A model that is to fail, such as `orders`."),
    },
    tags=["dbt"],
)
def jaffle_shop():
    @task
    def land_orders() -> str:
        """Stands for what brings new orders to the warehouse; returns the name of the batch."""
        return "batch-1"

    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        env_vars={"JAFFLE_SHOP_DB": os.environ.get("JAFFLE_SHOP_DB", "/tmp/jaffle_shop.duckdb")},  # noqa: S108 - in the pod
    )
    def build(batch):
        @dbt_node("raw_orders")
        def enough_orders(result: NodeResult, floor: int):
            # None where the database does not say how many rows it wrote, which is not the same as none.
            if result.rows_affected is not None and result.rows_affected < floor:
                raise ValueError(f"only {result.rows_affected} orders arrived")

        enough_orders(floor=100)
        return dbt_build(
            vars={"batch": batch, "break_model": "{{ params.break_model }}"},
            full_refresh="{{ params.full_refresh }}",
        )

    @task
    def publish():
        """Stands for what needs the customers only, and so does not wait for the rest of the build."""

    project = build(land_orders())
    project["customers"] >> publish()


jaffle_shop()
