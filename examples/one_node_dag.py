"""One node of a project without the rest: a function of its own, and a pod that builds what it needs."""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import dag

from dbt_watch import NodeResult, dbt_build, dbt_node

HERE = Path(__file__).parent


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False, tags=["dbt"])
def one_node():
    @dbt_node(
        "raw_customers",
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        build=dbt_build(full_refresh=True),
    )
    def arrived(result: NodeResult, floor: int) -> bool | None:
        """Return whether enough customers have arrived; None where the database does not say how many."""
        return None if result.rows_affected is None else result.rows_affected >= floor

    arrived(floor=10)


one_node()
