"""Producers whose worker pod is another than the template: with a volume, a sidecar and more, and with no image that there is."""

from datetime import datetime

from airflow.sdk import dag
from kubernetes.client import models as k8s

from dbt_watch import dbt_k8s_project

SHARED = k8s.V1VolumeMount(name="shared", mount_path="/shared")
OVERRIDE = k8s.V1Pod(
    spec=k8s.V1PodSpec(
        init_containers=[
            k8s.V1Container(
                name="fetch",
                image="registry.example/airflow:3.3",
                args=["sh", "-c", "echo fetched > /shared/of-init"],
                volume_mounts=[SHARED],
            ),
            k8s.V1Container(
                name="beside",
                image="registry.example/airflow:3.3",
                restart_policy="Always",
                args=["sh", "-c", "while :; do date > /shared/of-sidecar; sleep 0.2; done"],
                volume_mounts=[SHARED],
            ),
        ],
        containers=[
            k8s.V1Container(
                name="base", env=[k8s.V1EnvVar(name="TEAM", value="shop")], volume_mounts=[SHARED]
            )
        ],
        volumes=[k8s.V1Volume(name="shared", empty_dir=k8s.V1EmptyDirVolumeSource())],
    )
)


def look(context):
    """Leave in XCom what the worker of the producer finds."""
    import os  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    found = {name: Path("/shared", name).exists() for name in ("of-init", "of-sidecar")}
    context["ti"].xcom_push(key="found", value={**found, "TEAM": os.environ.get("TEAM")})


NO_IMAGE = k8s.V1Pod(
    spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", image="registry.invalid/nothing:1")])
)


def case(dag_id, override, **more):
    """Make a DAG of a project with an override."""

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def make():
        @dbt_k8s_project(
            manifest="jaffle_shop/target/manifest.json",
            image="registry.example/shop-dbt:1.4",
            namespace="dbt",
            project_dir="/usr/app/jaffle_shop",
            profiles_dir="/usr/app/jaffle_shop",
            env_vars={"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},  # noqa: S108 - in the pod
            select="raw_orders",
            tests="none",
            executor_config={"pod_override": override},
            **more,
        )
        def shop(): ...

        shop()

    make()


case("overridden", OVERRIDE, on_execute_callback=look)
case("no_image", NO_IMAGE)
