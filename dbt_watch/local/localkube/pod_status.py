"""
The `status` of a pod, worked out from what its containers are doing.

Pure functions over `ContainerView`s, after the rules of
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/; called by `kubelet` after every change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbt_watch.local.localkube.store import Item, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

NODE = "localkube"
ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ContainerView:
    """
    What one container is doing.

    :ivar state: `{"waiting": {...}}`, `{"running": {...}}` or `{"terminated": {...}}`
    :ivar has_run: whether it runs, or has run
    :ivar is_sidecar: whether it is an init container that keeps running
        (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/)
    """

    name: str
    image: str
    state: Item
    last_state: Item
    restart_count: int
    container_id: str
    has_run: bool = False
    is_sidecar: bool = False

    @property
    def terminated(self) -> Item | None:
        """The end of the container, if it has ended and is not about to be started again."""
        return self.state.get("terminated")

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with exit code 0."""
        return self.terminated is not None and self.terminated["exitCode"] == 0

    @property
    def prepared(self) -> bool:
        """Whether, as an init container, it lets the next one start."""
        return self.has_run if self.is_sidecar else self.succeeded

    def as_dict(self, *, ready: bool) -> Item:
        """Return the entry of `containerStatuses`."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image if self.container_id else "",
            **({"containerID": self.container_id} if self.container_id else {}),
            "ready": ready,
            "started": "running" in self.state,
            "restartCount": self.restart_count,
            "state": self.state,
            "lastState": self.last_state,
        }


@dataclass(frozen=True, slots=True)
class PodFailure:
    """
    Why a pod as such has failed, whatever its containers did.

    :ivar reason: one word, such as `Evicted`
    :ivar disrupted: the reason of its condition DisruptionTarget, for a failure that the pod did not cause itself
        (https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions)
    """

    reason: str
    message: str
    disrupted: str | None = None


def phase_of(init: Sequence[ContainerView], main: Sequence[ContainerView], restart_policy: str) -> str:
    """Return the phase of a pod."""
    for view in init:
        if not view.prepared:
            failed = view.terminated is not None and restart_policy == "Never"
            return "Failed" if failed and not view.is_sidecar else "Pending"
    if any("waiting" in view.state and not view.last_state for view in main):
        return "Pending"
    if any("running" in view.state for view in [*init, *main]) or restart_policy == "Always":
        return "Running"
    if all(view.succeeded for view in main):
        return "Succeeded"
    return "Failed" if restart_policy == "Never" else "Running"


def status_of(
    pod: Item,
    init: Sequence[ContainerView],
    main: Sequence[ContainerView],
    *,
    failure: PodFailure | None = None,
) -> Item:
    """
    Return the whole status.

    :param failure: set when the pod as such has failed; the phase is Failed then
    """
    policy = pod["spec"]["restartPolicy"]
    phase = "Failed" if failure else phase_of(init, main, policy)
    initialized = all(view.prepared for view in init)
    ready = [view.name for view in main if "running" in view.state and initialized]
    status: Item = {
        "phase": phase,
        "conditions": _conditions(pod, init, main, phase, ready),
        "hostIP": ADDRESS,
        "hostIPs": [{"ip": ADDRESS}],
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "startTime": pod["status"].get("startTime") or timestamp(),
        "containerStatuses": [view.as_dict(ready=view.name in ready) for view in main],
        "qosClass": pod["status"].get("qosClass", "BestEffort"),
    }
    if init:
        status["initContainerStatuses"] = [
            view.as_dict(ready="running" in view.state if view.is_sidecar else view.succeeded)
            for view in init
        ]
    if failure:
        status["reason"] = failure.reason
        status["message"] = failure.message
        if failure.disrupted:
            status["conditions"].append(disruption(failure.disrupted, failure.message))
    return status


def disruption(reason: str, message: str) -> Item:
    """Return the condition that says that something outside of a pod ends it."""
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": timestamp(),
    }


def unschedulable(pod: Item, why: str) -> Item:
    """Return the status of a pod that no node takes."""
    condition = {"status": "False", "reason": "Unschedulable", "message": why}
    return {**pod["status"], "conditions": _settled(pod, {"PodScheduled": condition})}


def scheduled(pod: Item) -> Item:
    """Return the status of a pod that has a node and nothing else yet."""
    return {
        **pod["status"],
        "startTime": timestamp(),
        "conditions": _settled(pod, {"PodScheduled": {"status": "True"}}),
    }


def _conditions(
    pod: Item,
    init: Sequence[ContainerView],
    main: Sequence[ContainerView],
    phase: str,
    ready: Sequence[str],
) -> list[Item]:
    if all(view.prepared for view in init):
        completed = {"reason": "PodCompleted"} if phase == "Succeeded" and init else {}
        initialized: Item = {"status": "True", **completed}
    else:
        names = " ".join(view.name for view in init if not view.prepared)
        initialized = {
            "status": "False",
            "reason": "ContainersNotInitialized",
            "message": f"containers with incomplete status: [{names}]",
        }
    unready = [view.name for view in main if view.name not in ready]
    if phase == "Succeeded":
        readiness: Item = {"status": "False", "reason": "PodCompleted"}
    elif phase == "Failed":
        readiness = {"status": "False", "reason": "PodFailed"}
    elif unready:
        readiness = {
            "status": "False",
            "reason": "ContainersNotReady",
            "message": f"containers with unready status: [{' '.join(unready)}]",
        }
    else:
        readiness = {"status": "True"}
    return _settled(
        pod,
        {
            "Initialized": initialized,
            "Ready": readiness,
            "ContainersReady": readiness,
            "PodScheduled": {"status": "True"},
        },
    )


def _settled(pod: Item, conditions: dict[str, Item]) -> list[Item]:
    """Return the conditions, each with the time since when it has its status."""
    before: dict[str, Any] = {
        condition["type"]: condition for condition in pod["status"].get("conditions") or []
    }
    result = []
    for kind, condition in conditions.items():
        old = before.get(kind)
        same = old is not None and old["status"] == condition["status"]
        since = old["lastTransitionTime"] if old is not None and same else timestamp()
        result.append({"type": kind, "lastProbeTime": None, "lastTransitionTime": since, **condition})
    return result
