"""
A single look at the journal, on a worker: at the end of its snapshot and its pages first, then backwards.

A sensor that starts late finds its nodes near the end and need not be deferred at all; in `dag.test()`, where there is
no triggerer, looking is all it can do.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dbt_watch.airflow.supervisor import read_state_now, read_xcom_now
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.journal.reader import Found, look_back
from dbt_watch.core.outcome import Decision, Producer, Verdict
from dbt_watch.core.task_states import JOURNAL_IS_CURRENT
from dbt_watch.sensors.updates import Update, update_of

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from dbt_watch.airflow.task_instances import TaskKey
    from dbt_watch.sensors.updates import Sensor

log = logging.getLogger(__name__)


def look_once(
    task_instance: RuntimeTaskInstanceProtocol,
    producer_task_id: str,
    sensor: Sensor,
    *,
    max_pages: int | None = None,
) -> Update:
    """
    Decide about a sensor from what the journal says now.

    An Airflow that answers badly, or a journal that cannot be read, means that nothing is known now; the hub, which asks
    again, decides then.

    :param task_instance: the sensor's own; the producer is in the same DAG run
    :param producer_task_id: the task that runs dbt
    :param sensor: the sensor
    :param max_pages: how many values to read of a journal before going no further back; None for the whole journal
    """
    key = key_of(task_instance, producer_task_id)
    try:
        return _look(key, sensor, max_pages)
    except Exception as error:  # noqa: BLE001 - whatever it is, the hub tries again
        log.warning("The journal cannot be read now: %s", error)
        return _NOT_KNOWN


def _look(key: TaskKey, sensor: Sensor, max_pages: int | None) -> Update:
    producer = Producer(read_state_now(key))
    found: Found | None = Found(None, {})
    if producer.state in JOURNAL_IS_CURRENT:
        wanted = frozenset(sensor.unique_ids)
        found = look_back(lambda name: read_xcom_now(key, name), wanted, max_values=max_pages)
    if found is None:
        return _NOT_KNOWN  # what was not read may tell of them
    page = found.page
    if page is None:
        return update_of(sensor, producer, {}, 0.0)
    producer = Producer(producer.state, page.chunk.closed, page.will_retry)
    return update_of(sensor, producer, found.entries, page.began)


_NOT_KNOWN = Update((), Decision(Verdict.WAIT))
