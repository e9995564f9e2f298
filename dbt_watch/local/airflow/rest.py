"""
A client for the few calls of Airflow's public REST API (v2) that watching a run, and tests, take. Used by `deployment`.

Reference: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

from dbt_watch.exceptions import DbtWatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbt_watch.local.airflow.settings import Login

PAGE: Final = 1000
_WARM_UP_TIMEOUT_S: Final = 60.0
_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0)


class RestError(DbtWatchError):
    """Airflow refused a call; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """How a component of Airflow is; an old heartbeat may be that of a process which is gone already."""

    is_healthy: bool
    heartbeat: datetime | None

    @classmethod
    def from_api(cls, name: str, told: Mapping[str, Any]) -> ComponentHealth:
        """Read one entry of the answer to `monitor/health`."""
        return cls(told.get("status") == "healthy", parse_time(told.get(f"latest_{name}_heartbeat")))


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """One task of one run, as the API tells; times are aware, and None for what has not happened."""

    id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    start_date: datetime | None
    end_date: datetime | None
    operator: str | None
    pid: int | None
    hostname: str | None

    @classmethod
    def from_api(cls, entry: Mapping[str, Any]) -> TaskInstance:
        """Read what is of interest in a `TaskInstanceResponse`."""
        return cls(
            id=entry["id"],
            task_id=entry["task_id"],
            map_index=entry["map_index"],
            state=entry["state"],
            try_number=entry["try_number"],
            start_date=parse_time(entry["start_date"]),
            end_date=parse_time(entry["end_date"]),
            operator=entry.get("operator"),
            pid=entry["pid"],
            hostname=entry["hostname"] or None,
        )


