"""
The operator's pod manager, but that it reads the log of dbt for an attempt of the build.

`producers.pods.operator` gives it to the operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dbt_watch.airflow.pod_operator import FollowingPodManager
from dbt_watch.producers.pods.container_end import has_started
from dbt_watch.producers.pods.log_reader import PodLogReader
from dbt_watch.producers.pods.pod_phase import PARSING, PodPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubernetes.client import models as k8s

    from dbt_watch.core.run_notes import Phase
    from dbt_watch.producers.pods.container_end import ContainerEnd
    from dbt_watch.producers.pods.log_following import Position
    from dbt_watch.producers.pods.pod_profile import PodProfile


class TakesLines(Protocol):
    """What the lines of a log are for."""

    def take_lines(self, lines: list[bytes], is_new: bool) -> None:
        """Take raw lines, and whether they are new."""


class Follower(Protocol):
    """An attempt that follows the log of dbt: of a build, or of another command."""

    end: ContainerEnd | None
    pod: k8s.V1Pod | None
    profile: PodProfile | None

    @property
    def watch(self) -> TakesLines | None:
        """What takes the lines; None before dbt is awaited."""

    def tick(self) -> None:
        """Do what is due."""

    def tell_phase(self, phase: Phase, text: str) -> None:
        """Take what happens before dbt comes to its first node."""

    def close(self, exit_code: int | None, reason: str | None = None) -> None:
        """Take the end of dbt."""


class WatchingPodManager(FollowingPodManager):
    """
    A pod manager that reads the log of one container for an attempt, and all else as usual.

    :param operator: in whose base container dbt runs
    :param attempt: what the lines are for
    :param position: how far they have been read; kept when the manager is made anew with fresh credentials
    """

    def __init__(self, operator: Any, *, attempt: Follower, position: Position) -> None:
        super().__init__(operator)
        self._attempt = attempt
        self._position = position
        self._phase = PodPhase(self.container)

    def create_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Make the pod, and the Secret that is to be there before it."""
        create: Callable[[k8s.V1Pod], k8s.V1Pod] = super().create_pod
        profile = self._attempt.profile
        return create(pod) if profile is None else profile.make_with(pod, create)

    def read_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Read the pod afresh. This happens often while it starts, when there is no log to be read yet."""
        self._attempt.tick()
        seen = self._attempt.pod = super().read_pod(pod)
        self._tell_phase(seen)
        return seen

    def _tell_phase(self, pod: k8s.V1Pod) -> None:
        if has_started(pod, self.container):
            self._attempt.tell_phase(*PARSING)
            return
        if self._phase.wants_events(pod):
            self._phase.events = self._events(pod)
        self._attempt.tell_phase("pod", self._phase.text(pod))

    def _events(self, pod: k8s.V1Pod) -> Sequence[k8s.CoreV1Event]:
        try:
            return self.read_pod_events(pod).items or ()
        except Exception:  # noqa: BLE001 - the pod's own status may say enough
            return ()

    def follow_log(self, pod: k8s.V1Pod) -> bool:
        """Follow the log until dbt has ended, and close the journal with what it ended as; False when nobody watches it."""
        attempt = self._attempt
        if attempt.watch is None:
            return False
        attempt.tell_phase(*PARSING)
        reader = PodLogReader(
            self.api,
            super().read_pod,
            pod,
            self.container,
            position=self._position,
            on_lines=attempt.watch.take_lines,
            on_tick=attempt.tick,
        )
        attempt.end = reader.follow()
        # At once: the sensors need not wait until the pod has been cleaned up.
        attempt.close(attempt.end.exit_code, attempt.end.reason)
        return True
