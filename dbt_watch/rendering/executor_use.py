"""
Whether the sensors of a group may be run by `dbt_watch.NodeExecutor`: what the deployment has, and what the DAG allows.

`sensor_start` asks while a DAG file is parsed.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from dbt_watch.airflow.compat import HAS_WORKLOAD_TOKENS
from dbt_watch.airflow.configuration import configured_executors
from dbt_watch.sensors.operator import NODE_EXECUTOR

if TYPE_CHECKING:
    from airflow.sdk import DAG

# What Airflow allows a run of a DAG by default: a place for everything beside the sensors.
BESIDE: Final = 16


def obstacle(dag: DAG, count: int, *, is_mapped: bool) -> str | None:
    """
    Return why the sensors of a group cannot be run by the executor, and what would help; None when they can.

    A sensor that waits is queued, and Airflow counts it as active in its DAG run. So the producer, which it waits for, needs
    a place beside all sensors: with none left, it would never be queued.

    :param dag: the DAG; the sensors of its other groups have taken their places with `take_places`
    :param count: how many sensors the group has
    :param is_mapped: whether the group is mapped, or lies in one that is: then it is not known how many there will be
    """
    if not HAS_WORKLOAD_TOKENS:
        return "it needs Airflow 3.3"
    executors = configured_executors()
    if NODE_EXECUTOR not in executors[1:]:
        return f"[core] executor is {','.join(executors)}, not {executors[0]},{NODE_EXECUTOR}"
    if is_mapped:
        return "the project is mapped, so the number of its tasks is not known"
    waiting = count + _taken.get(id(dag), 0)
    if dag.max_active_tasks <= waiting:
        return (
            f"max_active_tasks of the DAG {dag.dag_id!r} is {dag.max_active_tasks}, and {waiting} node tasks wait at the"
            " same time: set max_active_tasks="
            f"{waiting + BESIDE}, or at least {waiting + 1}"
        )
    return None


def take_places(dag: DAG, count: int) -> None:
    """
    Count the sensors of a group that the executor runs.

    The tasks of the DAG do not tell: on a worker it has just one of them, and there the same has to be found.
    """
    if id(dag) not in _taken:
        weakref.finalize(dag, _taken.pop, id(dag), None)
    _taken[id(dag)] = _taken.get(id(dag), 0) + count


# By the id of a DAG, whose hash changes while it is filled.
_taken: Final[dict[int, int]] = {}
