"""GET of a pod's log, with the checks of the real one and its words. Called by `server`."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from typing import TYPE_CHECKING

from aiohttp import web

from dbt_watch.local.localkube.api.objects import flag
from dbt_watch.local.localkube.errors import Cause, bad_request, invalid
from dbt_watch.local.localkube.logs import ContainerLog, LogQuery
from dbt_watch.local.localkube.store import PODS, Item, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.local.localkube.containers import Container
    from dbt_watch.local.localkube.kubelet import Kubelet
    from dbt_watch.local.localkube.node import NodeClock
    from dbt_watch.local.localkube.traffic import Traffic

_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$")
_SECOND = 1_000_000_000


class LogApi:
    """The handler of `pods/NAME/log`."""

    def __init__(self, store: Store, kubelet: Kubelet, traffic: Traffic) -> None:
        self._store = store
        self._kubelet = kubelet
        self._traffic = traffic

    async def read(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """Answer with the log, as far as it is wanted; with `follow` until the container ends."""
        pod = self._store.get(PODS, namespace, name)
        query = _query(request.query, self._kubelet.node.clock)
        worker = self._kubelet.worker(pod)
        wanted = container_name(pod, request.query.get("container"))
        worker.reach(f"containerLogs/{namespace}/{name}/{wanted}?{request.query_string}")
        container = worker.container(wanted)
        if container is None:
            raise bad_request(f"container {request.query.get('container')} is not valid for pod {name}")
        log = _log(container, pod, previous=flag(request.query, "previous"))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for batch in self._traffic.limited(request, log.read(query), follow=query.follow):
            await response.write(batch)
        with contextlib.suppress(ConnectionError):  # the connection was cut
            await response.write_eof()
        return response


def container_name(pod: Item, wanted: str | None) -> str:
    """
    Return the name of the container that a request is about.

    :raises ApiError: 400, none is named and there are several, or there is none of that name
    """
    name = pod["metadata"]["name"]
    main = [container["name"] for container in pod["spec"]["containers"]]
    init = [container["name"] for container in pod["spec"].get("initContainers") or []]
    if not wanted:
        if len(main) + len(init) == 1:
            return str(main[0])
        choice = f"choose one of: [{' '.join(main)}]"
        if init:
            choice += f" or one of the init containers: [{' '.join(init)}]"
        raise bad_request(f"a container name must be specified for pod {name}, {choice}")
    if wanted not in [*main, *init]:
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    return wanted


def _log(container: Container, pod: Item, *, previous: bool) -> ContainerLog:
    name, state = pod["metadata"]["name"], container.view.state
    if previous:
        log = container.log if "waiting" in state and container.view.last_state else container.previous_log
        if log is None:
            raise bad_request(f'previous terminated container "{container.name}" in pod "{name}" not found')
        return log
    if "waiting" in state and not container.view.last_state:
        reason = state["waiting"]["reason"]
        known = ("ContainerCreating", "PodInitializing")
        why = f"is waiting to start: {reason}"
        if reason not in known:
            why = f"is waiting to start: {_trouble(reason)}"
        raise bad_request(f'container "{container.name}" in pod "{name}" {why}')
    if container.log is None:
        raise bad_request(f'container "{container.name}" in pod "{name}" has no log')
    return container.log


def _trouble(reason: str) -> str:
    words = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }
    return words.get(reason, reason)


def _query(parameters: Mapping[str, str], clock: NodeClock) -> LogQuery:
    causes: list[Cause] = []
    tail = _number(parameters, "tailLines", 0, causes)
    limit = _number(parameters, "limitBytes", 1, causes)
    seconds = _number(parameters, "sinceSeconds", 1, causes)
    since = None if seconds is None else clock.nanoseconds() - seconds * _SECOND
    if parameters.get("sinceTime"):
        if seconds is not None:
            text = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
            causes.append(Cause("", text, "FieldValueForbidden"))
        since = _nanoseconds(parameters["sinceTime"])
    if causes:
        raise invalid("PodLogOptions", "", causes)
    return LogQuery(
        follow=flag(parameters, "follow"),
        timestamps=flag(parameters, "timestamps"),
        since=since,
        tail=tail,
        limit=limit,
    )


def _number(parameters: Mapping[str, str], name: str, least: int, causes: list[Cause]) -> int | None:
    text = parameters.get(name)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise bad_request(f"unable to parse {name}: {text!r} is not a number") from None
    if number < least:
        causes.append(Cause(name, f"Invalid value: {number}: must be greater than or equal to {least}"))
    return number


def _nanoseconds(text: str) -> int:
    match = _TIME.match(text.replace(" ", "+"))  # a plus that was not escaped arrives as a space
    if match is None:
        raise bad_request(f"unable to parse sinceTime: {text!r} is not a time like 2006-01-02T15:04:05Z")
    seconds, fraction, zone = match.groups()
    moment = dt.datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    return int(moment.timestamp()) * _SECOND + int((fraction or "").ljust(9, "0"))
