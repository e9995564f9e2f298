"""The examples for GKE and EKS once more, with a producer that waits on its worker."""

import os
from datetime import datetime

from airflow.providers.amazon.aws.operators.eks import EksPodOperator
from airflow.providers.google.cloud.operators.kubernetes_engine import GKEStartPodOperator
from airflow.sdk import dag

from dbt_watch import dbt_build, dbt_k8s_project

CLASSES = {
    "gke_on_worker": {
        "operator_class": GKEStartPodOperator,
        "project_id": "shop",
        "location": "europe-west4",
        "cluster_name": "dbt",
    },
    "eks_on_worker": {"operator_class": EksPodOperator, "cluster_name": "dbt", "region": "eu-central-1"},
}

for dag_id, arguments in CLASSES.items():

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def make(dag_id=dag_id, arguments=arguments):
        @dbt_k8s_project(
            manifest=os.environ["JAFFLE_SHOP_MANIFEST"],
            image=os.environ["JAFFLE_SHOP_IMAGE"],
            project_dir="/usr/app/jaffle_shop",
            namespace="dbt",
            retries=1,
            retry_delay=10,
            env_vars={"JAFFLE_SHOP_DB": f"/warehouse/{dag_id}.duckdb"},
            **arguments,
        )
        def build():
            return dbt_build(vars={"break_model": "orders"})

        build()

    make()
