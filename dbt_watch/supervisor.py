"""
What tasks and triggers ask of Airflow: the state of a task, and XComs.

Only this module knows the messages by which a task or a trigger talks to its supervisor. Airflow has public calls
around them (`RuntimeTaskInstance.get_task_states`, `XCom.get_one`), but these have no asynchronous form before 3.3,
and the synchronous one shares a single thread among all triggers of a process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    GetXCom,
    SetXCom,
    TaskStatesResult,
    XComResult,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TaskKey(msgspec.Struct, frozen=True):
    """One task instance: what its XComs and its state are found by. `map_index` is -1 for an unmapped task."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


def key_of(task_instance: Any, task_id: str | None = None) -> TaskKey:
    """
    Give the key of a task instance, or of another task in the same run and of the same map index.

    :param task_instance: a task's or a trigger's own
    :param task_id: the other task
    """
    map_index = -1 if task_instance.map_index is None else task_instance.map_index
    return TaskKey(task_instance.dag_id, task_instance.run_id, task_id or task_instance.task_id, map_index)


class SupervisorError(RuntimeError):
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
    return _value(await _ask(_ask_xcom(key, name)))


async def read_states(key: TaskKey, task_ids: Iterable[str]) -> dict[str, str | None]:
    """
    Ask for the states of tasks of the same run and map index as another, in a triggerer.

    :raises SupervisorError: when there was no usable answer
    """
    wanted = list(task_ids)
    return _states(key, wanted, await _ask(_ask_states(key, wanted))) if wanted else {}


async def write_xcom(key: TaskKey, name: str, value: Any) -> None:
    """
    Store an XCom of a task, in a triggerer.

    :raises SupervisorError: when it was refused
    """
    # Looked up late: the configured XCom backend decides what is stored.
    from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415

    where = msgspec.structs.asdict(key)
    stored: Any = XCom.serialize_value(value, key=name, **where)
    answer = await _ask(SetXCom(key=name, value=stored, **where))
    if isinstance(answer, ErrorResponse):
        raise SupervisorError(f"the XCom {name} was refused: {answer!r}")


def read_state_now(key: TaskKey) -> str | None:
    """Ask for the state of a task, on a worker."""
    return _state(key, _comms().send(_ask_state(key)))


def read_states_now(key: TaskKey, task_ids: Iterable[str]) -> dict[str, str | None]:
    """Ask for the states of tasks of the same run and map index as another, on a worker."""
    wanted = list(task_ids)
    return _states(key, wanted, _comms().send(_ask_states(key, wanted))) if wanted else {}


def read_xcom_now(key: TaskKey, name: str) -> Any:
    """Read an XCom of a task, on a worker; None when it is not there."""
    return _value(_comms().send(_ask_xcom(key, name)))


def runs_in_dag_test() -> bool:
    """Tell whether this task runs inside `dag.test()`, where tasks run one after the other in one process."""
    return type(_comms()).__name__ == "InProcessSupervisorComms"


async def _ask(message: Any) -> Any:
    # Airflow 3.1 has one request under way at a time: one that were cancelled would leave its answer to the next.
    return await asyncio.shield(asyncio.ensure_future(_comms().asend(message)))


def _comms() -> Any:
    # The name is bound when a task or a triggerer starts, so it must be looked up at each call.
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    return task_runner.SUPERVISOR_COMMS


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
    states: Mapping[str, Any] = answer.task_states.get(key.run_id) or {}
    suffix = "" if key.map_index < 0 else f"_{key.map_index}"
    found = {task_id: states.get(task_id + suffix) for task_id in task_ids}
    return {
        task_id: None if state is None else str(getattr(state, "value", state))
        for task_id, state in found.items()
    }


def _value(answer: Any) -> Any:
    if not isinstance(answer, XComResult):
        raise SupervisorError(f"no XCom but {answer!r}")
    if answer.value is None:
        return None
    # Looked up late: the configured XCom backend decides what a stored value means.
    from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415

    return XCom.deserialize_value(answer)
