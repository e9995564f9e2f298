"""The DAG of `bench_load`: one project, of which many runs go on at once."""

import os
from datetime import datetime

from airflow.sdk import DAG

from dbt_watch import dbt_k8s_project

with DAG(
    "load",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1_000,
    max_active_tasks=1_000,
):

    @dbt_k8s_project(
        manifest=os.environ["LOAD_MANIFEST"],
        image=os.environ["LOAD_IMAGE"],
        cmds=["/load/dbt"],
        namespace="default",
        in_cluster=False,
        tests="none",
        retries=0,
        startup_timeout_seconds=600,
        deferrable=bool(os.environ["LOAD_DEFERRABLE"]),
    )
    def shop(): ...

    shop()
