"""DAGs of the end-to-end tests about authoring that are no examples for anybody."""

import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import dag, get_parsing_context

from dbt_watch import dbt_build, dbt_k8s_project

ARGUMENTS = {
    "manifest": os.environ["JAFFLE_SHOP_MANIFEST"],
    "image": os.environ["JAFFLE_SHOP_IMAGE"],
    "namespace": os.environ["JAFFLE_SHOP_NAMESPACE"],
    "project_dir": "/usr/app/jaffle_shop",
    "profiles_dir": "/usr/app/jaffle_shop",
    "env_vars": {"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},  # noqa: S108 - in the pod
}


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def one_region_fails():
    @dbt_k8s_project(**ARGUMENTS, select="+stg_orders", tests="none")
    def shop(broken):
        return dbt_build(vars={"break_model": broken})

    shop.expand(broken=["", "stg_orders"])


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def twice():
    """One project used twice in a DAG, with different selections."""

    @dbt_k8s_project(**ARGUMENTS, select="raw_orders", tests="none", assets="each", assets_when="built")
    def shop():
        pass

    shop() >> shop.override(group_id="again", select="raw_payments", assets_when="end")()


def tell(context):
    """Called on workers and in the dag-processor."""
    names = " ".join(sorted(result.name for result in context["dbt_results"]))
    with Path(os.environ["TOLD"]).open("a") as file:
        file.write(f"{context['ti'].task_id}: {names}\n")


def stumble(context):
    raise RuntimeError("nobody is listening")


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def told():
    """Airflow's own callbacks, for a success and a failure; one of them fails itself."""

    @dbt_k8s_project(
        **ARGUMENTS,
        select="+stg_orders",
        tests="none",
        on_failure_callback=[stumble, tell],
    )
    def shop():
        return dbt_build(vars={"break_model": "stg_orders"})

    shop()
    shop.override(group_id="well", select="raw_orders", on_success_callback=tell)()


BESIDE = {
    "name": "beside",
    "image": ARGUMENTS["image"],
    "command": ["sh", "-c", "echo here all the time; sleep infinity"],
}


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def pods():
    """Pods that are described elsewhere than in arguments of the operator; with sidecars of both kinds."""
    from kubernetes.client import models as k8s  # noqa: PLC0415 - workers of the other DAGs need it not

    @dbt_k8s_project(**ARGUMENTS, select="raw_orders", tests="none")
    def shop():
        pass

    shop.override(
        group_id="deferred",
        deferrable=True,
        termination_grace_period=1,
        pod_template_dict={
            "spec": {
                "containers": [{"name": "base"}, BESIDE],
                "initContainers": [{**BESIDE, "name": "before", "restartPolicy": "Always"}],
            }
        },
    )()
    shop.override(
        group_id="from_a_file",
        image=None,
        cmds=["python", "-m", "dbt.cli.main"],
        pod_template_file=os.environ["POD_TEMPLATE"],
    )()
    shop.override(
        group_id="in_full",
        image=None,
        container_logs=["beside", "base"],
        termination_grace_period=1,
        full_pod_spec=k8s.V1Pod(
            metadata=k8s.V1ObjectMeta(labels={"team": "shop"}),
            spec=k8s.V1PodSpec(
                containers=[
                    k8s.V1Container(name="base", image=ARGUMENTS["image"]),
                    k8s.V1Container(**BESIDE),
                ],
            ),
        ),
    )()


for make in (one_region_fails, twice, told, pods):
    # A worker needs just one.
    if get_parsing_context().dag_id in {None, make.__name__}:
        make()
