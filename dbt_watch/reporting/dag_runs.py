"""
Reads a run of dbt from a run of a DAG, by Airflow's public REST API (v2).

It asks for the journals of the producers, and for what the tasks of nodes have left where there is none, or where these know more:
of a later attempt the journal has what that has built, and of a node that was built again alone it has nothing. `reporting.command`
calls it.

Reference: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from dbt_watch.core.journal.format import part_key
from dbt_watch.core.log.entries import moment
from dbt_watch.core.packed import PackedError, piece_key
from dbt_watch.core.run_notes import OUTLINE_KEY, unpack_outline
from dbt_watch.exceptions import ArgumentError, DbtWatchError
from dbt_watch.reporting.evidence import of_pods, with_later
from dbt_watch.reporting.sources import evidence_of_journal, evidence_of_sensors, results_of_sensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from typing_extensions import Self

    from dbt_watch.reporting.evidence import Evidence

TOKEN_VARIABLE: Final = "DBT_WATCH_AIRFLOW_TOKEN"  # noqa: S105 - the name of a variable, not its value
"""The environment variable that holds a token of Airflow's API."""
OPTION: Final = "--dag-run"

_TIMEOUT_S: Final = 30.0
_RETURN_VALUE: Final = "return_value"


class AirflowApiError(DbtWatchError):
    """Airflow did not answer, or refused a request; the message says which, and why."""


