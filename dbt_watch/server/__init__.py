"""
The dbt API server: dbt invocations over HTTP, queued, run by worker processes, and followed by their log.

`command` is `dbt-watch server`. `supervisor` keeps two processes running: the API (`app`) and the workers (`worker`). They share
nothing but what is in the database (`invocations`), the queue (`queue`) and the directory of the server's state.
"""
