"""A small build and what may become of it, each by a connection of its own and so with rights of its own."""

import os
from datetime import datetime

from airflow.sdk import dag
from kubernetes.client import models as k8s

from dbt_watch import DbtProfile, dbt_k8s_project

ARGUMENTS = {
    "manifest": os.environ["JAFFLE_SHOP_MANIFEST"],
    "image": os.environ["SCRIPTED_IMAGE"],
    "namespace": "dbt",
    "project_dir": "/usr/app/jaffle_shop",
    "profiles_dir": "/usr/app/jaffle_shop",
    "env_vars": {"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},  # noqa: S108 - in the pod
    "select": "raw_customers",
    "tests": "none",
}
DAGS = {}


def case(dag_id, **overrides):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def make():
        @dbt_k8s_project(**{**ARGUMENTS, "kubernetes_conn_id": dag_id, **overrides})
        def shop(): ...

        shop()

    DAGS[dag_id] = make()


# The operator looks for events only if the pod has not started by its first look.
WAIT = k8s.V1Container(name="wait", image=ARGUMENTS["image"], command=["sleep", "1"])

case("plain", init_containers=[WAIT])
case(
    "kept",
    select="stg_customers",  # it fails there
    on_finish_action="keep_pod",
)
case("unpullable", image="registry.invalid/none:1", startup_timeout_seconds=8)
case("with_xcom", do_xcom_push=True)
# A dbt that reads it.
PROFILE = {
    "profile": DbtProfile("warehouse"),
    "profiles_dir": None,
    "image": os.environ["JAFFLE_SHOP_IMAGE"],
}
case("with_profile", **PROFILE)
# A pod that the API refuses.
case("refused_profile", **PROFILE, volume_mounts=[k8s.V1VolumeMount(name="nowhere", mount_path="/nowhere")])
