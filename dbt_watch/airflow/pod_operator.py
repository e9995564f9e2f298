"""
KubernetesPodOperator and its pod manager, with public names for what `producers` calls and overrides of them.

The provider's own names for these begin with an underscore, or mean more than is written down. When a version of the provider
changes them, this module is what has to change.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLoggingStatus, PodManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger
    from kubernetes.client import CoreV1Api
    from kubernetes.client import models as k8s

__all__ = [
    "FollowingPodManager",
    "InsideExecute",
    "KubernetesPodOperator",
    "PodManager",
    "PodOperatorMixin",
    "template_fields_of",
]


class PodOperatorMixin:
    """
    Goes in front of KubernetesPodOperator, or of a subclass of it, whose way of running a pod it opens up.

    A task that runs such a pod ends with the base container, and is judged by it, whatever runs beside it.
    """

    if TYPE_CHECKING:
        arguments: list[str]
        base_container_name: str
        callbacks: Any
        client: Any
        deferrable: bool
        env_vars: Any
        execution_timeout: timedelta | None
        log: Any
        name: str
        pod: k8s.V1Pod | None
        pod_request_obj: k8s.V1Pod | None
        reattach_on_restart: bool
        task_id: str
        _build_find_pod_label_selector: Any
        _killed: bool
        _set_name: Any
        build_pod_request_obj: Any
        patch_already_checked: Any
        process_pod_deletion: Any

    # What a subclass says.

    def trigger_around(self, trigger: BaseTrigger) -> BaseTrigger:
        """Return what the task defers to: a trigger that has the operator's own inside."""
        raise NotImplementedError

    # What the operator below calls.

    def defer(
        self,
        *,
        trigger: BaseTrigger,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: Any = None,
    ) -> None:
        """Defer as usual, but to a trigger that has the operator's own inside."""
        ours = self.trigger_around(trigger)
        super().defer(trigger=ours, method_name=method_name, kwargs=kwargs, timeout=timeout)  # type: ignore[misc]

    # What a subclass calls.

    def request_pod(self, context: Context) -> k8s.V1Pod:
        """Return the pod that `execute` would make, before it does so."""
        self.name = self._set_name(self.name)  # as `execute` does first
        pod: k8s.V1Pod = self.build_pod_request_obj(context)
        return pod

    def start_with(
        self, request: k8s.V1Pod, *, pod: k8s.V1Pod | None, arguments: list[str], deferrable: bool
    ) -> None:
        """
        Say what `execute` starts with, before it is called.

        :param request: the pod that it makes
        :param pod: a pod that it follows instead
        :param arguments: what the base container is called with
        :param deferrable: whether it hands the waiting over to a trigger
        """
        self.pod_request_obj = request
        self.pod = pod
        self.arguments = arguments
        self.deferrable = deferrable

    def label_selector(self, context: Context) -> str:
        """Return a selector for the pods of all tries of the task; `find_pod`, which uses it, fails when there are several."""
        return str(self._build_find_pod_label_selector(context, exclude_checked=False))

    def put_aside(self, pod: k8s.V1Pod) -> None:
        """Do with a pod that has ended what the operator does after it, so that it is not found again."""
        self.patch_already_checked(pod, reraise=False)
        self.process_pod_deletion(pod, reraise=False)

    def kill_pod(self) -> None:
        """Do with the pod what `on_kill_action` says, and leave it alone from then on; once."""
        if not self._killed:
            super().on_kill()  # type: ignore[misc]

    def leave_pod(self) -> None:
        """Have `cleanup` leave the pod as it is, as after `on_kill`."""
        self._killed = True

    @property
    def has_left_pod(self) -> bool:
        """Whether the pod has been killed or left."""
        return self._killed

    # What a subclass overrides.

    def execute_inside(self, context: Context, execute: Callable[[Context], Any]) -> Any:
        """
        Do what `execute` does, once the operator has come to it.

        A subclass of KubernetesPodOperator may make ready first how the cluster is reached, and clear it away afterwards, as
        EksPodOperator does with a kubeconfig; only in between there is a client of the API.

        :param execute: KubernetesPodOperator's own
        """
        return execute(context)

    def make_pod_manager(self) -> PodManager:
        """Return what makes, reads and follows the pod; called again when the credentials for the API have expired."""
        return plain_pod_manager(self)

    def after_deferral(self, pod: k8s.V1Pod) -> None:
        """
        Do what is to be done when the task goes on after a deferral, with the cluster within reach and the pod still there.

        :param pod: in which the base container has ended
        """

    # What the operator itself calls.

    @cached_property
    def pod_manager(self) -> PodManager:
        """What makes, reads and follows the pod."""
        return self.make_pod_manager()

    def is_istio_enabled(self, _: k8s.V1Pod) -> bool:
        """
        Have the task end with the base container, and be judged by it: whatever runs beside it may run for ever.

        The operator does so itself for the one sidecar that it knows, Istio's; only its name for it is so narrow.
        """
        return True

    def _write_logs(self, pod: k8s.V1Pod, *_: Any, **__: Any) -> None:
        """Leave out what the operator does after a deferral: the trigger has written the log."""
        self.after_deferral(pod)


