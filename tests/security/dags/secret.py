"""Builds that hold a secret, each in another place, and fail in ways that talk a lot."""

import os
from datetime import datetime

from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.sdk import dag

from dbt_watch import DbtProfile, dbt_build, dbt_k8s_project

PASSWORD = "DBT_ENV_SECRET_PASSWORD"  # noqa: S105 - the name of a variable: dbt takes such ones out of its log
ARGUMENTS = {
    "manifest": os.environ["JAFFLE_SHOP_MANIFEST"],
    "image": os.environ["JAFFLE_SHOP_IMAGE"],
    "namespace": "dbt",
    "project_dir": "/usr/app/jaffle_shop",
    "select": "raw_customers",
    "tests": "none",
}
DAGS = {}


def case(dag_id, build=None, **overrides):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def make():
        @dbt_k8s_project(**{**ARGUMENTS, "kubernetes_conn_id": dag_id, **overrides})
        def shop():
            return build

        shop()

    DAGS[dag_id] = make()


# The profile of /usr/app/profiles puts the password into the path of the database, so that the database names it in
# the error of each node.
PROFILES = {"profiles_dir": "/usr/app/profiles"}
case("in_secret", secrets=[Secret("env", PASSWORD, "warehouse", "password")], **PROFILES)
# What the cluster and the operator say of a pod that does not start.
case(
    "not_started",
    secrets=[Secret("env", PASSWORD, "warehouse", "password")],
    env_vars={"PLAIN": os.environ["MARK_PLAIN"]},
    image="registry.invalid/none:1",
    startup_timeout_seconds=8,
)
# Names alone tell that these are secrets. This profile puts both into the path of the database, and dbt knows of none.
case(
    "in_vars",
    dbt_build(vars={"api_token": "{{ var.value.first }}", "reference": "$(PLAIN)"}),
    profiles_dir="/usr/app/talkative_profiles",
    env_vars={"API_TOKEN": "{{ var.value.second }}", "PLAIN": os.environ["MARK_PLAIN"]},
)
# The same of a connection, which dbt gets as a profile of its own.
case(
    "in_profile",
    profile=DbtProfile(
        "warehouse", to_profile=lambda found: {"path": f"/nowhere/{found.password}/warehouse.duckdb"}
    ),
)
