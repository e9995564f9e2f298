"""From a graph of dbt nodes to a group of Airflow tasks."""