class InsideExecute(KubernetesPodOperator):
    """Stands behind a subclass of KubernetesPodOperator, and calls `execute_inside` of what goes in front of it."""

    if TYPE_CHECKING:
        execute_inside: Callable[[Context, Callable[[Context], Any]], Any]

    def execute(self, context: Context) -> Any:
        """Be called by the subclass, with all that it makes ready before."""
        return self.execute_inside(context, super().execute)


def template_fields_of(operator_class: type[Any], *more: str) -> tuple[str, ...]:
    """
    Return the template fields of an operator's class and more, in an order that is the same in each process.

    GKEStartPodOperator and EksPodOperator make theirs of a set; Airflow would take the DAG for a new version each time.
    """
    fields = {*operator_class.template_fields, *more}
    known = [field for field in KubernetesPodOperator.template_fields if field in fields]
    return (*known, *sorted(fields.difference(known)))


def plain_pod_manager(operator: Any) -> PodManager:
    """Return a pod manager for the cluster of an operator that follows no log on its own."""
    return PodManager(kube_client=operator.client, callbacks=operator.callbacks)


class FollowingPodManager(PodManager):
    """
    A pod manager that leaves the reading of one container's log to a subclass.

    :param operator: whose pod it is
    """

    def __init__(self, operator: Any) -> None:
        super().__init__(kube_client=operator.client, callbacks=operator.callbacks)
        self.container: str = operator.base_container_name

    @property
    def api(self) -> CoreV1Api:
        """The client of the Kubernetes API."""
        return self._client

    def follow_log(self, pod: k8s.V1Pod) -> bool:
        """
        Follow the log of the operator's own container until that has ended.

        :returns: False to leave it to the provider's reader
        """
        del pod
        return False

    # What the operator itself calls.

    def run_pod_async(self, pod: k8s.V1Pod, **kwargs: Any) -> k8s.V1Pod:
        """Make the pod. What the API refuses is the task's error to tell; the operator would log the whole request too."""
        body = self.api.api_client.sanitize_for_serialization(pod)
        return self.api.create_namespaced_pod(body=body, namespace=pod.metadata.namespace, **kwargs)

    def fetch_requested_container_logs(
        self, pod: k8s.V1Pod, containers: Any, follow_logs: Any = False, *args: Any, **kwargs: Any
    ) -> list[PodLoggingStatus]:
        """Follow the own log first, and of the others read what there is: one that runs for ever has no end of log."""
        fetch = super().fetch_requested_container_logs
        statuses = fetch(pod, self.container, follow_logs, *args, **kwargs)
        names = self.get_container_names(pod) if containers is True else containers
        others = [
            name for name in ([names] if isinstance(names, str) else names or ()) if name != self.container
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
        """Follow the own log by `follow_log`, and another as usual."""
        if container_name == self.container and self.follow_log(pod):
            return PodLoggingStatus(running=False, last_log_time=None)
        return super().fetch_container_logs(
            pod, container_name, follow=follow, since_time=since_time, **kwargs
        )
