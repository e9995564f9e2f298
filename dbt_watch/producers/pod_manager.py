"""
The operator's pod manager, but that it reads the log of dbt for an attempt of the build.

`producers.operator` gives it to the operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLoggingStatus, PodManager

from dbt_watch.producers.log_reader import PodLogReader

if TYPE_CHECKING:
    from kubernetes.client import models as k8s

    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.log_reader import Position


class WatchingPodManager(PodManager):
    """
    A pod manager that reads the log of one container for an attempt, and all else as usual.

    :param container: the container in which dbt runs
    :param attempt: what the lines are for
    :param position: how far they have been read; kept when the manager is made anew with fresh credentials
    """

    def __init__(
        self, *args: Any, container: str, attempt: Attempt, position: Position, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._container = container
        self._attempt = attempt
        self._position = position

    def read_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Read the pod afresh. This happens often while it starts, when there is no log to be read yet."""
        self._attempt.tick()
        self._attempt.pod = super().read_pod(pod)
        return self._attempt.pod

    def run_pod_async(self, pod: k8s.V1Pod, **kwargs: Any) -> k8s.V1Pod:
        """Make the pod. What the API refuses is the task's error to tell; the operator would log the whole request too."""
        body = self._client.api_client.sanitize_for_serialization(pod)
        return self._client.create_namespaced_pod(body=body, namespace=pod.metadata.namespace, **kwargs)

    def fetch_requested_container_logs(
        self, pod: k8s.V1Pod, containers: Any, follow_logs: Any = False, *args: Any, **kwargs: Any
    ) -> list[PodLoggingStatus]:
        """Follow the log of dbt first, and of the others read what there is: one that runs for ever has no end of log."""
        fetch = super().fetch_requested_container_logs
        statuses = fetch(pod, self._container, follow_logs, *args, **kwargs)
        names = self.get_container_names(pod) if containers is True else containers
        others = [
            name for name in ([names] if isinstance(names, str) else names or ()) if name != self._container
        ]
        return [*statuses, *(fetch(pod, others, False, *args, **kwargs) if others else ())]

    def fetch_container_logs(
        self,
        pod: k8s.V1Pod,
        container_name: str,
        *,
        follow: bool = False,
        since_time: Any = None,
        **kwargs: Any,
    ) -> PodLoggingStatus:
        """Follow the log until the container has ended, and close the journal with what it ended as."""
        attempt = self._attempt
        if container_name != self._container or attempt.watch is None:
            return super().fetch_container_logs(
                pod, container_name, follow=follow, since_time=since_time, **kwargs
            )
        reader = PodLogReader(
            self._client,
            super().read_pod,
            pod,
            container_name,
            position=self._position,
            on_lines=attempt.watch.take_lines,
            on_tick=attempt.tick,
        )
        attempt.end = reader.follow()
        # At once: the sensors need not wait until the pod has been cleaned up.
        attempt.close(attempt.end.exit_code, attempt.end.reason)
        return PodLoggingStatus(running=False, last_log_time=None)
