"""
Airflow's execution API, asked over HTTP by a process that speaks for many tasks at once.

`executor` uses it in a process beside the scheduler. Airflow's own client speaks for one task, and blocks; from it come
the version of the API, the settings of TLS and the name of this machine. The tokens are made here, as the scheduler
makes those of its workloads: what waits for dbt may wait longer than a token is valid.
"""

from __future__ import annotations

import ssl
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx
from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_args
from airflow.configuration import conf
from airflow.sdk.api import client as airflow_client
from airflow.sdk.api.datamodels._generated import API_VERSION

from dbt_watch.airflow.asset_events import as_outlets
from dbt_watch.airflow.supervisor import batches, from_stored, states_in, to_stored
from dbt_watch.core.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dbt_watch.airflow.task_instances import TaskKey
    from dbt_watch.core.assets import AssetEvent

AT_ONCE: Final = 8
# How urgent a request is. Of many tasks that end together, some so end before the others, instead of all of them last.
_USUAL, _RESULTS, _END = range(3)
# In seconds: a token is renewed when this much of its time is left at the latest.
_TOKEN_RESERVE: Final = 60.0
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GONE})
# A token may be refused because a clock is wrong, or because a secret is being replaced.
_REFUSED: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)


class ExecutionApiError(RuntimeError):
    """No usable answer came; the request may be made again."""


class RequestRefused(Exception):
    """The API does not accept the request for what is in it; to make it again is of no use."""


class TaskIsGone(Exception):
    """The task instance is not there any more, or not in a state that the request is for: a person has cleared or marked it."""


class Identity:
    """
    Who runs a task, for Airflow: it takes heartbeats, and a second start, from the same one alone.

    :param hostname: where the task's log is
    :param pid: a process there
    :param unixname: a user there
    """

    def __init__(self, hostname: str, pid: int, unixname: str) -> None:
        self.hostname = hostname
        self.pid = pid
        self.unixname = unixname


def hostname() -> str:
    """Return the name of this machine, as Airflow's components ask each other for logs by it."""
    return str(airflow_client.get_hostname())


