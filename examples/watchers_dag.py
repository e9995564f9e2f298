"""
Functions that run when dbt is done with a node: after it or after its tests, for a success, a warning or a failure.

`break_model` names a model that is to fail, so that the functions for failures have something to do.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag, task

from dbt_watch import NodeResult, dbt_build, dbt_k8s_project, dbt_node

HERE = Path(__file__).parent


def tell_of_warning(context):
    """Stands for a message to the team; `dbt_results` is what dbt reported."""
    warned = [result.name for result in context["dbt_results"] if result.is_warning]
    print(f"warned: {', '.join(warned)}")  # noqa: T201 - into the task's log


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"break_model": Param("", type="string")},
    tags=["dbt"],
)
def watchers():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        on_warning_callback=tell_of_warning,
        select="+customers",
    )
    def build():
        @dbt_node("raw_orders", after="node")
        def count(result: NodeResult, unit: str) -> str:
            return "unknown" if result.rows_affected is None else f"{result.rows_affected} {unit}"

        @dbt_node("orders", on="failure")
        def apologise(result: NodeResult) -> str:
            return f"{result.name} is late: {result.status}"

        @dbt_node(select="tag:nightly", on="any")
        def note(result: NodeResult) -> str:
            return f"{result.name}: {result.status}"

        @dbt_node("stg_payments", on="warn")
        def look_into(result: NodeResult) -> str:
            return f"{result.name} has warnings"

        count(unit="orders")
        apologise()
        note()
        look_into()
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    @task(trigger_rule="all_done")
    def report(results: list[dict]) -> dict:
        return {result["name"]: result["status"] for result in results if result["resource_type"] == "model"}

    @task
    def publish():
        """Waits for the whole run; what is bound to failures holds nothing back."""

    project = build()
    report(project.results)
    project >> publish()


watchers()
