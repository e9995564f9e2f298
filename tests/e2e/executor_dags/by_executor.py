"""The DAGs whose sensors the executor runs: the example project, each time with another thing that happens to it."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import dag, get_parsing_context, task
from gated import gated

from dbt_watch import dbt_asset, dbt_build, dbt_k8s_project

PLACES = 64
ARGUMENTS = {
    "manifest": os.environ["JAFFLE_SHOP_MANIFEST"],
    "image": os.environ["JAFFLE_SHOP_IMAGE"],
    "namespace": os.environ["JAFFLE_SHOP_NAMESPACE"],
    "project_dir": "/usr/app/jaffle_shop",
    "profiles_dir": "/usr/app/jaffle_shop",
    "env_vars": {"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},  # noqa: S108 - in the pod
    "retry_delay": timedelta(seconds=1),
    "sensors": "executor",
}
BREAKS_ONCE = {"BREAK_MODEL": "{{ 'orders' if ti.try_number == 1 else '' }}"}


def case(dag_id, build=None, before=None, **overrides):
    """Make a DAG of one project."""
    if get_parsing_context().dag_id not in {None, dag_id}:
        return

    @dag(
        dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False, max_active_tasks=PLACES
    )
    def make():
        @dbt_k8s_project(**{**ARGUMENTS, **overrides})
        def shop():
            return build

        project = shop()
        if before is not None:
            task(before)() >> project

    make()


def report(node):
    """Make a DAG that runs when a node of `x_good` was built."""
    dag_id, asset = "x_report", dbt_asset(ARGUMENTS["manifest"], node)
    if get_parsing_context().dag_id not in {None, dag_id}:
        return

    @dag(dag_id=dag_id, schedule=[asset], start_date=datetime(2026, 1, 1), catchup=False)
    def make():
        @task
        def notice(triggering_asset_events=None):
            return [event.extra for event in triggering_asset_events[asset]]

        notice()

    make()


report("raw_orders")


def refuse():
    raise RuntimeError("nothing has landed")


def tell(kind):
    """Return a callback that leaves the names of tasks, and what dbt said of their nodes."""

    def told(context):
        names = "".join(f" {result.unique_id}={result.status}" for result in context["dbt_results"])
        with Path(os.environ["TOLD"]).open("a") as file:
            file.write(f"{kind} {context['ti'].task_id}{names}\n")

    return told


# Held when it has built what begins the run of `x_report`.
case("x_good", assets="each", cmds=gated("/warehouse/x_good.gate", after="raw_orders"))
case(
    "x_broken",
    env_vars={**ARGUMENTS["env_vars"], "BREAK_MODEL": "orders"},
    on_failure_callback=tell("failure"),
)
case("x_called", select="raw_orders stg_orders", tests="build", on_success_callback=tell("success"))
case("x_held_back", before=refuse)
case(
    "x_retried",
    dbt_build(vars={"batch": "of attempt {{ ti.try_number }}"}),
    retries=1,
    # For its sensors to see how the first attempt has ended, before the next one takes its journal away.
    retry_delay=timedelta(seconds=5),
    env_vars={"JAFFLE_SHOP_DB": "/warehouse/x_retried.duckdb", **BREAKS_ONCE},
    select="+customers",
    tests="none",
)
# The database of this image outlives its pods.
case(
    "x_cleared",
    image=f"{ARGUMENTS['image']}-x_cleared",
    env_vars={**ARGUMENTS["env_vars"], **BREAKS_ONCE},
)
# Held in the middle until its gate is opened.
case(
    "x_gated",
    cmds=gated("/warehouse/{{ dag_run.conf['gate'] }}"),
    env_vars={"JAFFLE_SHOP_DB": "/warehouse/{{ dag_run.conf['gate'] }}.duckdb"},
    # With LocalExecutor a worker ends with its scheduler; the next attempt goes on with the pod.
    retries=1,
)
