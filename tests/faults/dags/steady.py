"""A project that takes about ten seconds, in the DAGs that the faults strike."""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

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


def case(dag_id, *, pool=None, **projects):
    """
    Make a DAG whose producers follow dbt on a worker, and one where they do so deferred; on a worker its own alone.

    `pool` is that of all its tasks.
    """
    for suffix, deferrable in (("", False), ("_deferred", True)):
        if get_parsing_context().dag_id not in {None, dag_id + suffix}:
            continue
        with DAG(
            dag_id + suffix,
            schedule=None,
            start_date=datetime(2026, 1, 1),
            catchup=False,
            max_active_runs=16,
            default_args={"pool": pool} if pool else {},
        ):
            for name, arguments in projects.items():
                project(name, deferrable=deferrable, **arguments)


def with_tables_of_its_own(name):
    schema = f"{{{{ dag_run.conf['schema'] }}}}_{name}"
    return {"env_vars": {**ARGUMENTS["env_vars"], "STEADY_SCHEMA": schema}}


# What a platform team may have put into an image or an environment long ago.
SILENT = {
    "DBT_QUIET": "1",
    "DBT_LOG_LEVEL": "none",
    "DBT_LOG_FORMAT": "text",
    "DBT_LOG_LEVEL_FILE": "none",
    "DBT_PRINTER_WIDTH": "20",
    "DBT_LOG_CACHE_EVENTS": "true",
}

RETRIED = {"retries": 2, "retry_delay": timedelta(seconds=6)}
case("steady", shop=RETRIED)
case("four_slots", shop=RETRIED, pool="four_slots")
case("silenced", shop={"retries": 0, "env_vars": {**ARGUMENTS["env_vars"], **SILENT}})
case("once", shop={"retries": 0})
case("no_room", shop={"retries": 0, "startup_timeout_seconds": 15})
case("stuck", shop={"retries": 0, "image": "registry.invalid/nothing:1", "startup_timeout_seconds": 15})
case("split", shop={**RETRIED, "isolate": "b1"})
case("split_once", shop={"retries": 0, "isolate": "b1"})
case("growing", shop={} if Path(__file__).with_name("with_last").exists() else {"exclude": "last"})
case("pair", left=with_tables_of_its_own("left"), right=with_tables_of_its_own("right"))
