"""A DAG as one writes it for a cluster, with much that is not there on a machine of one's own."""

import os
from datetime import datetime, timezone

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Param, Variable, dag, task
from kubernetes.client import models as k8s

from dbt_watch import dbt_build, dbt_k8s_project

PASSWORD = k8s.V1EnvVarSource(secret_key_ref=k8s.V1SecretKeySelector(name="warehouse", key="password"))


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    is_paused_upon_creation=True,
    params={"break_model": Param("", type="string")},
)
def shop():
    @dbt_k8s_project(
        manifest=os.environ["SHOP_MANIFEST"],
        image="registry.example/shop-dbt:1.4",
        project_dir="/srv/shop",
        namespace="dbt-{{ dag.dag_id }}",
        kubernetes_conn_id="production",
        env_vars={"JAFFLE_SHOP_DB": "/data/shop.duckdb"},
        pool="warehouse",
    )
    def build():
        return dbt_build(vars={"break_model": "{{ params.break_model }}"})

    @task
    def region() -> str:
        return Variable.get("region")

    export = KubernetesPodOperator(
        task_id="export",
        image="registry.example/tools:2",
        namespace="exports",
        in_cluster=True,
        cmds=["python", "-c"],
        arguments=[
            "import os; assert os.environ['PASSWORD'] == 's3cret'; assert os.path.exists('/data/shop.duckdb')"
        ],
        env_vars=[k8s.V1EnvVar(name="PASSWORD", value_from=PASSWORD)],
        volumes=[k8s.V1Volume(name="out", persistent_volume_claim={"claimName": "out"})],
        volume_mounts=[k8s.V1VolumeMount(name="out", mount_path="/out")],
    )
    [build(), region()] >> export


shop()
