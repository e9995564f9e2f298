"""Kubernetes events: what happened to a pod, for people and for tools that print it. Written by `kubelet` and `containers`."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from dbt_watch.local.localkube.pod_status import NODE
from dbt_watch.local.localkube.store import EVENTS, Item, Store, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventType(str, Enum):
    """How an event is meant."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventRecorder:
    """Puts events into the store; a repeated one is counted instead."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest = 0
        self._names: dict[tuple[str, str, str, str], str] = {}

    def record(
        self,
        pod: Mapping[str, Item],
        reason: str,
        message: str,
        *,
        type_: EventType = EventType.NORMAL,
        container: str | None = None,
        component: str = "kubelet",
    ) -> None:
        """
        Record that something happened.

        :param reason: one word, such as `Started`
        :param container: the field path of the container concerned, such as `spec.containers{base}`
        """
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        key = (metadata["uid"], reason, message, container or "")
        name = self._names.get(key)
        if name is not None and self._store.find(EVENTS, namespace, name) is not None:
            self._store.update(EVENTS, namespace, name, _count)
            return
        name = f"{metadata['name']}.{self._suffix()}"
        self._names[key] = name
        involved = {
            "kind": "Pod",
            "namespace": namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": "v1",
            "resourceVersion": metadata["resourceVersion"],
        }
        if container is not None:
            involved["fieldPath"] = container
        time = timestamp()
        self._store.create(
            EVENTS,
            {
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": involved,
                "reason": reason,
                "message": message,
                "source": {"component": component, "host": NODE},
                "firstTimestamp": time,
                "lastTimestamp": time,
                "count": 1,
                "type": type_.value,
                "eventTime": None,
                "reportingComponent": component,
                "reportingInstance": NODE,
            },
        )

    def _suffix(self) -> str:
        """Return a suffix that sorts by time, so that a list of events tells its story in order."""
        self._latest = max(time.time_ns(), self._latest + 1)
        return f"{self._latest:x}"


def _count(event: Item) -> None:
    event["count"] += 1
    event["lastTimestamp"] = timestamp()
