"""
A whole run on one machine: a real Airflow, a Kubernetes API of local processes, and the example project.

`command` is `dbt-watch demo`: it sets up an `environment` of `dbt_watch.local.airflow` and `dbt_watch.local.localkube`,
follows the run with `dbt_watch.local.following`, and shows it at the end.
Nothing here is needed, or imported, by a DAG.
"""
