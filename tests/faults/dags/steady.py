"""One project that takes about ten seconds, as the DAGs that the faults strike."""

import json
import os
from datetime import datetime, timedelta

from airflow.sdk import dag

from dbt_watch import dbt_build, dbt_k8s_project

ARGUMENTS = {
    "manifest": os.environ["STEADY_MANIFEST"],
    "image": os.environ["STEADY_IMAGE"],
    "project_dir": "/usr/app/steady",
    "profiles_dir": "/usr/app/steady",
    "namespace": "default",
    "in_cluster": False,
    "env_vars": {
        **json.loads(os.environ["STEADY_ENV"]),
        # Each run has tables of its own, so that runs do not stand in one another's way.
        "STEADY_SCHEMA": "{{ dag_run.conf['schema'] }}",
    },
    "startup_timeout_seconds": 120,
}


def project(name, **arguments):
    @dbt_k8s_project(group_id=name, **{**ARGUMENTS, **arguments})
    def build():
        return dbt_build(vars={"seconds": "{{ dag_run.conf.get('seconds', 0.7) }}"})

    return build()


def case(dag_id, **arguments):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=16)
    def made():
        project("shop", **arguments)

    made()


case("steady", retries=2, retry_delay=timedelta(seconds=6))
case("once", retries=0)
case("crowded", retries=0, startup_timeout_seconds=15)
case("stuck", retries=0, image="registry.invalid/nothing:1", startup_timeout_seconds=15)


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def pair():
    """Two projects side by side in one DAG, each with tables of its own."""
    for name in ("left", "right"):
        schema = {**ARGUMENTS["env_vars"], "STEADY_SCHEMA": f"{{{{ dag_run.conf['schema'] }}}}_{name}"}
        project(name, env_vars=schema)


pair()
