"""
The journal of a task in XCom, written and read back in a triggerer.

`producers.deferred` uses it. On a worker the task instance itself does this (`xcom_push`); in a triggerer there is none,
and the calls of Airflow around these messages have no asynchronous form before 3.3.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, SetXCom, TaskStatesResult, XComResult

from dbt_watch.core.journal import JournalState
from dbt_watch.core.pages import decode_page, page_key

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoAnswer(RuntimeError):
    """Anything but an answer came back from the triggerer's supervisor; the call may be tried again."""


class JournalStore:
    """
    The XComs of one task instance.

    :param task_instance: as a trigger has it
    """

    def __init__(self, task_instance: Any) -> None:
        map_index = task_instance.map_index
        self._task_id: str = task_instance.task_id
        self._map_index = -1 if map_index is None else int(map_index)
        self._run = {"dag_id": task_instance.dag_id, "run_id": task_instance.run_id}

    async def push(self, key: str, value: str | int) -> None:
        """
        Store an XCom.

        :raises NoAnswer: when it could not be stored
        """
        # Looked up late: the configured XCom backend decides what is stored.
        from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415

        where: dict[str, Any] = {**self._run, "task_id": self._task_id, "map_index": self._map_index}
        stored: Any = XCom.serialize_value(value, key=key, **where)
        answer = await _ask(SetXCom(key=key, value=stored, **where))
        if answer is not None and type(answer).__name__ == "ErrorResponse":
            raise NoAnswer(f"the XCom {key} was refused: {answer!r}")

    async def read_back(self) -> JournalState:
        """
        Read the journal as it was left by whoever wrote it before.

        :raises Exception: when it cannot be read
        """
        state = JournalState()
        while state.closed is None:
            page = decode_page(await self._read(page_key(state.next_seq)) or "")
            if page is None:
                break
            state.apply(page.chunk)
        return state

    async def state(self) -> str | None:
        """
        Ask for the state of the task itself.

        :raises NoAnswer: when there was no usable answer
        """
        map_index = self._map_index if self._map_index >= 0 else None
        answer = await _ask(
            GetTaskStates(
                dag_id=self._run["dag_id"],
                run_ids=[self._run["run_id"]],
                task_ids=[self._task_id],
                map_index=map_index,
            )
        )
        if not isinstance(answer, TaskStatesResult):
            raise NoAnswer(f"no task states but {answer!r}")
        return own_state(answer.task_states.get(self._run["run_id"]) or {}, self._task_id)

    async def _read(self, key: str) -> Any:
        from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415 - as above

        answer = await _ask(GetXCom(key=key, task_id=self._task_id, map_index=self._map_index, **self._run))
        if not isinstance(answer, XComResult):
            raise NoAnswer(f"no XCom but {answer!r}")
        return None if answer.value is None else XCom.deserialize_value(answer)


def own_state(states: Mapping[str, Any], task_id: str) -> str | None:
    """Give the one state of an answer to a question for one task; a mapped task's has its index in the key."""
    found = next((state for key, state in states.items() if key.startswith(task_id)), None)
    return None if found is None else str(getattr(found, "value", found))


async def _ask(message: Any) -> Any:
    # The name is bound when the triggerer starts, so it must be looked up at each call.
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    # Airflow 3.1 has one request under way at a time: one that were cancelled would leave its answer to the next.
    return await asyncio.shield(asyncio.ensure_future(task_runner.SUPERVISOR_COMMS.asend(message)))
