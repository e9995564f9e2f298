"""
A single look at the journal from a task that runs in `dag.test()`.

There is no triggerer there, and waiting in a task would keep the producer from starting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.core.outcome import JOURNAL_IS_CURRENT, Producer, decide
from dbt_watch.core.pages import decode_page, page_key
from dbt_watch.sensors.hub import Update
from dbt_watch.sensors.supervisor import TaskKey, read_state_now, read_xcom_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from dbt_watch.core.results import NodeResult


def look_once(
    task_instance: RuntimeTaskInstanceProtocol, producer_task_id: str, unique_ids: Sequence[str]
) -> Update:
    """
    Decide about some nodes from what the journal says now.

    :param task_instance: the sensor's own; the producer is in the same DAG run
    """
    map_index = -1 if task_instance.map_index is None else task_instance.map_index
    key = TaskKey(task_instance.dag_id, task_instance.run_id, producer_task_id, map_index)
    producer = Producer(read_state_now(key))
    entries: dict[str, NodeResult] = {}
    number = 0
    while producer.state in JOURNAL_IS_CURRENT and producer.closed is None:
        page = decode_page(read_xcom_now(key, page_key(number)) or "")
        if page is None:
            break
        entries.update((result.unique_id, result) for result in page.chunk.changes)
        producer = Producer(producer.state, page.chunk.closed, page.will_retry)
        number += 1
    nodes = [(unique_id, entries.get(unique_id)) for unique_id in unique_ids]
    results = tuple(entry for _, entry in nodes if entry is not None)
    return Update(results, decide(producer, nodes))
