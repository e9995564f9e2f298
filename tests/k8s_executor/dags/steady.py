"""The project of the fault tests, half a minute long, whose worker pods are struck."""

from datetime import datetime, timedelta

from airflow.sdk import dag, get_parsing_context

from dbt_watch import dbt_build, dbt_k8s_project

ARGUMENTS = {
    "manifest": "steady/target/manifest.json",
    "image": "registry.example/steady-dbt:1",
    "namespace": "dbt",
    "project_dir": "/usr/app/steady",
    "profiles_dir": "/usr/app/steady",
    # Each run has tables of its own, so that runs do not stand in one another's way.
    "env_vars": {"STEADY_SCHEMA": "{{ dag_run.conf['schema'] }}"},
    "startup_timeout_seconds": 120,
    "retries": 2,
    "retry_delay": timedelta(seconds=6),
}
# Begins when a file is there: until then there is a pod, and no line of dbt.
GATED = [
    "sh",
    "-c",
    'while ! [ -e "/gates/$0" ]; do sleep 0.2; done; exec dbt "$@"',
    "{{ dag_run.conf['schema'] }}",
]


def case(dag_id, **more):
    """Make a DAG whose producer follows dbt on a worker, and one where it does so deferred."""
    one(dag_id, **more)
    one(f"{dag_id}_deferred", deferrable=True, **more)


def one(dag_id, **more):
    if get_parsing_context().dag_id not in {None, dag_id}:
        return

    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=16)
    def make():
        @dbt_k8s_project(**{**ARGUMENTS, **more})
        def shop():
            return dbt_build(vars={"seconds": "{{ dag_run.conf.get('seconds', 5) }}"})

        shop()

    make()


case("steady")
case("gated", cmds=GATED)