class _Task(NamedTuple):
    task_id: str
    map_index: int

    def __str__(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


def evidence_of_dag_run(
    airflow: str,
    dag_id: str,
    run_id: str,
    *,
    token: str | None,
    group: str | None = None,
    map_index: int | None = None,
) -> Evidence:
    """
    Return what a run of a DAG tells of dbt.

    :param airflow: the URL of Airflow's web interface
    :param token: of its API; None where it asks for none
    :param group: the task group of the project; by default all tasks are looked at
    :param map_index: of a mapped project, which of its instances
    :raises AirflowApiError: when Airflow does not answer, or refuses
    :raises ArgumentError: when there is nothing of dbt in the run, or more than one project can be meant
    """
    with _Run(airflow, dag_id, run_id, token) as run:
        producers = _of(run.tasks_with(part_key(0)), group, map_index)
        source = f"the DAG run {dag_id} {run_id}"
        if producers:
            is_alone = len(producers) == 1
            if group is None and not is_alone:
                _refuse_several(run.groups_of(producers))
            parts = [
                evidence_of_journal(partial(run.xcom, task), source, "" if is_alone else str(task))
                for task in producers
            ]
            others = _of(run.tasks_with(_RETURN_VALUE), group, map_index)
            others = _that_may_know_more(others, producers, run.tries())
            left = results_of_sensors(run.xcom(task, _RETURN_VALUE) for task in others)
            return with_later(of_pods(parts, source), left)
        others = _of(run.tasks_with(_RETURN_VALUE), group, map_index)
        evidence = evidence_of_sensors((run.xcom(task, _RETURN_VALUE) for task in others), source)
    if evidence is None:
        raise ArgumentError(
            OPTION, f"{dag_id} {run_id}", "a DAG run in which dbt has run: this one has no journal"
        )
    return evidence


def _of(tasks: list[_Task], group: str | None, map_index: int | None) -> list[_Task]:
    """Return the tasks of one project."""
    if group is not None:
        tasks = [task for task in tasks if task.task_id.startswith(f"{group}.")]
    indexes = sorted({task.map_index for task in tasks if task.map_index >= 0})
    if map_index is not None:
        return [task for task in tasks if task.map_index == map_index]
    if len(indexes) > 1:
        raise ArgumentError(
            "--map-index", None, f"one of {', '.join(map(str, indexes))}: the project is mapped"
        )
    return tasks


def _refuse_several(groups: set[str]) -> None:
    """
    Refuse to take several projects for one.

    :param groups: their task groups
    :raises ArgumentError: naming them, when there are several
    """
    if len(groups) > 1:
        known = sorted(groups)
        raise ArgumentError(
            "--project", None, f"one of {', '.join(known)}: the DAG has several projects", known=known
        )


class _Try(NamedTuple):
    """The latest try of a task."""

    number: int
    began: datetime | None
    ended: datetime | None


def _that_may_know_more(
    tasks: list[_Task], producers: list[_Task], tries: Mapping[_Task, _Try]
) -> list[_Task]:
    """
    Return the tasks that may have left something that no journal tells.

    :param tasks: those that have left a value
    :param producers: those whose journals are known
    :param tries: the latest of each task
    """
    known = [tries[task] for task in producers if task in tries]
    again = [each.began for each in known if each.number > 1 and each.began is not None]
    over = min((each.ended for each in known if each.ended is not None), default=None)
    found = []
    for task in tasks:
        last = tries.get(task)
        if last is None or last.ended is None:
            continue
        is_of_an_earlier_attempt = bool(again) and last.ended < max(again)
        is_built_again = over is not None and last.number > 1 and last.ended > over
        if task not in producers and (is_of_an_earlier_attempt or is_built_again):
            found.append(task)
    return found


class _Run:
    """The XComs of one run of a DAG, and the tries of its tasks."""

    def __init__(self, airflow: str, dag_id: str, run_id: str, token: str | None) -> None:
        try:
            url = httpx.URL(airflow)
        except (httpx.InvalidURL, TypeError) as error:
            raise ArgumentError("--airflow", airflow, f"the URL of Airflow ({error})") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ArgumentError("--airflow", airflow, "the URL of Airflow, such as https://airflow.example")
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._path = f"api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        self._http = httpx.Client(
            base_url=airflow.rstrip("/") + "/", headers=headers, timeout=_TIMEOUT_S, follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def tasks_with(self, key: str) -> list[_Task]:
        """Return the tasks that left a value under a key."""
        found: list[_Task] = []
        while True:
            # Airflow gives as many at once as it likes, whatever is asked for.
            answer = self._get("~/xcomEntries", xcom_key=key, limit=100, offset=len(found))
            entries = [entry for entry in answer["xcom_entries"] if entry["key"] == key]
            found += [_Task(entry["task_id"], entry["map_index"]) for entry in entries]
            if not entries or len(found) >= answer["total_entries"]:
                return found

    def xcom(self, task: _Task, key: str) -> Any:
        """Return the value that a task left under a key; None where there is none."""
        path = f"{quote(task.task_id, safe='')}/xcomEntries/{quote(key, safe='')}"
        response = self._ask(path, map_index=task.map_index)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._checked(response).get("value")

    def groups_of(self, tasks: list[_Task]) -> set[str]:
        """Return the task groups of the projects that some tasks have run, as far as these have told them."""
        groups = set()
        for task in set(self.tasks_with(OUTLINE_KEY)).intersection(tasks):

            def piece(number: int, task: _Task = task) -> Any:
                return self.xcom(task, piece_key(OUTLINE_KEY, number))

            with contextlib.suppress(PackedError):
                groups.add(unpack_outline(piece(0), piece).group)
        return groups - {""}

    def tries(self) -> dict[_Task, _Try]:
        """Return the latest try of each task."""
        found: dict[_Task, _Try] = {}
        count = 0
        while True:
            answer = self._get("", limit=100, offset=count)
            for item in answer["task_instances"]:
                times = moment(item["start_date"]), moment(item["end_date"])
                found[_Task(item["task_id"], item["map_index"])] = _Try(item["try_number"], *times)
            count += len(answer["task_instances"])
            if not answer["task_instances"] or count >= answer["total_entries"]:
                return found

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._checked(self._ask(path, **params))

    def _ask(self, path: str, **params: Any) -> httpx.Response:
        try:
            return self._http.get(f"{self._path}/{path}".rstrip("/"), params=params)
        except httpx.HTTPError as error:
            raise AirflowApiError(f"{self._http.base_url} does not respond: {error}") from error

    def _checked(self, response: httpx.Response) -> dict[str, Any]:
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise AirflowApiError(
                f"Airflow refuses access ({response.status_code}): ${TOKEN_VARIABLE} must contain a token for its API"
            )
        if not response.is_success:
            told = f"{response.status_code} {response.text[:300]}"
            raise AirflowApiError(f"{response.request.method} {response.request.url.path}: {told}")
        try:
            answer: dict[str, Any] = response.json()
        except ValueError as error:
            raise AirflowApiError(f"{response.request.url} does not return JSON") from error
        return answer
