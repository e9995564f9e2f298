"""
What the Airflow of a local run loads as its cluster policy, and how it tells the one DAG file that it is about.

`environment` puts an `airflow_local_settings` module in front of PYTHONPATH that names `task_policy`; `loading` has it too. Both
are public ways into Airflow: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/cluster-policies.html
and `[core] might_contain_dag_callable`. It is imported by each process that parses a DAG, and so imports next to nothing.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import zipfile

DAG_FILE: Final = "DBT_WATCH_RUN_DAG_FILE"
"""The environment variable that names the DAG file; any file where it is not set."""
SELECT: Final = "DBT_WATCH_RUN_SELECT"
"""The environment variable that holds the selection of this run, as a JSON list."""
MODULE: Final = "airflow_local_settings"
SOURCE: Final = f"from {__name__} import task_policy\n\n__all__ = ['task_policy']\n"
"""The module of that name."""

# How an operator says which cluster is meant. Without them it goes by its connection, which leads to localkube.
_CLUSTER: Final = ("in_cluster", "config_file", "cluster_context")


def task_policy(task: Any) -> None:
    """Have a task make its pods in localkube, whatever cluster it names, and build the nodes of this run's selection."""
    if hasattr(task, "partial_kwargs"):  # mapped, and yet to become an operator
        if "image" in task.partial_kwargs:
            for name in _CLUSTER:
                task.partial_kwargs.pop(name, None)
        return
    if hasattr(task, "kubernetes_conn_id"):
        for name in _CLUSTER:
            if hasattr(task, name):
                setattr(task, name, None)
    select = os.environ.get(SELECT)
    if select and builds_nodes(task):
        task.build = {**task.build, "select": json.loads(select)}


def builds_nodes(task: Any) -> bool:
    """Return whether a task runs dbt for nodes that other tasks stand for."""
    return hasattr(task, "build") and hasattr(task, "watched")


def is_chosen(file_path: str, zip_file: zipfile.ZipFile | None = None) -> bool:
    """Return whether a file may hold the DAG of this run."""
    chosen = os.environ.get(DAG_FILE)
    return zip_file is None and (not chosen or os.path.realpath(file_path) == os.path.realpath(chosen))
