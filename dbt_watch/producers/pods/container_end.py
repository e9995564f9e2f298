"""What the status of a pod says of one of its containers: whether it has started, and how it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kubernetes.client import V1ContainerState, V1Pod


class ContainerEnd(msgspec.Struct, frozen=True):
    """
    How a container ended.

    :param exit_code: None when it was never told, because the pod went away
    :param reason: what Kubernetes says of it when that is worth reading, such as `OOMKilled` or `Evicted`
    """

    exit_code: int | None
    reason: str | None = None


def container_end(pod: V1Pod, container: str) -> ContainerEnd | None:
    """
    Tell how a container of a pod ended; None while it has not.

    A pod that failed as a whole (evicted, its node lost) may never say how its container ended.
    """
    status = pod.status
    statuses = (status.container_statuses if status is not None else None) or []
    for item in statuses:
        if item.name == container and item.state is not None and item.state.terminated is not None:
            return ContainerEnd(item.state.terminated.exit_code, _reason(pod, item.state))
    if status is not None and status.phase in {"Failed", "Succeeded"}:
        return ContainerEnd(None, _reason(pod, None) or f"the pod ended as {status.phase}")
    return None


def _reason(pod: V1Pod, state: V1ContainerState | None) -> str | None:
    words = [pod.status.reason, pod.status.message]
    if state is not None and state.terminated.reason not in {"Completed", "Error"}:
        words += [state.terminated.reason, state.terminated.message]
    return ": ".join(dict.fromkeys(word for word in words if word)) or None


def has_started(pod: V1Pod, container: str) -> bool:
    """Return whether a container of a pod runs, or has run."""
    statuses = (pod.status.container_statuses if pod.status is not None else None) or []
    return any(
        item.name == container
        and item.state is not None
        and (item.state.running is not None or item.state.terminated is not None)
        for item in statuses
    )
