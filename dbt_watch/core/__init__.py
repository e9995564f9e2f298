"""All that knows dbt; nothing here knows Airflow or Kubernetes."""
