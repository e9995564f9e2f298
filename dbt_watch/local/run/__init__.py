"""
One's own DAG on one's own machine: a real Airflow, and a Kubernetes API whose pods are processes with one's own dbt project.

`command` is `dbt-watch run`. `stand_ins` and `objects` read what the user says of images, secrets and config maps, on the command
line or in a pyproject.toml (`pyproject`); `loading` runs in a process of its own and says what the DAG asks for (`asked`);
`preparation` compares the two, before anything starts; `environment` starts it all, and `policy` is what Airflow's processes load
there; `failures` says why a run failed. Nothing here is needed, or imported, by a DAG elsewhere.
"""
