"""
The journal of a task in XCom: written and read back in a triggerer, read on a worker.

`producers.trigger` writes with it. On a worker the task instance itself does this (`xcom_push`); in a triggerer there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.airflow.supervisor import read_xcom, read_xcom_now, write_xcom
from dbt_watch.core.journal.reader import JournalReader, read, read_now

if TYPE_CHECKING:
    from dbt_watch.airflow.task_instances import TaskKey
    from dbt_watch.core.journal.reader import JournalState


def stored_journal(key: TaskKey) -> JournalState:
    """
    Return what the journal of a task tells, on a worker.

    :param key: the task instance
    :raises Exception: when it cannot be read
    """
    reader = JournalReader()
    read_now(reader, lambda name: read_xcom_now(key, name))
    return reader.state


class JournalStore:
    """
    The XComs of one task instance.

    :param key: the task instance
    """

    def __init__(self, key: TaskKey) -> None:
        self._key = key

    async def push(self, key: str, value: str | int) -> None:
        """
        Store an XCom.

        :raises SupervisorError: when it could not be stored
        """
        await write_xcom(self._key, key, value)

    async def read_back(self) -> JournalReader:
        """
        Read the journal as it was left by whoever wrote it before.

        :raises Exception: when it cannot be read
        """
        reader = JournalReader()
        await read(reader, lambda name: read_xcom(self._key, name))
        return reader
