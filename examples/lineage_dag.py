"""
A project whose runs, tables and columns OpenLineage is told of while dbt builds them; once followed by a worker, once by the triggerer.

Needs `pip install "dbt-watch[openlineage]"` and a transport of Airflow's OpenLineage provider, for instance
AIRFLOW__OPENLINEAGE__TRANSPORT='{"type": "file", "log_file_path": "/tmp/lineage.jsonl", "append": true}'.

`break_model` names a model that is to fail.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag

from dbt_watch import DbtLineage, dbt_build, dbt_k8s_project

HERE = Path(__file__).parent


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={"break_model": Param("", type="string")},
    tags=["dbt"],
)
def lineage():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        namespace=os.environ.get("JAFFLE_SHOP_NAMESPACE", "default"),
        lineage=DbtLineage(namespace="duckdb:///data/jaffle_shop.duckdb"),
    )
    def build():
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    build()
    build.override(group_id="deferred", deferrable=True)()


lineage()
