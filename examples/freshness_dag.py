"""
Sources that are checked before anything is built from them.

`dbt build` leaves source freshness out. Here `dbt source freshness` runs first, in the same pod, and what reads from a
stale source is not built.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag

from dbt_watch import NodeResult, dbt_build, dbt_k8s_project, dbt_node

HERE = Path(__file__).parent


def tell(context):
    """Stands for a message to whoever brings the data."""
    for result in context["dbt_results"]:
        print(f"late: {result.name}, {result.message}")  # noqa: T201 - into the task's log


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "payments_age": Param(
            30, type="integer", description="How old the payments are said to be, in hours."
        )
    },
    tags=["dbt"],
)
def freshness():
    @dbt_k8s_project(
        manifest=os.environ.get("LANDED_SHOP_MANIFEST", str(HERE / "landed_shop/target/manifest.json")),
        image=os.environ.get("LANDED_SHOP_IMAGE", "landed-shop:latest"),
        project_dir="/usr/app/landed_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        freshness="before",  # each source that the nodes read and that has a policy is checked, and has a task
        on_warning_callback=tell,  # for a source that is older than its warn_after
    )
    def build():
        @dbt_node("landing.orders", after="node")
        def fresh(result: NodeResult) -> str:
            return f"{result.name}: {result.status}"

        fresh()
        return dbt_build(vars={"payments_age": "{{ params.payments_age }}"})

    skip = build.override(group_id="skip", on_stale="skip")  # what reads from a stale source is skipped
    check = build.override(group_id="check", freshness="only")  # nothing is built

    build()
    skip()
    check()


freshness()
