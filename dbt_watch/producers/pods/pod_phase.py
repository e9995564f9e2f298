"""
What a pod waits for before dbt runs in it, in words: to be scheduled, for its image, or for what is wrong with it.

`producers.pods.pod_manager` asks on a worker, `producers.pods.async_log_reader` in a triggerer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from dbt_watch.producers.pods.failure_reasons import obstacle_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubernetes.client import CoreV1Event, V1Pod

    from dbt_watch.core.run_notes import Phase

PARSING: Final[tuple[Phase, str]] = ("parsing", "dbt is starting and reading the project")
"""The phase of an attempt whose pod runs."""

# In seconds. What happens to a pod in the meantime is a request more, so it is asked for only where a start takes long.
EVENTS_AFTER: Final = 3.0
EVENTS_EVERY: Final = 10.0

# What the kubelet does for a pod; all else that it tells is of no use to one who waits.
_STEPS: Final = {"Pulling": "pulling its image", "Pulled": "creating its container"}


class PodPhase:
    """
    The start of one pod.

    :param container: the container in which dbt is to run
    :param clock: tells the time in seconds
    """

    def __init__(self, container: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._container = container
        self._clock = clock
        self._events_at = clock() + EVENTS_AFTER
        self.events: Sequence[CoreV1Event] = ()
        """What happened to the pod, as it was asked for last."""

    def wants_events(self, pod: V1Pod) -> bool:
        """Return whether it is to be asked what happened to a pod: when it has been on its way for long. Then it is asked."""
        if self._clock() < self._events_at or pod.status is None or pod.status.phase != "Pending":
            return False
        self._events_at = self._clock() + EVENTS_EVERY
        return True

    def text(self, pod: V1Pod) -> str:
        """Return what a pod that has not started waits for."""
        obstacle = obstacle_of(pod, self._container, self.events)
        if obstacle:
            return f"pod pending: {obstacle}"
        if not (pod.spec is not None and pod.spec.node_name):
            return "pod pending: waiting for a node"
        steps = [_STEPS[event.reason] for event in self.events if event.reason in _STEPS]
        return f"pod pending: on node {pod.spec.node_name}, {steps[-1] if steps else 'starting'}"
