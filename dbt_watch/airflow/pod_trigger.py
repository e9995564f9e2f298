"""
The trigger that KubernetesPodOperator defers to, run inside of ours.

It watches the start of the pod and the deadlines, and knows the way to the cluster. Subclasses of the operator, such as
GKEStartPodOperator, have one of their own; which one it is, is known only when the operator defers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


class StockPodTrigger:
    """
    One such trigger.

    :param path: of its class
    :param arguments: what it was serialized with
    """

    def __init__(self, path: str, arguments: dict[str, Any]) -> None:
        module, _, name = path.rpartition(".")
        self._arguments = arguments
        self._trigger: Any = getattr(importlib.import_module(module), name)(**arguments)

    @property
    def pod(self) -> tuple[str, str]:
        """Name and namespace of the pod."""
        return self._trigger.pod_name, self._trigger.pod_namespace

    @property
    def container(self) -> str:
        """The name of the base container."""
        return str(self._trigger.base_container_name)

    @property
    def hook(self) -> Any:
        """The provider's hook, which keeps the credentials that it has read first."""
        return self._trigger.hook

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """Open a client of the Kubernetes API."""
        connection: AbstractAsyncContextManager[Any] = self.hook.get_conn()
        return connection

    def forget_credentials(self) -> None:
        """Have the credentials for the API read anew."""
        vars(self._trigger).pop("hook", None)  # a cached property, which makes a new one then

    @property
    def deletes_when_killed(self) -> bool:
        """Whether the pod is to be deleted when a person stops the task."""
        return str(self._arguments.get("on_kill_action", "delete_pod")) != "keep_pod"

    @property
    def grace_period(self) -> int | None:
        """The seconds that a pod which is deleted may take to end; None for what the pod itself says."""
        grace: int | None = self._arguments.get("termination_grace_period")
        return grace

    async def event(self, task_instance: Any) -> dict[str, Any]:
        """
        Run it, and return what the operator would go on with.

        :param task_instance: of the trigger that it runs in
        """
        self._trigger.task_instance = task_instance
        async for event in self._trigger.run():
            return dict(event.payload)
        return self.make_event("error", "the operator's own trigger ended without an event")

    def make_event(self, status: str, message: str) -> dict[str, Any]:
        """
        Return what the operator goes on with, in `trigger_reentry`.

        :param status: "success", "failed", "error" or "timeout"; with the last the pod is deleted without waiting for its end
        :param message: why
        """
        name, namespace = self.pod
        extras = self._arguments.get("trigger_kwargs") or {}
        return {"status": status, "name": name, "namespace": namespace, "message": message, **extras}
