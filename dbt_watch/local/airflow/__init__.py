"""A real Airflow on this machine, for the demo and the tests."""
