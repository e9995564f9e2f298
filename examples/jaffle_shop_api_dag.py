"""
The shop's nightly build by a server: the same tasks as in jaffle_shop_dag.py, and no pod. A dbt API server runs dbt.

Airflow's connection `dbt_api` says where the server is and how to sign in; docs/api.md shows one.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag, task

from dbt_watch import NodeResult, dbt_api_project, dbt_build, dbt_node

HERE = Path(__file__).parent


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "break_model": Param("", type="string", description="A model that is to fail, such as `orders`.")
    },
    tags=["dbt"],
)
def jaffle_shop_api():
    @task
    def land_orders() -> str:
        """Stands for what brings new orders to the warehouse; returns the name of the batch."""
        return "batch-1"

    @dbt_api_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        conn_id="dbt_api",
        project_dir="jaffle_shop",  # the server's name of it
        retries=int(os.environ.get("JAFFLE_SHOP_RETRIES", "2")),
        retry_delay=5,  # seconds; the next attempt builds what is not done yet
    )
    def build(batch):
        @dbt_node("raw_orders")
        def enough_orders(result: NodeResult, floor: int):
            # None where the database does not say how many rows it wrote, which is not the same as none.
            if result.rows_affected is not None and result.rows_affected < floor:
                raise ValueError(f"only {result.rows_affected} orders arrived")

        enough_orders(floor=100)
        return dbt_build(vars={"batch": batch, "break_model": "{{ params.break_model }}"})

    @task
    def publish():
        """Stands for what needs the customers only, and so does not wait for the rest of the build."""

    project = build(land_orders())
    project["customers"] >> publish()


jaffle_shop_api()
