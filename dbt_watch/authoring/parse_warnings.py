"""
Warnings while a DAG is parsed: of parts of a selection that match nothing, as dbt gives them, and of a wish that cannot be had.

`authoring.project_factory` and `authoring.node_functions` issue them. Python's own warnings are what Airflow collects from a
DAG file and writes into the log of the DAG processor, and what a test of DAGs can turn into errors. The warnings of Airflow's
pages are of three fixed kinds, none of them for others.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_parsing_context

from dbt_watch.core.selection.near import complaint
from dbt_watch.exceptions import ExecutorWarning, SelectionWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.selection import Written


def warn_of(unmatched: Iterable[Written], graph: Graph, function: Callable[..., Any]) -> None:
    """
    Warn of what matches nothing.

    :param unmatched: parts of a selection
    :param graph: the project
    :param function: the decorated function, at which the warning points
    """
    for written in unmatched:
        _warn(complaint(graph, written), SelectionWarning, function)


def warn_of_obstacle(obstacle: str, function: Callable[..., Any]) -> None:
    """
    Warn that the executor cannot run the sensors, so that they start in another way.

    :param obstacle: why
    :param function: the decorated function, at which the warning points
    """
    text = f'sensors="executor" is not possible: {obstacle}. They start as with sensors="auto".'
    _warn(text, ExecutorWarning, function)


def _warn(text: str, category: type[Warning], function: Callable[..., Any]) -> None:
    """Warn at a function; not on a worker, whose log is about another matter."""
    if get_parsing_context().task_id is not None:
        return
    code = inspect.unwrap(function).__code__
    # Explicit, since the frames between the user's code and ours are Airflow's, in a number that changes.
    warnings.warn_explicit(text, category, code.co_filename, code.co_firstlineno)
