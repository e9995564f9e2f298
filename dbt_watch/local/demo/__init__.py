"""
A whole run on one machine: a real Airflow, a Kubernetes API of local processes, and the example project.

`airflow` starts an Airflow for as long as a block of code runs; the end-to-end tests use it too. `command` is
`dbt-watch demo`, which joins it with `dbt_watch.local.localkube` and shows the run with `live` and `report`.
Nothing here is needed, or imported, by a DAG.
"""
