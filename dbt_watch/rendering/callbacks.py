"""
Airflow's callbacks, with what dbt reported in their context as `dbt_results`.

A callback runs on the worker that ends its task, or, for a failure that a trigger has found, in the dag-processor. There
the results are read from XCom; a callback whose results cannot be read is called without them.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.outcome import Verdict
from dbt_watch.core.results import NodeResult
from dbt_watch.core.xcom_values import results_in
from dbt_watch.rendering.results import ProjectResults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import TaskGroup

    from dbt_watch.rendering.group import GroupTasks

log = logging.getLogger(__name__)

AT_THE_END: Final = ("on_success_callback", "on_failure_callback", "on_skipped_callback", "on_retry_callback")
# A trigger that ends a task calls nothing for these; they stand beside the end that they are for.
ON_A_WORKER: Final = {"on_success_callback": Verdict.SUCCEED.value, "on_skipped_callback": Verdict.SKIP.value}
RESULTS: Final = "dbt_results"


def callbacks_of(group: TaskGroup, given: Mapping[str, Any]) -> dict[str, list[Callable[[Any], Any]]]:
    """
    Return the callbacks for the ends of a group's tasks, from their default arguments too.

    :param group: the group
    :param given: the arguments of the operator
    """
    defaults = {**(group.dag.default_args or {}), **(group.default_args or {}), **given}
    found = {name: defaults.get(name) for name in AT_THE_END}
    return {name: value if isinstance(value, list) else [value] for name, value in found.items() if value}


def for_sensors(
    callbacks: Mapping[str, Sequence[Callable[[Any], Any]]],
) -> dict[str, list[Callable[[Any], Any]]]:
    """Return the same callbacks, with the results of the sensor that ends."""
    return {name: [_with(_own_results, item) for item in items] for name, items in callbacks.items()}


def for_producer(
    callbacks: Mapping[str, Sequence[Callable[[Any], Any]]], tasks: GroupTasks
) -> dict[str, list[Callable[[Any], Any]]]:
    """Return the same callbacks, with the results of all nodes that the producer has built."""

    def results(context: Any) -> list[NodeResult]:
        part = context["ti"].task_id.removeprefix(tasks.group.child_id(""))
        return [NodeResult.from_dict(value) for value in ProjectResults(tasks, part=part).resolve(context)]

    return {name: [_with(results, item) for item in items] for name, items in callbacks.items()}


def _own_results(context: Any) -> list[NodeResult]:
    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return results_in(ti.xcom_pull(task_ids=ti.task_id, key="return_value", map_indexes=map_index))


def _with(results: Callable[[Any], list[NodeResult]], callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(callback)
    def call(context: Any) -> Any:
        if RESULTS not in context:
            context[RESULTS] = ()
            try:
                context[RESULTS] = tuple(results(context))
            except Exception as error:  # noqa: BLE001 - what is to be told is told without them
                log.warning(
                    "The results for %s cannot be read: %s", getattr(callback, "__name__", callback), error
                )
        return callback(context)

    return call
