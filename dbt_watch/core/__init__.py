"""What knows dbt, and neither Airflow nor Kubernetes."""
