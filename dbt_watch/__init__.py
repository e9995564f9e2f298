"""dbt_watch: run a dbt project in one Kubernetes pod, with one Airflow task per dbt node."""
