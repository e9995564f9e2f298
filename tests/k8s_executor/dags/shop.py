"""The example project, and a larger one, under the KubernetesExecutor; the manifests lie beside this file wherever it is."""

from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, get_parsing_context, task

from dbt_watch import dbt_build, dbt_k8s_project

PROJECT = "/usr/app/jaffle_shop"
SHOP = {
    "manifest": "jaffle_shop/target/manifest.json",
    "image": "registry.example/shop-dbt:1.4",
    "namespace": "dbt",
    "project_dir": PROJECT,
    "profiles_dir": PROJECT,
    "env_vars": {"JAFFLE_SHOP_DB": "/tmp/jaffle_shop.duckdb"},  # noqa: S108 - in the pod
    "retry_delay": timedelta(seconds=1),
}


def wide(width):
    """Return the arguments of a project of so many models."""
    place = f"/usr/app/wide_{width}"
    return {
        "manifest": f"wide_{width}/target/manifest.json",
        "image": f"registry.example/wide-{width}-dbt:1",
        "namespace": "dbt",
        "project_dir": place,
        "profiles_dir": place,
    }


def case(dag_id, arguments, build=None, **more):
    """Make a DAG of one project."""
    if get_parsing_context().dag_id not in {None, dag_id}:
        return

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def make():
        @dbt_k8s_project(**{**arguments, **more})
        def shop():
            return build

        shop()

    make()


def tell(context):
    """Stand for what somebody wants to be told of."""


case("sync", SHOP)
case("deferred", SHOP, deferrable=True)
case("broken", SHOP, dbt_build(vars={"break_model": "orders"}))
case("along_the_lineage", SHOP, sensors="lineage")
case("a_callback", SHOP, select="raw_orders stg_orders", tests="none", on_success_callback=tell)
case("pod_per_node", SHOP, select="resource_type:seed", tests="none", isolate="*")
for project in sorted(Path(__file__).parent.glob("wide_*")):
    width = int(project.name.removeprefix("wide_"))
    case(f"wide_{width}", wide(width))
    case(f"wide_{width}_deferred", wide(width), deferrable=True)


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def plain():
    @task
    def python() -> str:
        return "of Python"

    (
        BashOperator(task_id="bash", bash_command='echo "$HOSTNAME"; test -n "$AIRFLOW_IS_K8S_EXECUTOR_POD"')
        >> python()
    )


plain()
