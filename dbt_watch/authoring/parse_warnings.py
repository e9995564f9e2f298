"""
Warnings while a DAG is parsed: parts of a selection that match nothing, in dbt's words, and options that are not possible.

`authoring.project_factory` and `authoring.node_functions` issue them. Airflow collects Python's own warnings from a
DAG file and writes them into the log of the DAG processor, and a DAG test can turn them into errors. The warnings in Airflow's
UI are of three fixed kinds, none of which we can use.
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
    Warn of parts of a selection that match nothing.

    :param unmatched: parts of a selection
    :param graph: the project
    :param function: the decorated function, where the warning points to
    """
    for written in unmatched:
        _warn(complaint(graph, written), SelectionWarning, function)


def warn_of_obstacle(obstacle: str, function: Callable[..., Any]) -> None:
    """
    Warn that the executor cannot run the sensors, so that they start in another way.

    :param obstacle: why
    :param function: the decorated function, where the warning points to
    """
    text = f'sensors="executor" is not possible: {obstacle}. Falling back to sensors="auto".'
    _warn(text, ExecutorWarning, function)


def _warn(text: str, category: type[Warning], function: Callable[..., Any]) -> None:
    """Warn at a function; not on a worker, whose log is about something else."""
    if get_parsing_context().task_id is not None:
        return
    code = inspect.unwrap(function).__code__
    # Explicit, since the frames between the user's code and ours are Airflow's, in a number that changes.
    warnings.warn_explicit(text, category, code.co_filename, code.co_firstlineno)
