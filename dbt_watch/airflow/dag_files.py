"""The DAGs of a file or a folder, loaded as Airflow's DAG processor loads them, with its cluster policies. `local.run.loading` asks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow.utils.file import list_py_file_paths

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_dags(path: Path) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """
    Return the DAGs by their ids, and the stack trace of each file that cannot be imported; no database is asked.

    :param path: a file, which is loaded whatever is in it, or a folder, in which Airflow looks for DAG files
    """
    folder = path if path.is_dir() else path.parent
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    bag = DagBag(str(path), collect_dags=False)
    for file in list_py_file_paths(str(path)) if path.is_dir() else [str(path)]:
        bag.process_file(file, only_if_updated=False, safe_mode=path.is_dir())
    return bag.dags, bag.import_errors
