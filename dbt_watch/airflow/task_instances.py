"""
What a task instance tells of itself: which one it is, when Airflow made it, and what its try counts mean.

Airflow keeps all of this in public attributes; what they mean together is written down nowhere.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec


class TaskKey(msgspec.Struct, frozen=True):
    """One task instance: what its XComs and its state are found by. `map_index` is -1 for an unmapped task."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


def key_of(task_instance: Any, task_id: str | None = None) -> TaskKey:
    """
    Return the key of a task instance, or of another task in the same run and of the same map index.

    :param task_instance: a task's or a trigger's own
    :param task_id: the other task
    """
    map_index = -1 if task_instance.map_index is None else task_instance.map_index
    return TaskKey(task_instance.dag_id, task_instance.run_id, task_id or task_instance.task_id, map_index)


def made_at(identity: object) -> float:
    """
    Return when Airflow made a try of a task, in seconds since the epoch; 0 when its id does not tell.

    Airflow gives each try an id of its own when it is made: with the DAG run, by a retry or by a clear. It is a UUID of
    version 7, which begins with the time in milliseconds (RFC 9562).

    :param identity: the id of the task instance
    """
    number = identity if isinstance(identity, UUID) else UUID(str(identity))
    return (number.int >> 80) / 1000 if number.version == _TIME_ORDERED else 0.0


_TIME_ORDERED: Final = 7


def upstream_of(task_instance: Any) -> tuple[str, ...]:
    """
    Return the ids of the tasks directly before that of a task instance; none where its task is not known.

    A triggerer knows it from Airflow 3.3 on, of what the scheduler has handed to it, unless it is light.
    """
    task = getattr(task_instance, "task", None)
    return tuple(sorted(getattr(task, "upstream_task_ids", ())))


def will_retry(task_instance: Any) -> bool:
    """Return whether Airflow makes another try when this one fails."""
    return bool(task_instance.try_number <= (task_instance.max_tries or 0))


def generation_of(task_instance: Any) -> str:
    """
    Return between which clears a try is made.

    A retry leaves the number of tries that a task may have as it is and each clear raises it, which is all by which the two
    can be told apart.
    """
    return str(task_instance.max_tries)


def is_first_since_clear(task_instance: Any) -> bool:
    """
    Return whether a person has cleared the task before this try.

    Airflow allows a cleared task as many tries more as it has retries. A task that is cleared while it runs is tried again
    like any other that has failed.
    """
    number, retries = task_instance.try_number, task_instance.task.retries
    return bool(number > 1 and number == task_instance.max_tries - retries + 1)
