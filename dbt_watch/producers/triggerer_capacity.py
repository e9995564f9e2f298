"""
Whether a triggerer has a place left for a producer, beside the sensors that wait for it. `producers.dbt_task` asks before it defers.

Each deferred task takes one of the places of a triggerer. Sensors that had taken all of them would wait for ever for a
producer that finds none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.airflow.configuration import triggerer_capacity
from dbt_watch.core.task_states import DEFERRED

if TYPE_CHECKING:
    import logging

    from airflow.sdk.types import RuntimeTaskInstanceProtocol


def has_place(task_instance: RuntimeTaskInstanceProtocol, sensors: int, log: logging.Logger) -> bool:
    """
    Return whether a place is left when all that can be known of waits; otherwise say why not.

    Known are this project's sensors, and the tasks of the same DAG that are deferred now, in this run and in others. A
    task may not ask for those of other DAGs without their names.

    :param task_instance: the producer's, on its worker
    :param sensors: how many tasks wait for the producer, or will
    :param log: the task's
    """
    places = triggerer_capacity()
    waiting = sensors if sensors >= places else _waiting(task_instance, sensors)
    if waiting < places:
        return True
    log.warning(
        "Not deferred: the %d sensors and deferred tasks of this DAG could fill all %d slots of a triggerer ([triggerer]"
        " capacity) and leave none for the producer that they wait for. The worker follows dbt instead.",
        waiting,
        places,
    )
    return False


def _waiting(task_instance: RuntimeTaskInstanceProtocol, sensors: int) -> int:
    """Return how many tasks of the DAG are deferred, or will be when all sensors of this project are."""
    dag_id, run_ids = task_instance.dag_id, [task_instance.run_id]
    everywhere = task_instance.get_ti_count(dag_id=dag_id, states=[DEFERRED])
    here = task_instance.get_ti_count(dag_id=dag_id, run_ids=run_ids, states=[DEFERRED])
    return everywhere - here + max(here, sensors)
