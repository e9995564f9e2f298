"""What runs on one machine, for trying and testing: a Kubernetes API, an Airflow, and the demo on both."""
