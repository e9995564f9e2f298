"""
What tasks and triggers ask of Airflow: the state of a task, and XComs.

Only this module knows the messages by which a task or a trigger talks to its supervisor. Airflow has public calls
around them (`RuntimeTaskInstance.get_task_states`, `XCom.get_one`), but these have no asynchronous form before 3.3,
and the synchronous one shares a single thread among all triggers of a process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
from airflow.sdk.execution_time.comms import (
    AssetEventsResult,
    ErrorResponse,
    GetAssetEventByAssetAlias,
    GetTaskStates,
    GetXCom,
    SetXCom,
    TaskStatesResult,
    XComResult,
)
from asgiref.sync import sync_to_async

from dbt_watch.core.backoff import Backoff
from dbt_watch.exceptions import DbtWatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from dbt_watch.airflow.task_instances import TaskKey

T = TypeVar("T")

log = logging.getLogger(__name__)

# Airflow asks for states in one query string. Proxies take 8 KB of it and httpx 64 KB, so this many characters of task
# ids go into one request.
_MAX_QUERY_CHARS: Final = 6_000
_PER_ID_CHARS: Final = len("&task_ids=")

# In seconds: how long an answer is waited for where there is nobody else to go on.
PATIENCE: Final = 60.0
_PAUSE_FIRST: Final = 0.5
_PAUSE_LIMIT: Final = 10.0


class SupervisorError(DbtWatchError):
    """Anything but an answer came back from the supervisor; the call may be tried again."""


async def read_state(key: TaskKey) -> str | None:
    """
    Ask for the state of a task, in a triggerer; None before it is scheduled.

    :raises SupervisorError: when there was no usable answer
    """
    return _state(key, await _ask(_ask_state(key)))


async def read_xcom(key: TaskKey, name: str) -> Any:
    """
    Read an XCom of a task, in a triggerer; None when it is not there.

    :raises SupervisorError: when there was no usable answer
    """
    answer = _stored(await _ask(_ask_xcom(key, name)))
    return None if answer is None else await _by_backend("deserialize_value", answer)


async def from_stored(name: str, value: Any) -> Any:
    """
    Return what an XCom means that lies in Airflow's database, where an event loop runs.

    :param name: its key
    :param value: as it is stored there
    """
    return await _by_backend("deserialize_value", XComResult(key=name, value=value))


async def to_stored(key: TaskKey, name: str, value: Any) -> Any:
    """
    Return what is to be stored for an XCom in Airflow's database, where an event loop runs.

    :param key: the task that it is of
    :param name: its key
    :param value: what it means
    """
    return await _by_backend("serialize_value", value, key=name, **msgspec.structs.asdict(key))


async def read_states(key: TaskKey, task_ids: Iterable[str]) -> dict[str, str | None]:
    """
    Ask for the states of tasks of the same run and map index as another, in a triggerer.

    One request for each 6,000 characters of task ids.

    :raises SupervisorError: when there was no usable answer
    """
    states: dict[str, str | None] = {}
    for batch in batches(task_ids):
        states |= _states(key, batch, await _ask(_ask_states(key, batch)))
    return states


async def write_xcom(key: TaskKey, name: str, value: Any) -> None:
    """
    Store an XCom of a task, in a triggerer.

    :raises SupervisorError: when it was refused
    """
    where = msgspec.structs.asdict(key)
    stored = await to_stored(key, name, value)
    answer = await _ask(SetXCom(key=name, value=stored, **where))
    if isinstance(answer, ErrorResponse):
        raise SupervisorError(f"the XCom {name} was refused: {answer!r}")


def read_state_now(key: TaskKey) -> str | None:
    """Ask for the state of a task, on a worker."""
    return _state(key, _comms().send(_ask_state(key)))


def read_states_now(key: TaskKey, task_ids: Iterable[str]) -> dict[str, str | None]:
    """
    Ask for the states of tasks of the same run and map index as another, on a worker.

    One request for each 6,000 characters of task ids.
    """
    states: dict[str, str | None] = {}
    for batch in batches(task_ids):
        states |= _states(key, batch, _comms().send(_ask_states(key, batch)))
    return states


def read_all_states_now(key: TaskKey, task_ids: Iterable[str]) -> dict[str, list[str | None]]:
    """
    Ask for the states of tasks of the same run, of all their instances, on a worker.

    :param key: a task of the run; an instance of its own map index stands for those of a task that is mapped with it
    :param task_ids: whose states
    """
    found: dict[str, list[str | None]] = {}
    for batch in batches(task_ids):
        states: dict[str, str | None] = {}
        for index in dict.fromkeys((key.map_index, -1)):
            here = msgspec.structs.replace(key, map_index=index)
            answer = _comms().send(_ask_states(here, batch))
            if not isinstance(answer, TaskStatesResult):
                raise SupervisorError(f"no task states but {answer!r}")
            states |= {
                name: None if state is None else str(getattr(state, "value", state))
                for name, state in (answer.task_states.get(key.run_id) or {}).items()
            }
        for task_id in batch:
            found[task_id] = instances_in(task_id, key.map_index, states)
    return found


def instances_in(task_id: str, map_index: int, states: Mapping[str, str | None]) -> list[str | None]:
    """
    Return the states of the instances of a task.

    :param task_id: the task
    :param map_index: of the task that asks
    :param states: by name: that of a mapped instance is the task's id, an underscore and the map index
    """
    own = f"{task_id}_{map_index}"
    if task_id in states:
        return [states[task_id]]
    if own in states:
        return [states[own]]
    return [
        state
        for name, state in states.items()
        if name.startswith(f"{task_id}_") and name[len(task_id) + 1 :].isdecimal()
    ]


def read_xcom_now(key: TaskKey, name: str) -> Any:
    """Read an XCom of a task, on a worker; None when it is not there."""
    answer = _stored(_comms().send(_ask_xcom(key, name)))
    return None if answer is None else _backend().deserialize_value(answer)


def read_events_by_alias_now(alias: str, after: datetime) -> Sequence[Any]:
    """
    Return the events of assets that tasks have told by an alias, on a worker.

    :param alias: its name
    :param after: how far back; before Airflow 3.2, which cannot be told, all of them
    :raises SupervisorError: when there was no usable answer
    """
    times: dict[str, Any] = {"after": after} if "after" in GetAssetEventByAssetAlias.model_fields else {}
    answer = _comms().send(GetAssetEventByAssetAlias(alias_name=alias, **times))
    if not isinstance(answer, AssetEventsResult):
        raise SupervisorError(f"no events of assets but {answer!r}")
    return answer.asset_events


def patiently(ask: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """
    Return the answer to a question, asked again while there is none; on a worker.

    :param ask: asks Airflow; may raise anything
    :param patience: seconds for which it is asked again
    :raises Exception: what the last question raised
    """
    deadline, backoff = time.monotonic() + patience, Backoff(_PAUSE_FIRST, _PAUSE_LIMIT)
    while True:
        try:
            return ask()
        except Exception as error:
            pause = backoff.next()
            if time.monotonic() + pause > deadline:
                raise
            log.warning("Airflow did not respond (%s); retrying in %.1f s", error, pause)
        time.sleep(pause)


def runs_in_dag_test() -> bool:
    """Return whether this task runs inside `dag.test()`, where tasks run one after the other in one process."""
    return type(_comms()).__name__ == "InProcessSupervisorComms"


class SupervisorProcess:
    """
    The process of Airflow that watches over this task: its parent. There is none in `dag.test()`.

    A task whose supervisor was killed runs on, but nobody hears of it any more.
    """

    def __init__(self) -> None:
        self._pid = None if runs_in_dag_test() else os.getppid()

    @property
    def has_gone(self) -> bool:
        """Whether it has ended before this task."""
        return self._pid is not None and os.getppid() != self._pid


def is_not_found(error: BaseException) -> bool:
    """Return whether an error says that Airflow does not know what it was asked for, such as a try that was replaced."""
    detail = getattr(getattr(error, "error", None), "detail", None) or {}
    return bool(detail.get("status_code") == HTTPStatus.NOT_FOUND)


async def _ask(message: Any) -> Any:
    # Airflow 3.1 has one request under way at a time: one that were cancelled would leave its answer to the next.
    return await asyncio.shield(asyncio.ensure_future(_comms().asend(message)))


def _comms() -> Any:
    # The name is bound when a task or a triggerer starts, so it must be looked up at each call.
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    return task_runner.SUPERVISOR_COMMS


def batches(task_ids: Iterable[str]) -> Iterator[list[str]]:
    """Yield task ids in batches that fit into one request each, in their order."""
    batch: list[str] = []
    chars = 0
    for task_id in task_ids:
        needed = len(quote(task_id)) + _PER_ID_CHARS
        if batch and chars + needed > _MAX_QUERY_CHARS:
            yield batch
            batch, chars = [], 0
        batch.append(task_id)
        chars += needed
    if batch:
        yield batch


def _ask_state(key: TaskKey) -> GetTaskStates:
    return _ask_states(key, [key.task_id])


def _ask_states(key: TaskKey, task_ids: Iterable[str]) -> GetTaskStates:
    return GetTaskStates(
        dag_id=key.dag_id,
        run_ids=[key.run_id],
        task_ids=list(task_ids),
        map_index=key.map_index if key.map_index >= 0 else None,
    )


def _ask_xcom(key: TaskKey, name: str) -> GetXCom:
    return GetXCom(
        key=name, dag_id=key.dag_id, run_id=key.run_id, task_id=key.task_id, map_index=key.map_index
    )


def _state(key: TaskKey, answer: Any) -> str | None:
    return _states(key, [key.task_id], answer)[key.task_id]


def _states(key: TaskKey, task_ids: Iterable[str], answer: Any) -> dict[str, str | None]:
    if not isinstance(answer, TaskStatesResult):
        raise SupervisorError(f"no task states but {answer!r}")
    return states_in(key, task_ids, answer.task_states)


def states_in(
    key: TaskKey, task_ids: Iterable[str], by_run: Mapping[str, Mapping[str, Any]]
) -> dict[str, str | None]:
    """
    Return the states of some tasks from Airflow's answer.

    :param key: a task of the same run and map index
    :param task_ids: whose states
    :param by_run: the states by run_id and name
    """
    states: Mapping[str, Any] = by_run.get(key.run_id) or {}
    suffix = "" if key.map_index < 0 else f"_{key.map_index}"
    found = {task_id: states.get(task_id + suffix) for task_id in task_ids}
    return {
        task_id: None if state is None else str(getattr(state, "value", state))
        for task_id, state in found.items()
    }


def _stored(answer: Any) -> XComResult | None:
    if not isinstance(answer, XComResult):
        raise SupervisorError(f"no XCom but {answer!r}")
    return None if answer.value is None else answer


def _backend() -> Any:
    # Looked up late: the configured XCom backend decides what is stored, and what a stored value means.
    from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415

    return XCom


async def _by_backend(method: str, *args: Any, **kwargs: Any) -> Any:
    """
    Call a method of the XCom backend, in a triggerer.

    Airflow's own backend only converts values. Another one may read and write an object store, which must not block the
    event loop that all triggers share. `sync_to_async`, and no other thread: there Airflow's synchronous calls work.
    """
    from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415

    call = getattr(_backend(), method)
    if call is getattr(BaseXCom, method):
        return call(*args, **kwargs)
    return await sync_to_async(call)(*args, **kwargs)
