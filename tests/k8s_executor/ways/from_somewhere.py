"""The example project, wherever its DAG file lies; dbt's own task in a worker pod, those of its nodes on workers beside the scheduler."""

import os
from datetime import datetime

from airflow.sdk import dag
from kubernetes.client import models as k8s

from dbt_watch import dbt_k8s_project

# Where the DAG is baked into an image: that image, and a template without the volume.
BAKED = {
    "pod_template_file": os.environ.get("BAKED_TEMPLATE", ""),
    "pod_override": k8s.V1Pod(
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", image="registry.example/airflow:baked")])
    ),
}


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def from_somewhere():
    @dbt_k8s_project(
        manifest="jaffle_shop/target/manifest.json",
        image="registry.example/shop-dbt:1.4",
        namespace="dbt",
        project_dir="/usr/app/jaffle_shop",
        profiles_dir="/usr/app/jaffle_shop",
        env_vars={"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},  # noqa: S108 - in the pod
        select="raw_orders stg_orders",
        tests="none",
        executor="KubernetesExecutor",
        executor_config=BAKED if __name__.endswith("baked") else None,
        sensors="lineage",
        sensor_options={"executor": "LocalExecutor"},
    )
    def shop(): ...

    shop()


from_somewhere()
