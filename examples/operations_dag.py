"""
Other commands of dbt beside a build, each in a pod as the project's: a macro before it, and the docs after.

What the last command has said is an argument of another task.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag, task

from dbt_watch import dbt_k8s_project

HERE = Path(__file__).parent


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["dbt"])
def operations():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        select="raw_orders",
        tests="none",
    )
    def build(): ...

    @task
    def announce(result: dict):
        return f"{result['command']}: {result['message']}"

    project = build()
    cleared = project.run_operation(
        "drop_schema_named", args={"schema_name": "scratch_{{ dag_run.run_after | ds_nodash }}"}
    )
    docs = project.command(["docs", "generate", "--select", "raw_orders"], deferrable=True)
    cleared >> project >> docs
    announce(docs)


operations()
