"""The DAGs of `bench_load`: a project of so many nodes, of which many runs go on at once."""

import json
import os
from datetime import datetime

from airflow.sdk import DAG

from dbt_watch import dbt_k8s_project

MANIFESTS = json.loads(os.environ["LOAD_MANIFESTS"])


def load(nodes, manifest, *, deferrable):
    with DAG(
        f"load_{nodes}" + ("_deferred" if deferrable else ""),
        schedule=None,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1_000,
        max_active_tasks=1_000,
    ):

        @dbt_k8s_project(
            manifest=manifest,
            image=os.environ["LOAD_IMAGE"],
            cmds=["python", "-S", "/load/paced_dbt.py", f"/load/{nodes}"],
            namespace="default",
            in_cluster=False,
            tests="none",
            retries=0,
            startup_timeout_seconds=600,
            deferrable=deferrable,
        )
        def shop(): ...

        shop()


for nodes, manifest in MANIFESTS.items():
    for deferrable in (False, True):
        load(nodes, manifest, deferrable=deferrable)
