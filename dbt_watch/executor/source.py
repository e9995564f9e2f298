"""The journal of a producer, read by the execution API: what a hub asks in the process that watches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbt_watch.sensors import run_states

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.airflow.execution_api import ExecutionApi
    from dbt_watch.airflow.task_instances import TaskKey


class ApiSource:
    """
    The source of a hub.

    :param api: where to ask
    :param key: the producer's task instance
    :param speaker: the id of the sensor's task instance in whose name it asks; any that waits here, the latest
    """

    def __init__(self, api: ExecutionApi, key: TaskKey, speaker: str) -> None:
        self._api = api
        self._key = key
        self.speaker = speaker

    async def state(self) -> str | None:
        """Return the producer's state."""
        return await run_states.state_of(self._key, self.states)

    async def page(self, key: str) -> Any:
        """Return a value of the journal as it was written, by its key; None when there is no such XCom."""
        return await self._api.xcom(self._key, key, token_of=self.speaker)

    async def states(self, task_ids: tuple[str, ...]) -> Mapping[str, str | None]:
        """Return the states of tasks of the same run."""
        return await self._api.states(self._key, task_ids, token_of=self.speaker)
