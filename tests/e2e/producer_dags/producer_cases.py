"""
The DAGs of the end-to-end tests of the producer: the example project, each time under a worker that is in trouble.

A gate holds dbt back in the middle of its run until the test opens it (`gated`).
"""

import os
from datetime import datetime, timedelta

from airflow.sdk import dag, get_parsing_context
from gated import gated

from dbt_watch import dbt_build, dbt_k8s_project
from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

ARGUMENTS = {
    "manifest": os.environ["PRODUCER_MANIFEST"],
    "image": os.environ["PRODUCER_IMAGE"],
    "project_dir": "/usr/app/jaffle_shop",
    "profiles_dir": "/usr/app/jaffle_shop",
    "exclude": "slow+",
    "retries": 2,
    # Along the lineage the sensors come a while after dbt; done is what a sensor says.
    "retry_delay": timedelta(seconds=1 if STARTS_FROM_TRIGGER else 20),
}


def case(dag_id, breaks="", elements=(), **overrides):
    """
    Make a DAG of one project, with a database and a gate of its own; on a worker only the one that runs there.

    With `elements` it is mapped: a run of the project for each, with a database of its own and the same gate. `database` is
    a part of the database's name; where it is None, the database is gone with its pod, and its path is the one with which dbt
    has parsed the project: of another it would have to parse it anew.
    """
    if get_parsing_context().dag_id not in {None, dag_id}:
        return
    settings = dict(overrides)
    gate = settings.pop("gate", f"/warehouse/{dag_id}.gate")
    timeout = settings.pop("dagrun_timeout", None)
    database = settings.pop("database", "{{ ti.map_index }}")
    if gate:
        settings["cmds"] = gated(gate)

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False, dagrun_timeout=timeout)
    def make():
        lasting = f"/warehouse/{dag_id}{database}.duckdb"
        env = {
            "JAFFLE_SHOP_DB": lasting if database is not None else "/tmp/jaffle_shop.duckdb",  # noqa: S108 - in the pod
            "BREAK_MODEL": breaks,
        }

        @dbt_k8s_project(**{**ARGUMENTS, "env_vars": env, **settings})
        def shop(element=None):
            return dbt_build(vars={"element": element} if elements else None)

        shop.expand(element=list(elements)) if elements else shop()

    make()


BREAKS_ONCE = "{{ 'orders' if ti.try_number == 1 else '' }}"

# Runs that have just one pod.
ONE_POD = {"database": None}

# A worker that dies.
case("worker_killed", **ONE_POD)
case("orphaned", **ONE_POD)
case("ended_well", **ONE_POD)
case("ended_badly", BREAKS_ONCE)
case("mapped", elements=("north", "south"))
case("not_taken_over", reattach_on_restart=False)
case("cleared_meanwhile", retries=0)
case("cleared_running")
# A worker that is asked to end.
case("asked_to_end", **ONE_POD)

# A task that is stopped while the database works on a query that never ends.
SLOW = {
    **ONE_POD,
    "gate": None,
    "exclude": None,
    "select": "raw_orders slow after_slow",
    "tests": "none",
    "retries": 0,
}
case("marked_failed", **{**SLOW, "retries": 1})
SHARED = {"spec": {"shareProcessNamespace": True, "containers": [{"name": "base"}]}}
case("marked_failed_beside_others", **{**SLOW, "retries": 1}, pod_template_dict=SHARED)
case("marked_success", **SLOW)
case("run_failed", **SLOW)
case("timed_out", **SLOW, execution_timeout=timedelta(seconds=100))
case("run_timed_out", **SLOW, dagrun_timeout=timedelta(seconds=120))
case("deferred_marked_failed", **SLOW, deferrable=True)
case("deferred_timed_out", **SLOW, deferrable=True, execution_timeout=timedelta(seconds=100))

# A producer without a worker.
case("deferred", deferrable=True, **ONE_POD)
case("deferred_broken", BREAKS_ONCE, deferrable=True, gate=None)
case("deferred_evicted", deferrable=True, retries=0, **ONE_POD)

# A triggerer that has places for the sensors of one run, but not for those of two; known to the worker of this DAG alone.
if get_parsing_context().dag_id == "many_sensors":
    os.environ["AIRFLOW__TRIGGERER__CAPACITY"] = "22"
RUN = "{{ dag_run.run_after.timestamp() | int }}"
case("many_sensors", deferrable=True, sensors="eager", database=RUN)
