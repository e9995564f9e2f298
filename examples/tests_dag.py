"""What becomes of dbt's tests: a task for each tested node, part of the node's own task, one task for all, or none."""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag

from dbt_watch import dbt_k8s_project

HERE = Path(__file__).parent


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["dbt"])
def tests():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        select="+stg_orders",
    )
    def after_each():
        """The default: stg_orders, then stg_orders.test, then what reads from it."""

    build = after_each.override(group_id="build", tests="build")  # stg_orders is green when its tests are
    after_all = after_each.override(group_id="after_all", tests="after_all")  # one task `tests`
    none = after_each.override(group_id="none", tests="none")  # dbt is told to leave them out

    after_each() >> build() >> after_all() >> none()


tests()