def parse_time(text: str | None) -> datetime | None:
    """Return the time that an ISO text tells; `Z` is understood by Python 3.10 too."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


class AirflowClient:
    """
    Calls to one Airflow; logs in with the first one.

    :param base_url: of the api-server
    :param login: who to be
    :param timeout: seconds for one call
    """

    def __init__(self, base_url: str, login: Login, *, timeout: float = 60.0) -> None:
        self._login = login
        # Settings of proxies in the environment are not for loopback.
        self._http = httpx.Client(base_url=base_url, timeout=timeout, trust_env=False)

    @property
    def token(self) -> str:
        """A token of the API, for another client; it takes a call to get one."""
        if "Authorization" not in self._http.headers:
            self._log_in()
        return str(self._http.headers["Authorization"]).removeprefix("Bearer ")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> dict[str, ComponentHealth]:
        """
        Return how each component is, by its name with underscores; needs no login.

        :raises httpx.TransportError: while the api-server does not answer
        """
        response = self._http.get("/api/v2/monitor/health")
        if not response.is_success:
            raise RestError(_told(response))
        return {name: ComponentHealth.from_api(name, told or {}) for name, told in response.json().items()}

    def warm_up(self) -> None:
        """
        Have the api-server build the API that tasks talk to, which it leaves until the first request for it.

        That takes several seconds in which it answers nobody, and the first task would run into its timeout.
        """
        self._http.get("/execution/health", timeout=_WARM_UP_TIMEOUT_S)

    def import_errors(self) -> list[str]:
        """
        Return the stack traces of the DAG files that could not be imported.

        That of a file which was taken away while Airflow stored it says nothing of one that has its place now.
        """
        return [
            entry["stack_trace"]
            for entry in self.get("importErrors")["import_errors"]
            if not _is_of_missing_file(entry["stack_trace"], entry["filename"])
        ]

    def has_dag(self, dag_id: str) -> bool:
        """Return whether the DAG was parsed and stored."""
        return self._call("GET", f"dags/{quote(dag_id)}").status_code == httpx.codes.OK

    def task_ids(self, dag_id: str) -> list[str]:
        """Return the ids of the tasks of a DAG."""
        return [entry["task_id"] for entry in self.get(f"dags/{quote(dag_id)}/tasks")["tasks"]]

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run and return its run_id; `conf` overrides the parameters of the DAG."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self._answer("POST", f"dags/{quote(dag_id)}/dagRuns", json=body)["dag_run_id"])

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the run as the API tells it: `state`, `start_date`, `end_date`, `conf` and more."""
        return self.get(_run(dag_id, run_id))

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return all tasks of a run; only the latest try of each."""
        found: list[TaskInstance] = []
        while True:
            answer = self.get(f"{_run(dag_id, run_id)}/taskInstances", limit=PAGE, offset=len(found))
            found += map(TaskInstance.from_api, answer["task_instances"])
            if len(found) >= answer["total_entries"] or not answer["task_instances"]:
                return found

    def task_tries(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """Return every try of a task, earlier ones included, as the API tells them."""
        at = "" if map_index < 0 else f"/{map_index}"
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}{at}/tries"
        return list(self.get(path)["task_instances"])

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> str:
        """Return the log of one try as text, one line per entry."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        content = self.get(path, map_index=map_index, full_content=True)["content"]
        return "\n".join(_log_line(entry) for entry in content)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return the value that a task left under `key`, or None where there is none."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key, safe='')}"
        response = self._call("GET", path, params={"map_index": map_index})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        value = _checked(response)["value"]
        return _decoded(value)

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str = "~") -> list[tuple[str, str]]:
        """Return (task_id, key) of each value that a task left, or that all tasks of the run did (`~`)."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries"
        entries = self.get(path, limit=PAGE)["xcom_entries"]
        return [(entry["task_id"], entry["key"]) for entry in entries]

    def clear_tasks(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str] | None = None,
        *,
        only_failed: bool = False,
        latest_version: bool = False,
    ) -> None:
        """
        Clear tasks of a run (all by default), as the button of that name does.

        :param latest_version: whether the run goes on with the DAG as it is now
        """
        body: dict[str, Any] = {
            "dry_run": False,
            "dag_run_id": run_id,
            "only_failed": only_failed,
            "reset_dag_runs": True,
            "run_on_latest_version": latest_version,
        }
        if task_ids is not None:
            body["task_ids"] = list(task_ids)
        self._answer("POST", f"dags/{quote(dag_id)}/clearTaskInstances", json=body)

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task as `success`, `failed` or `skipped`, as a person does in the web interface."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}"
        self._answer("PATCH", path, json={"new_state": state})

    def set_dag_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run as `success` or `failed`."""
        self._answer("PATCH", _run(dag_id, run_id), json={"state": state})

    def unpause_dag(self, dag_id: str) -> None:
        """Let a DAG run, also one that wants to be paused at first."""
        self._answer("PATCH", f"dags/{quote(dag_id)}", json={"is_paused": False})

    def create_backfill(self, dag_id: str, first: datetime, last: datetime, *, at_once: int = 1) -> int:
        """
        Have a DAG run for its dates of the past, and return the id of that.

        :param first: the first date
        :param last: the last one
        :param at_once: how many runs go on at a time
        """
        body = {
            "dag_id": dag_id,
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
            "run_backwards": False,
            "dag_run_conf": {},
            "reprocess_behavior": "none",
            "max_active_runs": at_once,
        }
        return int(self._answer("POST", "backfills", json=body)["id"])

    def create_pool(self, name: str, slots: int, *, include_deferred: bool = False) -> None:
        """Create a pool; with `include_deferred`, tasks that wait in a triggerer take slots of it too."""
        body = {"name": name, "slots": slots, "include_deferred": include_deferred}
        self._answer("POST", "pools", json=body)

    def create_connection(self, conn_id: str, conn_type: str, **fields: Any) -> None:
        """
        Create a connection.

        :param fields: as the API calls them: `host`, `port`, `schema`, `login`, `password`, `extra`, of which the last is JSON
        """
        body = {"connection_id": conn_id, "conn_type": conn_type, **fields}
        self._answer("POST", "connections", json=body)

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """
        Return the answer to a GET of `/api/v2/<path>`, for calls that have no method here.

        :raises RestError: if the API refuses it
        """
        return self._answer("GET", path, params=params)

    def _answer(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        return _checked(self._call(method, path, **arguments))

    def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if "Authorization" not in self._http.headers:
            self._log_in()
        for pause in _PAUSES_S:
            response = self._http.request(method, f"/api/v2/{path}", **arguments)
            if not _is_locked(response):
                return response
            time.sleep(pause)
        return response

    def _log_in(self) -> None:
        who = {"username": self._login.username, "password": self._login.password}
        token = _checked(self._http.post("/auth/token", json=who))["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
        self._http.headers["Accept"] = "application/json"


def _is_locked(response: httpx.Response) -> bool:
    """Return whether SQLite let a request wait too long for another writer; it has changed nothing then."""
    return response.status_code == httpx.codes.INTERNAL_SERVER_ERROR and "Database error" in response.text


def _run(dag_id: str, run_id: str) -> str:
    return f"dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"


def _checked(response: httpx.Response) -> dict[str, Any]:
    if not response.is_success:
        raise RestError(_told(response))
    body: dict[str, Any] = response.json()
    return body


def _told(response: httpx.Response) -> str:
    request = response.request
    return f"{request.method} {request.url.path}: {response.status_code} {response.text[:500]}"


def _log_line(entry: Any) -> str:
    """Return an entry of a structured log as a line; groups and errors keep what a reader looks for."""
    if not isinstance(entry, dict):
        return str(entry)
    line = str(entry.get("event", ""))
    for error in entry.get("error_detail") or ():
        line += f"\n{error.get('exc_type')}: {error.get('exc_value')}"
    return line


def _decoded(value: Any) -> Any:
    """Undo the extra JSON encodings: values set by a trigger's event arrive encoded once more than others."""
    with contextlib.suppress(ValueError):
        while isinstance(value, str) and value[:1] in ("{", "[", '"'):
            value = json.loads(value)
    return value


def _is_of_missing_file(trace: str, filename: str) -> bool:
    last = trace.rstrip().rpartition("\n")[2]
    return last.startswith("FileNotFoundError:") and last.endswith(f"/{filename}'")
