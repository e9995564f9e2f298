"""
The shop's build in a cluster of Amazon EKS, which Airflow reaches with the credentials of its AWS connection.

EksPodOperator asks AWS where the cluster is and signs in there; what dbt does is seen as in any other cluster. The producer
waits in the triggerer.
"""

import os
from datetime import datetime, timezone
from pathlib import Path

from airflow.providers.amazon.aws.operators.eks import EksPodOperator
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
def eks():
    @dbt_k8s_project(
        manifest=os.environ.get("JAFFLE_SHOP_MANIFEST", str(HERE / "jaffle_shop/target/manifest.json")),
        image=os.environ.get(
            "JAFFLE_SHOP_IMAGE", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/jaffle-shop:latest"
        ),
        project_dir="/usr/app/jaffle_shop",
        operator_class=EksPodOperator,
        cluster_name="dbt",
        region="eu-central-1",
        aws_conn_id="aws_default",
        pod_name="jaffle-shop",  # what other operators call `name`
        namespace="dbt",
        service_account_name="dbt",  # the pod's own, with an IAM role: dbt reaches Redshift or Athena without a key
        deferrable=True,
        retries=1,
        retry_delay=30,
        env_vars={"JAFFLE_SHOP_DB": os.environ.get("JAFFLE_SHOP_DB", "/tmp/jaffle_shop.duckdb")},  # noqa: S108 - in the pod
    )
    def build():
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    build()


eks()
