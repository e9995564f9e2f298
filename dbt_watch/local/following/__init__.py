"""
What `dbt-watch demo` and `dbt-watch run` share: a run is followed to its end, shown while it goes on, and summed up.

`options` says what both are asked for, `observation` looks at the run, `progress` and `report` show it, `run_to_the_end` starts it and
waits, and `workspace` is a directory that goes with it. How Airflow and the cluster came about is not known here.
"""
