"""An attempt whose dbt runs in a pod: what is known of the pod beside what is known of any attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.exceptions import PodLost
from dbt_watch.producers.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context
    from kubernetes.client import V1Pod

    from dbt_watch.core.run_notes import Phase
    from dbt_watch.exceptions import DbtWatchError
    from dbt_watch.producers.pods.container_end import ContainerEnd
    from dbt_watch.producers.pods.pod_profile import PodProfile


class PodAttempt(Attempt):
    """
    One attempt in a pod.

    :param context: of the task that runs here
    :param stop: deletes the pod; called when the task turns out to have been stopped
    """

    runs_in = "pod"

    def __init__(self, context: Context, stop: Callable[[], None]) -> None:
        super().__init__(context, stop)
        self.end: ContainerEnd | None = None
        self.pod: V1Pod | None = None
        """The pod as it was seen last."""
        self.profile: PodProfile | None = None
        """What the pod that it makes has for a profile, where that is made of a connection."""

    def tell_phase(self, phase: Phase, text: str) -> None:
        """Write down what happens before dbt comes to its first node."""
        self.notes.phase(phase, text)

    @staticmethod
    def lost(why: str) -> DbtWatchError:
        """Return what the task fails with when there is no end of dbt."""
        return PodLost(why)
