"""
The shop's build in a cluster of Google Kubernetes Engine, which Airflow reaches with Google's own credentials.

GKEStartPodOperator asks Google where the cluster is and signs in there; what dbt does is seen as in any other cluster. The
producer waits in the triggerer.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.providers.google.cloud.operators.kubernetes_engine import GKEStartPodOperator
from airflow.sdk import Param, dag

from dbt_watch import dbt_build, dbt_k8s_project

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
def gke():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get("JAFFLE_SHOP_IMAGE", "europe-west4-docker.pkg.dev/shop/dbt/jaffle-shop:latest"),
        project_dir="/usr/app/jaffle_shop",
        operator_class=GKEStartPodOperator,
        project_id="shop",
        location="europe-west4",  # the cluster's region, or its zone
        cluster_name="dbt",
        gcp_conn_id="google_cloud_default",
        namespace="dbt",
        service_account_name="dbt",  # the pod's own, which Google knows: dbt reaches BigQuery without a key
        deferrable=True,
        retries=1,
        retry_delay=30,
        env_vars={"JAFFLE_SHOP_DB": os.environ.get("JAFFLE_SHOP_DB", "/tmp/jaffle_shop.duckdb")},  # noqa: S108 - in the pod
    )
    def build():
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    build()


gke()
