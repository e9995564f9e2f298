"""
The warning that `sensors="executor"` cannot be had, as `selection_warnings` has others.

`authoring.project_factory` calls it while the DAG is parsed.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_parsing_context

from dbt_watch.exceptions import ExecutorWarning

if TYPE_CHECKING:
    from collections.abc import Callable


def warn_of_obstacle(obstacle: str, function: Callable[..., Any]) -> None:
    """
    Warn that the sensors start in another way; not on a worker, whose log is about another matter.

    :param obstacle: why
    :param function: the decorated function, at which the warning points
    """
    if get_parsing_context().task_id is not None:
        return
    code = inspect.unwrap(function).__code__
    warnings.warn_explicit(
        f'sensors="executor" is not possible: {obstacle}. They start as with sensors="auto".',
        ExecutorWarning,
        code.co_filename,
        code.co_firstlineno,
    )
