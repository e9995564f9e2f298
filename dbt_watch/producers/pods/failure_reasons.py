"""
What kept dbt from running, in one line: from the operator's error, and from what Kubernetes says of the pod.

`producers.pods.operator` asks on a worker and `producers.pods.trigger` in a triggerer, so that both say the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from dbt_watch.core.text import one_line
from dbt_watch.producers.pods.api_errors import status_of
from dbt_watch.producers.pods.container_end import has_started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kubernetes.client import CoreV1Event, V1ContainerStatus, V1Pod

MAX_CHARS: Final = 800

# What every pod says on its way; it is no reason.
_ON_ITS_WAY: Final = frozenset({"ContainerCreating", "PodInitializing"})
# The advice at the end of the operator's timeouts, which what Kubernetes says makes needless.
_ADVICE: Final = " Check the pod events in kubernetes."


def broken_off(words: str, pod: V1Pod | None, container: str, events: Sequence[CoreV1Event] = ()) -> str:
    """
    Return why there is no end of dbt.

    :param words: what the operator says, see `words_of`
    :param pod: the pod as it was seen last; None when there is none
    :param container: the name of the container in which dbt is to run
    :param events: those of the pod, the latest last; a volume that cannot be mounted is told of nowhere else
    """
    if pod is not None and has_started(pod, container):
        return f"the pod did not run dbt to its end: {words}"
    obstacle = "" if pod is None else obstacle_of(pod, container, events)
    if not obstacle:
        return f"the pod did not run dbt: {words}"
    if obstacle.partition(":")[0] in words:
        return f"the pod did not run dbt: {obstacle}"
    return f"the pod did not run dbt: {words.removesuffix(_ADVICE).rstrip('.')}: {obstacle}"


def obstacle_of(pod: V1Pod, container: str, events: Sequence[CoreV1Event] = ()) -> str:
    """Return what Kubernetes says keeps dbt's container from starting; empty where the pod is just on its way."""
    return next(filter(None, _obstacles(pod, container, events)), "")


def words_of(error: BaseException | str) -> str:
    """Return what an error says, in one line; of an answer of the Kubernetes API its message alone."""
    text = str(error)
    if isinstance(error, Exception) and status_of(error) is not None:
        text = (
            _message(getattr(error, "body", None))
            or f"HTTP {status_of(error)} {getattr(error, 'reason', '')}"
        )
    return one_line(text, MAX_CHARS) or type(error).__name__


def _message(body: str | bytes | None) -> str:
    """Return the message of an answer that is a `Status` of the API; empty for any other."""
    try:
        answer = json.loads(body or "")
    except ValueError:
        return ""
    return str(answer.get("message") or "") if isinstance(answer, dict) else ""


def _obstacles(pod: V1Pod, container: str, events: Sequence[CoreV1Event]) -> Iterator[str]:
    """Yield what Kubernetes says keeps a container of a pod from starting, the weightiest first; or nothing but empty texts."""
    status = pod.status
    statuses: Iterable[V1ContainerStatus] = status.container_statuses or []
    # dbt's own container first.
    for item in sorted(statuses, key=lambda item: item.name != container):
        yield _waits(item)
    for item in status.init_container_statuses or []:
        yield _waits(item) or _failed(item)
    yield _line(status.reason, status.message)
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status != "True":
            yield _line(condition.reason, condition.message)
    for event in reversed(events):
        if event.type == "Warning":
            yield _line(event.reason, event.message)


def _waits(item: V1ContainerStatus) -> str:
    waiting = item.state.waiting if item.state is not None else None
    return "" if waiting is None or waiting.reason in _ON_ITS_WAY else _line(waiting.reason, waiting.message)


def _failed(item: V1ContainerStatus) -> str:
    ended = item.state.terminated if item.state is not None else None
    if ended is None or not ended.exit_code:
        return ""
    reason = "" if ended.reason == "Error" else ended.reason
    return _line(f"init container {item.name} ended with exit code {ended.exit_code}", reason, ended.message)


def _line(*parts: str | None) -> str:
    return one_line(": ".join(filter(None, parts)), MAX_CHARS)
