"""
What Airflow lists of this package: the entry point `apache_airflow_provider`.

Every process of Airflow that asks for its providers loads this, so it imports nothing.
"""

from __future__ import annotations


def get_provider_info() -> dict[str, str]:
    """
    Say what Airflow shows in `airflow providers list` and in its web interface; the version is that of the package.

    What else Airflow's schema for it (`airflow/provider_info.schema.json`) knows is not here: no connection types, no
    links, no settings. Our decorators are no `task-decorators`: that would make `@task.dbt_node` a second name for
    `@dbt_node`.
    """
    return {
        "package-name": "dbt-watch",
        "name": "dbt-watch",
        "description": "Run a dbt project in one Kubernetes pod from Apache Airflow 3, with one task per dbt node.",
    }
