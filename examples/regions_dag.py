"""
One run of the project for each region: a pod and its sensors per element of a list that another task gives.

The task of a node waits for the pod of its own region, and fails with it alone.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag, task

from dbt_watch import NodeResult, dbt_build, dbt_k8s_project, dbt_node

HERE = Path(__file__).parent


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["dbt"])
def regions():
    @task
    def open_regions() -> list[str]:
        return ["north", "south"]

    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        select="+stg_orders",
    )
    def build(region: str, day: str):
        @dbt_node("raw_orders", after="node")
        def count(result: NodeResult, of: str):
            return {"region": of, "rows": result.rows_affected}

        count(of=region)
        return dbt_build(vars={"batch": region, "day": day})

    @task
    def report(results: list[dict]):
        return sorted(result["name"] for result in results if result["resource_type"] == "model")

    project = build.partial(day="{{ dag_run.run_after | ds }}").expand(region=open_regions())
    report(project.results)


regions()
