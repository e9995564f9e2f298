"""
What a sensor learns from a journal: the entries of its nodes, and the decision that follows from them.

The hub asks in a triggerer, `sensors.journal_look` on a worker, and a sensor that has built its own nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.airflow.task_instances import made_at, upstream_of
from dbt_watch.core.outcome import Decision, Producer, Verdict, decide
from dbt_watch.core.results import NodeResult
from dbt_watch.core.task_states import FAILED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbt_watch.core.journal.format import Closed


class Sensor(msgspec.Struct, frozen=True, kw_only=True):
    """
    A sensor, as its hub knows it.

    :param unique_ids: the nodes that it stands for
    :param task_id: its task
    :param made_at: when Airflow made this try of its task, in seconds since the epoch: with the DAG run, by a clear, or when
        the task was added to the DAG; 0 when that tells nothing
    :param is_first_try: whether its task has not run before
    :param turn: its place in the order in which sensors that were cleared build their nodes
    :param after: the tasks that have to end before it may build its nodes
    :param upstream: the tasks directly before its own, where they are known
    """

    unique_ids: tuple[str, ...]
    task_id: str = ""
    made_at: float = 0.0
    is_first_try: bool = True
    turn: int = 0
    after: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()


def sensor_of(
    task_instance: Any, unique_ids: Iterable[str], *, turn: int = 0, after: Iterable[str] = ()
) -> Sensor:
    """
    Return the sensor that a task instance is.

    :param task_instance: the sensor's
    :param unique_ids: see `Sensor`, and so for the others
    """
    is_first_try = task_instance.try_number <= 1
    # The tasks of a mapped group are made when it is known how many there are, which may be after their producer has begun.
    is_mapped = task_instance.map_index is not None and task_instance.map_index >= 0
    return Sensor(
        unique_ids=tuple(unique_ids),
        task_id=task_instance.task_id,
        made_at=0.0 if is_mapped and is_first_try else made_at(task_instance.id),
        is_first_try=is_first_try,
        turn=turn,
        after=tuple(after),
        upstream=upstream_of(task_instance),
    )


class Update(msgspec.Struct, frozen=True):
    """
    What a sensor learns.

    :param results: the latest entries of its nodes; before the last update only those that are new
    :param decision: what follows from them
    """

    results: tuple[NodeResult, ...]
    decision: Decision

    @property
    def is_over(self) -> bool:
        """Whether this is the last word."""
        return self.decision.verdict is not Verdict.WAIT


def update_of(
    sensor: Sensor,
    producer: Producer,
    entries: Mapping[str, NodeResult],
    began: float,
    *,
    has_waited: bool = False,
) -> Update:
    """
    Return what a sensor learns from a journal.

    The journal of a run that was cleared is there until the code of the producer's next attempt begins, a while after its
    state has become `running`. A sensor must not believe it that was cleared with the run, or added since. Such a sensor was
    made after the attempt had begun that wrote the journal. What Airflow clears together it makes in one transaction, and
    nothing of it starts before that is over; so a sensor that was cleared with its producer was made before the producer's
    next attempt begins, however many tasks were cleared.

    When the producer is over, a sensor that is younger than its last attempt was cleared alone, or added since; unless it has
    waited for the producer, only to see it fail without a journal.

    :param sensor: the sensor
    :param producer: how the run stands
    :param entries: what the journal says of each node
    :param began: when the attempt began that wrote the journal
    :param has_waited: whether the sensor has seen the producer at work, or about to be
    """
    nodes = [(unique_id, entries.get(unique_id)) for unique_id in sensor.unique_ids]
    if not _is_ours(sensor, producer, nodes, began):
        is_alone = producer.state != FAILED or not has_waited
        producer = Producer(producer.state, is_older=is_alone)
        nodes = [(unique_id, None) for unique_id in sensor.unique_ids]
    results = tuple(entry for _, entry in nodes if entry is not None)
    return Update(results, decide(producer, nodes))


def _is_ours(
    sensor: Sensor, producer: Producer, nodes: Iterable[tuple[str, NodeResult | None]], began: float
) -> bool:
    """Whether a journal tells of the attempt that the sensor belongs to."""
    if began >= sensor.made_at:
        return True
    if not sensor.is_first_try:
        return False
    # Where there is no journal, there is none to be doubted. A producer that has ended well has written the journal that is
    # there, should the clocks of two machines say otherwise.
    return not began or (producer.state == SUCCESS and all(entry is not None for _, entry in nodes))


def final_update(unique_ids: Iterable[str], results: Iterable[NodeResult], closed: Closed) -> Update:
    """
    Return what a sensor ends with that has built its own nodes.

    :param unique_ids: the sensor's nodes
    :param results: what became of them
    :param closed: how dbt ended
    """
    producer = Producer(SUCCESS if closed.exit_code == 0 else FAILED, closed)
    entries = {result.unique_id: result for result in results}
    return update_of(Sensor(unique_ids=tuple(unique_ids)), producer, entries, 0.0)
