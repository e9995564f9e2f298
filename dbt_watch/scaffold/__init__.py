"""
`dbt-watch init`: the first files of a dbt project that Airflow runs in a pod.

`dbt_projects` finds and reads the project, `files` makes texts of the templates beside it, `image_table` adds to pyproject.toml, and
`command` writes. dbt is not needed, nor Airflow.
"""
