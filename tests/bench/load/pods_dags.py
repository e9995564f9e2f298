"""The DAG of one row of `bench_pods`, as its environment says: the example project, in one pod, some, or one for each node."""

# Each of these DAGs imports what a user of it would, and no more.
# ruff: noqa: PLC0415

import json
import os
from datetime import datetime

from airflow.sdk import DAG

CASE = json.loads(os.environ["PODS_CASE"])
DAG_ARGUMENTS = {
    "dag_id": CASE["dag_id"],
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    "max_active_tasks": 100,
}
POD = {"image": CASE["image"], "namespace": "default", "in_cluster": False}
PROJECT_DIR = "/usr/app/jaffle_shop"


def bare_pod():
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    with DAG(schedule=None, **DAG_ARGUMENTS):
        KubernetesPodOperator(task_id="dbt_build", cmds=["dbt"], arguments=["build"], **POD)


def project(isolate=None):
    from dbt_watch import dbt_k8s_project

    with DAG(schedule=None, **DAG_ARGUMENTS):

        @dbt_k8s_project(
            manifest=CASE["manifest"],
            project_dir=PROJECT_DIR,
            profiles_dir=PROJECT_DIR,
            isolate=isolate,
            sensors=CASE["sensors"],
            **POD,
        )
        def shop(): ...

        return shop()


def by_server(project_dir="shop"):
    from dbt_watch import dbt_api_project

    with DAG(schedule=None, **DAG_ARGUMENTS):

        @dbt_api_project(manifest=CASE["manifest"], project_dir=project_dir, sensors=CASE["sensors"])
        def shop(): ...

        return shop()


def three_producers():
    from airflow.providers.standard.operators.empty import EmptyOperator

    shop = project()
    with shop.group.dag:
        first, second = EmptyOperator(task_id="first"), EmptyOperator(task_id="second")
    shop["stg_orders"] >> first >> shop["orders"]
    shop["orders"] >> second >> shop["customers"]


def cosmos(mode):
    from cosmos import (
        DbtDag,
        ExecutionConfig,
        ExecutionMode,
        LoadMode,
        ProfileConfig,
        ProjectConfig,
        RenderConfig,
    )
    from cosmos.constants import TestIndirectSelection

    # Else a test of two models runs as soon as the first of them is built, and fails. So it does not run at all.
    tested = {"test_indirect_selection": TestIndirectSelection.CAUTIOUS} if mode == "KUBERNETES" else {}
    return DbtDag(
        project_config=ProjectConfig(manifest_path=CASE["manifest"], project_name="jaffle_shop"),
        profile_config=ProfileConfig(
            profile_name="jaffle_shop", target_name="dev", profiles_yml_filepath=f"{PROJECT_DIR}/profiles.yml"
        ),
        render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode[mode],
            dbt_project_path=PROJECT_DIR,
            dbt_executable_path="dbt",
            **tested,
        ),
        operator_args=POD,
        schedule=None,
        **DAG_ARGUMENTS,
    )


WAYS = {
    "bare-pod": bare_pod,
    "one-pod": project,
    "fresh-pod": project,
    "three-producers": three_producers,
    "by-server": by_server,
    "by-program": lambda: by_server("program"),
    # The floor: a dbt that is played, and takes no time.
    "in-no-time": lambda: by_server("played"),
    "pod-per-node": lambda: project("*"),
    "cosmos-watcher": lambda: cosmos("WATCHER_KUBERNETES"),
    "cosmos-kubernetes": lambda: cosmos("KUBERNETES"),
}
dag = WAYS[CASE["way"]]()
