"""Where dbt runs in a pod of Kubernetes."""
