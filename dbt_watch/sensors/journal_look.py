"""
A single look at the journal, on a worker: at the end of its snapshot and its pages first, then backwards.

A sensor that starts late finds its nodes near the end and need not be deferred at all; in `dag.test()`, where there is
no triggerer, looking is all it can do.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from dbt_watch.airflow.supervisor import read_state_now, read_xcom_now
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.journal.pages import HEAD_KEY, decode_page, part_key
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.core.outcome import Decision, Producer, Verdict
from dbt_watch.core.task_states import JOURNAL_IS_CURRENT
from dbt_watch.sensors.updates import Update, update_of

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from dbt_watch.airflow.task_instances import TaskKey
    from dbt_watch.core.results import NodeResult
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
    found: _Found | None = _Found(producer, {}, 0.0)
    if producer.state in JOURNAL_IS_CURRENT:
        found = _read_backwards(key, producer, frozenset(sensor.unique_ids), max_pages)
    if found is None:
        return _NOT_KNOWN  # what was not read may tell of them
    return update_of(sensor, found.producer, found.entries, found.began)


_NOT_KNOWN = Update((), Decision(Verdict.WAIT))


class _Found(NamedTuple):
    producer: Producer
    entries: dict[str, NodeResult]
    began: float


def _read_backwards(
    key: TaskKey, producer: Producer, wanted: frozenset[str], max_pages: int | None
) -> _Found | None:
    """Find the latest entry of each wanted node; the last page tells how the attempt stands. None when that is not known."""
    head = read_xcom_now(key, HEAD_KEY)
    if head is None:
        return _Found(producer, {}, 0.0)
    asked: list[str] = []

    def ask(name: str) -> Any:
        asked.append(name)
        return read_xcom_now(key, name)

    reader = JournalReader(part=int(head))
    is_whole = read_now(reader, ask)
    page = reader.page
    if page is None or not is_whole:
        return None  # a new attempt has begun meanwhile
    entries = {name: entry for name, entry in reader.state.entries.items() if name in wanted}
    found = _Found(Producer(producer.state, page.chunk.closed, page.will_retry), entries, page.began)
    for number in range(reader.first_part - 1, -1, -1):
        if wanted <= entries.keys():
            break
        value = ask(part_key(number)) if max_pages is None or len(asked) < max_pages else None
        if value is None:
            return None
        part = decode_page(value).chunk
        if part.attempt != page.chunk.attempt:
            return None
        for result in part.changes:
            if result.unique_id in wanted:
                entries.setdefault(result.unique_id, result)
    return found