class ExecutionApi:
    """
    A client.

    :param url: where the API is, as Airflow's executors tell their workers
    :param at_once: how many requests are under way at most; of further ones, those that end a task are sent first
    :param transport: another way to it than the network
    """

    def __init__(
        self,
        url: str,
        *,
        at_once: int = AT_ONCE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._tokens = _Tokens()
        self._turns = Turns(at_once)
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"airflow-api-version": API_VERSION},
            timeout=airflow_client.API_TIMEOUT,
            transport=transport,
            **(_tls() if url.startswith("https:") and transport is None else {}),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def states(self, key: TaskKey, task_ids: Iterable[str], *, token_of: str) -> dict[str, str | None]:
        """
        Return the states of tasks of the same run and map index as another; None for one that is not scheduled.

        :param key: the other
        :param task_ids: whose states
        :param token_of: the id of the task instance that asks
        :raises ExecutionApiError: when there was no usable answer
        """
        states: dict[str, str | None] = {}
        for batch in batches(task_ids):
            query: dict[str, Any] = {"dag_id": key.dag_id, "run_ids": [key.run_id], "task_ids": batch}
            if key.map_index >= 0:
                query["map_index"] = key.map_index
            answer = await self._ask("GET", "task-instances/states", token_of, params=query)
            states |= states_in(key, batch, answer.json()["task_states"])
        return states

    async def xcom(self, key: TaskKey, name: str, *, token_of: str) -> Any:
        """
        Return an XCom of a task; None when it is not there.

        :param key: the task
        :param name: the XCom's key
        :param token_of: the id of the task instance that asks
        :raises ExecutionApiError: when there was no usable answer
        """
        query = {"map_index": key.map_index} if key.map_index >= 0 else {}
        try:
            answer = await self._ask("GET", _xcom_path(key, name), token_of, params=query)
        except TaskIsGone:
            return None
        value = answer.json()["value"]
        return None if value is None else await from_stored(name, value)

    async def set_xcom(self, key: TaskKey, name: str, value: Any, *, token_of: str) -> None:
        """
        Store an XCom of a task.

        :param key: the task
        :param name: the XCom's key
        :param value: what it means
        :param token_of: the id of the task instance that asks
        :raises ExecutionApiError: when there was no usable answer
        :raises RequestRefused: when the value cannot be stored
        :raises TaskIsGone: when there is no such task any more
        """
        query = {"map_index": key.map_index} if key.map_index >= 0 else {}
        stored = await to_stored(key, name, value)
        await self._ask("POST", _xcom_path(key, name), token_of, urgency=_RESULTS, params=query, json=stored)

    async def begin(self, task: str, identity: Identity, when: datetime) -> None:
        """
        Let a queued task run, or change when a running one has begun.

        :param task: its id
        :param identity: who runs it
        :param when: since when
        :raises ExecutionApiError: when there was no usable answer
        :raises TaskIsGone: when it is neither queued nor run by the same one
        """
        body = {
            "state": "running",
            "hostname": identity.hostname,
            "unixname": identity.unixname,
            "pid": identity.pid,
            "start_date": when.isoformat(),
        }
        await self._ask("PATCH", f"task-instances/{task}/run", task, json=body)

    async def heartbeat(self, task: str, identity: Identity) -> None:
        """
        Tell that a task is still run.

        :param task: its id
        :param identity: who runs it
        :raises ExecutionApiError: when there was no usable answer
        :raises TaskIsGone: when it is not to run any more
        """
        body = {"hostname": identity.hostname, "pid": identity.pid}
        await self._ask("PUT", f"task-instances/{task}/heartbeat", task, urgency=_END, json=body)

    async def end(self, task: str, state: str, when: datetime, built: Iterable[AssetEvent] = ()) -> None:
        """
        End a running task.

        :param task: its id
        :param state: "success", "failed", "skipped" or "upstream_failed"
        :param when: since when it is over
        :param built: of which builds Airflow is told by assets, if it ends as a success
        :raises ExecutionApiError: when there was no usable answer
        :raises TaskIsGone: when it does not run, and is not in that state either
        """
        body: dict[str, Any] = {"state": state, "end_date": when.isoformat()}
        if state == "success":
            body |= as_outlets(built)
        await self._ask("PATCH", f"task-instances/{task}/state", task, urgency=_END, json=body)

    async def _ask(
        self, method: str, path: str, token_of: str, *, urgency: int = _USUAL, **request: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._tokens.of(token_of)}"}
        try:
            async with self._turns.turn(urgency):
                answer = await self._client.request(method, path, headers=headers, **request)
        except httpx.HTTPError as error:
            raise ExecutionApiError(f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            return answer
        text = f"{answer.status_code} for {method} {path}: {answer.text[:_SHOWN]}"
        if answer.status_code in _GONE and _is_by_airflow(answer):
            raise TaskIsGone(text)
        raise RequestRefused(text) if answer.status_code in _REFUSED else ExecutionApiError(text)


_SHOWN: Final = 200


def _is_by_airflow(answer: httpx.Response) -> bool:
    """Return whether Airflow itself says that something is not there, and not a proxy that finds no Airflow."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, TypeError, KeyError):
        return False
    return bool(detail != "Not Found")  # what it says of a path that it does not have


class _Tokens:
    """Tokens for task instances, by their ids. Nothing of them is kept that has run out."""

    def __init__(self) -> None:
        self._generator = JWTGenerator(
            valid_for=conf.getint("execution_api", "jwt_expiration_time"),
            audience=conf.get_mandatory_list_value("execution_api", "jwt_audience")[0],
            issuer=conf.get("api_auth", "jwt_issuer", fallback=None),
            **get_signing_args(make_secret_key_if_needed=False),
        )
        self._kept: dict[str, tuple[str, float]] = {}
        self._cleaned_at = 0.0

    def of(self, task: str) -> str:
        now = time.monotonic()
        token, until = self._kept.get(task, ("", 0.0))
        if now >= until:
            token = self._generator.generate(extras={"sub": task, "scope": "execution"})
            valid_for = self._generator.valid_for
            self._kept[task] = (token, now + max(valid_for / 2, valid_for - _TOKEN_RESERVE))
            self._clean(now)
        return token

    def _clean(self, now: float) -> None:
        if now - self._cleaned_at > _TOKEN_RESERVE:
            self._cleaned_at = now
            self._kept = {task: kept for task, kept in self._kept.items() if kept[1] > now}


def _xcom_path(key: TaskKey, name: str) -> str:
    parts = (key.dag_id, key.run_id, key.task_id, name)
    return "/".join(["xcoms", *(quote(part, safe="") for part in parts)])


def _tls() -> dict[str, Any]:
    """Return how the API's certificate is checked, and what this side shows it: as Airflow's own client does."""
    context = ssl.create_default_context(cafile=airflow_client.API_SSL_CA_FILE_PATH)
    if airflow_client.API_CLIENT_USE_PUBLIC_CERTS:
        import certifi  # noqa: PLC0415 - only there

        context.load_verify_locations(certifi.where())
    if airflow_client.API_SSL_CERT_PATH:
        context.load_verify_locations(airflow_client.API_SSL_CERT_PATH)
    if airflow_client.API_CLIENT_SSL_CERT and airflow_client.API_CLIENT_SSL_KEY:
        context.load_cert_chain(airflow_client.API_CLIENT_SSL_CERT, airflow_client.API_CLIENT_SSL_KEY)
    return {"verify": context}
