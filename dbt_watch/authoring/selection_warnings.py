"""
Warnings for parts of a selection that match nothing, as dbt gives them.

`authoring.project_factory` and `authoring.node_functions` call it while the DAG is parsed. Python's own warnings are what Airflow collects from a
DAG file and writes into the log of the DAG processor, and what a test of DAGs can turn into errors. The warnings of Airflow's
pages are of three fixed kinds, none of them for others.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_parsing_context

from dbt_watch.core.selection.near import complaint
from dbt_watch.exceptions import SelectionWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.selection import Written


def warn_of(unmatched: Iterable[Written], graph: Graph, function: Callable[..., Any]) -> None:
    """
    Warn of what matches nothing; not on a worker, whose log is about another matter.

    :param unmatched: parts of a selection
    :param graph: the project
    :param function: the decorated function, at which the warning points
    """
    if get_parsing_context().task_id is not None:
        return
    code = inspect.unwrap(function).__code__
    for written in unmatched:
        # Explicit, since the frames between the user's code and ours are Airflow's, in a number that changes.
        warnings.warn_explicit(
            complaint(graph, written), SelectionWarning, code.co_filename, code.co_firstlineno
        )
