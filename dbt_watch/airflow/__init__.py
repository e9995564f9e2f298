"""What this library takes from inside Airflow and its providers: everything that may change without notice."""
