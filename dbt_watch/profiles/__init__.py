"""
What dbt's profiles.yml says, made of an Airflow connection: pure, without Airflow, Kubernetes or dbt.

`DbtProfile` is what an author writes; `warehouses` knows how connections and profiles call things; `profile_file` writes the file and
keeps what is secret out of it. `producers.pods` reads the connection when the task runs, and brings the file to the pod.
"""
