"""
How the sensors of a group start: in the triggerer, through workers, or by the executor; all at once, or along the lineage.

`authoring.project_factory` chooses while a DAG file is parsed; `group` makes the sensors so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec
from airflow.sdk import TriggerRule

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER
from dbt_watch.airflow.light_triggerer import is_light_triggerer_wanted
from dbt_watch.rendering import executor_use
from dbt_watch.sensors.operator import NODE_EXECUTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

Sensors = Literal["auto", "eager", "lineage", "executor"]

EAGER_LIMIT: Final = 360
"""
Up to so many sensors start at once by default, where each has the triggerer load the DAG.

So many take less than half of the CPU that they would along the lineage, and 0.8 GB of the triggerer's memory. Both grow with the
square: 1,000 take 5 GB, and the triggerer misses its heartbeats (docs/scaling.md).
"""
WORTH_A_WORD: Final = 100
"""From so many sensors on the producer says what would be faster."""


class SensorStart(msgspec.Struct, frozen=True):
    """
    How the sensors of a group start.

    :param from_trigger: in the triggerer, without a worker
    :param trigger_rule: with "always" all of them start at once; with "all_done" one level after the other
    :param gated: all of them come after one empty task as well
    :param executor: which runs them; None for the default one
    """

    from_trigger: bool
    trigger_rule: TriggerRule
    gated: bool = False
    executor: str | None = None


EAGER: Final = SensorStart(from_trigger=True, trigger_rule=TriggerRule.ALWAYS)
# "all_done" and not "all_success": what a failure upstream means for a node is the outcome table's to say.
LINEAGE: Final = SensorStart(from_trigger=False, trigger_rule=TriggerRule.ALL_DONE)
# Airflow refuses "always" in a mapped group, which could start before it is known how many there are. An empty task
# does the same: the scheduler alone ends it, and then one task before each sensor has succeeded.
EAGER_MAPPED: Final = SensorStart(from_trigger=True, trigger_rule=TriggerRule.ONE_SUCCESS, gated=True)
# All at once: each that is queued late is told of late, though with dbt's own times.
BY_EXECUTOR: Final = SensorStart(from_trigger=False, trigger_rule=TriggerRule.ALWAYS, executor=NODE_EXECUTOR)


def choose_start(
    sensors: Sensors,
    dag: DAG,
    count: int,
    *,
    is_mapped: bool,
    warn: Callable[[str], None],
    has_executor: bool = False,
) -> SensorStart:
    """
    Choose how the sensors of a group start, by what is known while the DAG is parsed.

    With "auto", the default, they are run by the executor where it may run them; else they start all at once in the triggerer,
    where that costs little: with a light triggerer, or up to `EAGER_LIMIT`; else along the lineage.

    :param sensors: as the user wishes
    :param dag: the DAG
    :param count: how many there are in the group
    :param is_mapped: whether the group is mapped, or lies in one that is
    :param warn: called with the reason where "executor" is wished and not possible; they start as with "auto" then
    :param has_executor: whether another executor is wished for those that need a worker
    """
    if sensors == "executor" or (sensors == "auto" and not has_executor):
        obstacle = executor_use.obstacle(dag, count, is_mapped=is_mapped)
        if obstacle is None:
            executor_use.take_places(dag, count)
            return BY_EXECUTOR
        if sensors == "executor":
            warn(obstacle)
        sensors = "auto"
    if sensors == "auto":
        is_cheap = is_light_triggerer_wanted() or count <= EAGER_LIMIT
        sensors = "eager" if STARTS_FROM_TRIGGER and is_cheap else "lineage"
    eager = EAGER_MAPPED if is_mapped else EAGER
    return eager if sensors == "eager" else LINEAGE


def told(start: SensorStart, count: int) -> str:
    """
    Return what the producer's log says of how the sensors start, and of what would be faster.

    :param start: how they start
    :param count: how many there are
    """
    if start.executor is not None:
        return f"The {count} node tasks run in the executor {start.executor}."
    if start.from_trigger and STARTS_FROM_TRIGGER:
        how = f"The {count} node tasks start in the triggerer, all at once"
    else:
        how = f"The {count} node tasks start through workers, along the lineage"
    if not STARTS_FROM_TRIGGER or is_light_triggerer_wanted() or count < WORTH_A_WORD:
        return f"{how}."
    return (
        f"{how}. They would start sooner and cost less with [dbt_watch] light_triggerer = True in Airflow's configuration, or"
        f" with the executor {NODE_EXECUTOR}; see docs/scaling.md."
    )
