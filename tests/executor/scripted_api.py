"""A stand-in for Airflow's execution API, with the rules of the real one for what a task may do when."""

import asyncio
import json
import re
from datetime import datetime, timezone
from types import SimpleNamespace
from urllib.parse import unquote

import httpx
import jwt

from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.results import NodeResult
from dbt_watch.executor.messages import Watch
from dbt_watch.producers.journal_publisher import JournalPublisher

SECRET = "0123456789abcdef" * 4
PRODUCER = "shop.dbt_build"
RUN_ID = "manual__2026-11-26T10:00:00+00:00"
BEFORE = "0192d1a0-0000-7000-8000-{:012d}"


def at(second):
    """Return a time of the run."""
    return datetime(2026, 11, 26, 10, 0, second, tzinfo=timezone.utc)


class Api:
    """
    The API, with the tasks of one run.

    :ivar tasks: by the ids of their instances
    :ivar told: the outlets, and the events of assets, that came with the end of a task, by its id
    :ivar outage: while it is set, what each request is answered with
    """

    def __init__(self):
        self.tasks, self.xcoms, self.requests, self.told = {}, {}, [], {}
        self.outage = None
        self.refused_xcoms = False
        self.add(PRODUCER, state=None)

    def add(self, task_id, state="queued", **more):
        number = len(self.tasks)
        task = SimpleNamespace(
            id=BEFORE.format(number),
            task_id=task_id,
            state=state,
            start=None,
            end=None,
            by=None,
            beats=0,
            **more,
        )
        self.tasks[task.id] = task
        return task

    @property
    def producer(self):
        return next(iter(self.tasks.values()))

    async def answer(self, request):
        method, path = request.method, unquote(request.url.raw_path.decode().partition("?")[0])
        path = path.removeprefix("/execution/")
        self.requests.append((method, path))
        await asyncio.sleep(0)
        if self.outage is not None:
            if isinstance(self.outage, Exception):
                raise self.outage
            return httpx.Response(self.outage)
        scheme, token = request.headers["authorization"].split()
        claims = jwt.decode(token, SECRET, algorithms=["HS512"], audience="urn:airflow.apache.org:task")
        assert (scheme, claims["scope"]) == ("Bearer", "execution")
        if path == "task-instances/states":
            return self.states(request)
        if path.startswith("xcoms/"):
            return self.xcom(method, path, request)
        task, what = re.fullmatch(r"task-instances/([^/]+)/(\w+)", path).groups()
        assert claims["sub"] == task
        if task not in self.tasks:
            return httpx.Response(410 if what == "heartbeat" else 404, json={"detail": "not found"})
        return getattr(self, what)(self.tasks[task], json.loads(request.content))

    def states(self, request):
        wanted = request.url.params.get_list("task_ids")
        assert request.url.params["run_ids"] == RUN_ID
        found = {task.task_id: task.state for task in self.tasks.values() if task.task_id in wanted}
        return httpx.Response(200, json={"task_states": {RUN_ID: found}})

    def xcom(self, method, path, request):
        if method == "GET":
            if path not in self.xcoms:
                return httpx.Response(404, json={"detail": "not found"})
            return httpx.Response(200, json={"key": path, "value": self.xcoms[path]})
        if self.refused_xcoms:
            return httpx.Response(400, json={"detail": "not valid"})
        self.xcoms[path] = json.loads(request.content)
        return httpx.Response(201)

    def run(self, task, body):
        by = (body["hostname"], body["unixname"], body["pid"])
        if task.state != "queued" and not (task.state == "running" and task.by == by):
            return httpx.Response(409, json={"detail": {"previous_state": task.state}})
        task.state, task.by, task.start = "running", by, datetime.fromisoformat(body["start_date"])
        return httpx.Response(200, json={})

    def heartbeat(self, task, body):
        if task.state != "running" or (task.by[0], task.by[2]) != (body["hostname"], body["pid"]):
            return httpx.Response(409, json={"detail": {"current_state": task.state}})
        task.beats += 1
        return httpx.Response(204)

    def state(self, task, body):
        if task.state == body["state"]:
            return httpx.Response(200)
        if task.state != "running":
            return httpx.Response(409, json={"detail": {"previous_state": task.state}})
        task.state, task.end = body["state"], datetime.fromisoformat(body["end_date"])
        if "outlet_events" in body:
            self.told[task.id] = (body["task_outlets"], body["outlet_events"])
        return httpx.Response(204)

    def results_of(self, task):
        return self.xcoms.get(f"xcoms/shop/{RUN_ID}/{task.task_id}/return_value")


class Producer:
    """The task that runs dbt, as its journal and its state show it."""

    def __init__(self, api):
        self._api = api

    def begin(self, attempt=1, *, will_retry=False, began=4e9):
        self._api.producer.state = "running"
        for path in [path for path in self._api.xcoms if f"/{PRODUCER}/" in path]:
            del self._api.xcoms[path]
        self._writer = JournalWriter(attempt=attempt)
        publication = Publication(self._writer, will_retry=will_retry, began=began)
        self._publisher = JournalPublisher(publication, self._set)
        self._publisher.flush()

    def _set(self, key, value):
        self._api.xcoms[f"xcoms/shop/{RUN_ID}/{PRODUCER}/{key}"] = value

    def report(self, unique_id, status, **more):
        self._writer.add([NodeResult(unique_id=unique_id, name=unique_id, status=status, **more)])
        self._publisher.flush()

    def end(self, exit_code=0, reason=None):
        self._writer.close(exit_code, reason=reason)
        self._publisher.finish()
        self._api.producer.state = "failed" if exit_code else "success"


def watch_of(task, *unique_ids, **more):
    """Return the order for a sensor."""
    values = {
        "id": task.id, "dag_id": "shop", "run_id": RUN_ID, "task_id": task.task_id, "try_number": 1,
        "producer_task_id": PRODUCER, "unique_ids": unique_ids, "pid": 77, "hostname": "scheduler-1",
        "log_path": f"{task.task_id}/1.log",
    }  # fmt: skip
    return Watch(**{**values, **more})
