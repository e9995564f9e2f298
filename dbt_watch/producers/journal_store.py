"""
The journal of a task in XCom: written and read back in a triggerer, read on a worker.

`producers.dbt_trigger` writes with it. On a worker the task instance itself does this (`xcom_push`); in a triggerer there is none.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from dbt_watch.airflow.supervisor import read_xcom, read_xcom_now, write_xcom
from dbt_watch.core.journal.format import WRITER_KEY
from dbt_watch.core.journal.reader import JournalReader, read, read_now
from dbt_watch.exceptions import DbtWatchError

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


# In seconds. A triggerer loses its triggers to another one when it was not heard of for longer
# (`[triggerer] triggerer_health_check_threshold`, 30 s by default).
SURE_FOR_S: Final = 5.0


class JournalLost(DbtWatchError):
    """Another triggerer goes on with this journal."""


class JournalStore:
    """
    The XComs of one task instance, for the one triggerer that writes its journal.

    A triggerer that stood still may have lost the task to another one, and does not know that yet when it is back. If
    both wrote pages, readers would miss what stands in those that were overwritten. So whoever goes on with a journal says so
    first, and one who has not written for a while looks before it writes.

    :param key: the task instance
    """

    def __init__(self, key: TaskKey) -> None:
        self._key = key
        self._writer = uuid4().hex
        self._sure_until = 0.0

    async def push(self, key: str, value: str | int) -> None:
        """
        Store an XCom.

        :raises JournalLost: when another triggerer has read the journal back since; nothing was stored
        :raises SupervisorError: when it could not be stored
        """
        if time.monotonic() > self._sure_until and await read_xcom(self._key, WRITER_KEY) != self._writer:
            raise JournalLost("another triggerer has taken over this build")
        self._sure_until = time.monotonic() + SURE_FOR_S
        await write_xcom(self._key, key, value)

    async def read_back(self) -> JournalReader:
        """
        Read the journal as it was left by whoever wrote it before, who writes no more from now on.

        :raises Exception: when it cannot be read
        """
        await write_xcom(self._key, WRITER_KEY, self._writer)
        reader = JournalReader()
        await read(reader, lambda name: read_xcom(self._key, name))
        return reader
