"""The DAG of one row of `bench_scale`, as its environment says: a project, or its pod alone, or the peer's DAG of it."""

# Each of these DAGs imports what a user of it would, and no more.
# ruff: noqa: PLC0415

import json
import os
from datetime import datetime

from airflow.sdk import DAG

CASE = json.loads(os.environ["SCALE_CASE"])
DAG_ARGUMENTS = {
    "dag_id": CASE["dag_id"],
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    **CASE["dag"],
}
POD = {
    "image": CASE["image"],
    "cmds": ["python", "-S", "/load/scripted_dbt.py"],
    "namespace": "default",
    "in_cluster": False,
}


def bare_pod():
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    with DAG(schedule=None, **DAG_ARGUMENTS):
        KubernetesPodOperator(task_id="dbt_build", arguments=["build"], **POD)


def project():
    from dbt_watch import dbt_k8s_project

    with DAG(schedule=None, **DAG_ARGUMENTS):

        @dbt_k8s_project(
            manifest=CASE["manifest"], sensors=CASE["sensors"], retries=0, **POD, **CASE["project"]
        )
        def shop(): ...

        shop()


def cosmos():
    from cosmos import DbtDag, ExecutionConfig, ExecutionMode, LoadMode, ProjectConfig, RenderConfig

    return DbtDag(
        project_config=ProjectConfig(manifest_path=CASE["manifest"], project_name="shop"),
        render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST),
        execution_config=ExecutionConfig(
            execution_mode=ExecutionMode.WATCHER_KUBERNETES, dbt_project_path="/load"
        ),
        operator_args=POD,
        schedule=None,
        **DAG_ARGUMENTS,
    )


dag = {"pod": bare_pod, "cosmos": cosmos}.get(CASE["way"], project)()
