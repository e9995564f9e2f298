"""
OpenLineage's view of a build: what dbt does becomes events of runs, jobs and datasets.

`producers.lineage` puts it to work where a log is read, if Airflow's OpenLineage provider is installed and configured. Nothing here
knows Airflow, and only `lineage.events` imports OpenLineage's client, which happens in a thread of its own.
"""
