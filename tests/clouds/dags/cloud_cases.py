"""The examples for GKE and EKS with a producer that waits on its worker, and builds in both that a test holds back."""

import os
from datetime import datetime

from airflow.sdk import dag, get_parsing_context
from gated import gated

from dbt_watch import dbt_build, dbt_k8s_project

ARGUMENTS = {
    "manifest": os.environ["JAFFLE_SHOP_MANIFEST"],
    "image": os.environ["JAFFLE_SHOP_IMAGE"],
    "project_dir": "/usr/app/jaffle_shop",
    "namespace": "dbt",
}
WANTED = get_parsing_context().dag_id
CLOUDS = {}
# A worker needs just one DAG, and the providers take seconds to import.
if WANTED is None or WANTED.startswith("gke"):
    from airflow.providers.google.cloud.operators.kubernetes_engine import GKEStartPodOperator

    CLOUDS["gke"] = {
        "operator_class": GKEStartPodOperator,
        "project_id": "shop",
        "location": "europe-west4",
        "cluster_name": "dbt",
    }
if WANTED is None or WANTED.startswith("eks"):
    from airflow.providers.amazon.aws.operators.eks import EksPodOperator

    CLOUDS["eks"] = {"operator_class": EksPodOperator, "cluster_name": "dbt", "region": "eu-central-1"}


def case(dag_id, build=None, **arguments):
    if WANTED not in {None, dag_id}:
        return

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def of_a_cloud():
        @dbt_k8s_project(group_id="build", **ARGUMENTS, **arguments)
        def shop():
            return build

        shop()

    of_a_cloud()


for name, cloud in CLOUDS.items():
    case(
        f"{name}_on_worker",
        dbt_build(vars={"break_model": "orders"}),
        retries=1,
        retry_delay=30,
        env_vars={"JAFFLE_SHOP_DB": f"/warehouse/{name}_on_worker.duckdb"},
        **cloud,
    )
    for deferrable in (False, True):
        case(
            f"{name}_held" + ("_deferred" if deferrable else ""),
            cmds=gated("/warehouse/{{ dag_run.conf['gate'] }}"),
            select="+stg_orders",
            tests="none",
            # A node that is built alone finds what it reads.
            env_vars={"JAFFLE_SHOP_DB": "/warehouse/{{ dag_run.conf['gate'] }}.duckdb"},
            deferrable=deferrable,
            **cloud,
        )
