"""
Runs the pods of the store: one worker per pod, from scheduling to the end, and the way out when it is deleted.

The API handlers tell it of new pods and of deletions; everything that it finds out goes into the store.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from dbt_watch.local.localkube.containers import Container, Machine
from dbt_watch.local.localkube.deadlines import Deadline, first
from dbt_watch.local.localkube.environment import ConfigError
from dbt_watch.local.localkube.errors import ApiError, unreachable
from dbt_watch.local.localkube.events import EventType
from dbt_watch.local.localkube.isolation import remove_tree
from dbt_watch.local.localkube.pod_status import (
    ADDRESS,
    NODE,
    PodFailure,
    disruption,
    scheduled,
    status_of,
    unschedulable,
)
from dbt_watch.local.localkube.sandbox import Sandbox
from dbt_watch.local.localkube.store import CONFIG_MAPS, EVENTS, NAMESPACES, PODS, SECRETS, Item, timestamp
from dbt_watch.local.localkube.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from pathlib import Path

# Where an API server finds the kubelet of a node.
KUBELET_PORT = 10250
# kubernetes, pkg/scheduler/framework/plugins/volumebinding.
NO_CLAIM = (
    '0/1 nodes are available: persistentvolumeclaim "{}" not found. preemption: 0/1 nodes are available: '
    "1 Preemption is not helpful for scheduling."
)


class PodWorker:
    """
    One pod.

    :param directory: for everything of this pod
    """

    def __init__(self, pod: Item, machine: Machine, directory: Path) -> None:
        self._machine = machine
        self._directory = directory
        self._last = pod
        self._namespace: str = pod["metadata"]["namespace"]
        self._name: str = pod["metadata"]["name"]
        self._volumes = Volumes(pod, directory / "volumes", machine.claims)
        self._sandbox = Sandbox(pod, machine.isolation)
        self._stop = asyncio.Event()
        self._deadline: Deadline | None = None
        self._failure: PodFailure | None = None
        self._lost = False
        self._let_go = asyncio.Event()
        self._status_open = False
        init_specs = pod["spec"].get("initContainers") or []
        waiting = "PodInitializing" if init_specs else "ContainerCreating"
        self._init = [self._container(spec, init=True, waiting="PodInitializing") for spec in init_specs]
        self._main = [self._container(spec, waiting=waiting) for spec in pod["spec"]["containers"]]
        self._task = asyncio.ensure_future(self._run())
        self._removal: asyncio.Future[None] | None = None

    @property
    def pod(self) -> Item:
        """The pod as the store has it, or had it last."""
        current = self._machine.store.find(PODS, self._namespace, self._name)
        if current is not None and current["metadata"]["uid"] == self._last["metadata"]["uid"]:
            self._last = current
        return self._last

    def container(self, name: str) -> Container | None:
        """Return a container or init container by name."""
        return next((container for container in [*self._main, *self._init] if container.name == name), None)

    def terminate(self, grace: float) -> asyncio.Future[None]:
        """
        Stop all containers and remove the pod; a second call can only shorten the time.

        :param grace: seconds from now until SIGKILL
        """
        if self._deadline is None:
            self._deadline = Deadline(grace)
        else:
            self._deadline.shorten(grace)
        if grace == 0 or not self._lost:
            self._let_go.set()
        if self._removal is None:
            self._removal = asyncio.ensure_future(self._remove(self._deadline))
        return self._removal

    def reach(self, path: str) -> None:
        """Let a request to the node of this pod through; :raises ApiError: 500, the node is lost."""
        if self._lost:
            raise unreachable(f"https://{ADDRESS}:{KUBELET_PORT}/{path}", f"{ADDRESS}:{KUBELET_PORT}")

    async def _run(self) -> None:
        try:
            if not await self._find_room():
                return
            self._schedule()
            deadline = self.pod["spec"].get("activeDeadlineSeconds")
            if deadline is None:
                await self._run_containers()
            else:
                await self._run_until(float(deadline))
        except ApiError:
            pass
        finally:
            await self._sandbox.close()

    async def _run_until(self, seconds: float) -> None:
        work = asyncio.ensure_future(self._run_containers())
        done, _ = await asyncio.wait([work], timeout=seconds)
        if not done:
            text = "Pod was active on the node longer than the specified deadline"
            await self.fail(PodFailure("DeadlineExceeded", text), self.grace)
        await work

    async def fail(self, failure: PodFailure, grace: float) -> None:
        """
        Let the pod as such fail, and stop its containers.

        Its phase becomes Failed when the last one has ended
        (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase).

        :param grace: seconds from now until SIGKILL
        """
        self._failure = failure
        self._machine.events.record(self.pod, failure.reason, failure.message, type_=EventType.WARNING)
        self._publish()
        await self._stop_containers(Deadline(grace))

    def lose(self, *, running: bool) -> None:
        """
        Let the node vanish: nothing more is heard of the pod, and a controller marks it as not ready.

        :param running: whether the containers go on where nobody sees them
        """
        self._lost = True
        self._status_open = False

        def mark(pod: Item) -> None:
            for condition in pod["status"].get("conditions") or []:
                if condition["type"] == "Ready":
                    condition.update(status="False", lastTransitionTime=timestamp())

        self._machine.store.update(PODS, self._namespace, self._name, mark)
        self._machine.events.record(
            self.pod,
            "NodeNotReady",
            "Node is not ready",
            type_=EventType.WARNING,
            component="node-controller",
        )
        if not running:
            for container in [*self._main, *self._init]:
                container.kill("Error")

    def collect(self) -> None:
        """Remove the pod of a lost node as the garbage collector of pods does: Failed first, then gone."""

        def mark(pod: Item) -> None:
            pod["status"]["phase"] = "Failed"
            pod["status"].setdefault("conditions", []).append(
                disruption("DeletionByPodGC", "PodGC: node no longer exists")
            )

        self._machine.store.update(PODS, self._namespace, self._name, mark)
        self.terminate(0)

    async def _find_room(self) -> bool:
        """Wait until the node takes the pod; False when the pod goes first."""
        while not self._stop.is_set():
            refusal, changed = self._refusal, self._machine.node.changed
            if refusal is None:
                return True
            self._stay_pending(refusal)
            await first(changed.wait(), self._stop.wait())
        return False

    def _stay_pending(self, why: str) -> None:
        def refuse(pod: Item) -> None:
            pod["status"] = unschedulable(pod, why)

        pod = self._machine.store.update(PODS, self._namespace, self._name, refuse)
        self._machine.events.record(
            pod, "FailedScheduling", why, type_=EventType.WARNING, component="default-scheduler"
        )

    @property
    def _refusal(self) -> str | None:
        """Why no node takes the pod; None when one does."""
        missing = self._volumes.missing_claims
        return NO_CLAIM.format(missing[0]) if missing else self._machine.node.refusal

    def _schedule(self) -> None:
        def assign(pod: Item) -> None:
            pod["spec"]["nodeName"] = NODE
            pod["status"] = scheduled(pod)

        pod = self._machine.store.update(PODS, self._namespace, self._name, assign)
        text = f"Successfully assigned {self._namespace}/{self._name} to {NODE}"
        self._machine.events.record(pod, "Scheduled", text, component="default-scheduler")
        self._status_open = True
        self._publish()

    async def _run_containers(self) -> None:
        if not await self._prepare_volumes():
            return
        policy: str = self.pod["spec"]["restartPolicy"]
        sidecars: list[asyncio.Future[None]] = []
        if await self._initialize(policy, sidecars) and not self._stop.is_set():
            await asyncio.gather(*(container.run(policy) for container in self._main))
        if not self._stop.is_set():
            deadline = Deadline(self.grace)
            for container in reversed(self._init):
                if container.is_sidecar:
                    await container.stop(deadline)
        await asyncio.gather(*sidecars)

    async def _initialize(self, policy: str, sidecars: list[asyncio.Future[None]]) -> bool:
        """Run the init containers one after the other; add those to `sidecars` that go on. False when one failed."""
        for container in self._init:
            if container.is_sidecar:
                sidecars.append(asyncio.ensure_future(container.run("Always")))
                await first(container.has_run.wait(), self._stop.wait())
            else:
                await container.run("OnFailure" if policy == "Always" else policy)
            if not container.view.prepared:
                return False
        return True

    async def _prepare_volumes(self) -> bool:
        """Make the volumes as soon as what they hold is there; False when the pod goes first."""
        while not self._stop.is_set():
            try:
                self._volumes.prepare(self._machine.store)
            except ConfigError as error:  # noqa: PERF203 - what the loop waits to get over
                self._machine.events.record(self.pod, "FailedMount", str(error), type_=EventType.WARNING)
                with self._machine.store.next_change(SECRETS, CONFIG_MAPS) as changed:
                    await first(changed.wait(), self._stop.wait())
            else:
                return True
        return False

    async def _stop_containers(self, deadline: Deadline) -> None:
        self._stop.set()
        await asyncio.gather(*(container.stop(deadline) for container in [*self._main, *self._init]))

    async def _remove(self, deadline: Deadline) -> None:
        await self._let_go.wait()
        await self._stop_containers(deadline)
        # The last state of the containers is seen by watchers before the pod is gone.
        await asyncio.wait([self._task])
        self._status_open = False
        pod = self._machine.store.find(PODS, self._namespace, self._name)
        if pod is not None and pod["metadata"]["uid"] == self._last["metadata"]["uid"]:
            self._machine.store.delete(PODS, self._namespace, self._name)
        for container in [*self._main, *self._init]:
            container.close()
        remove_tree(self._directory)

    @property
    def grace(self) -> float:
        """How long the pod asks to be given for its end, in seconds."""
        return float(self.pod["spec"]["terminationGracePeriodSeconds"])

    def _container(self, spec: Item, *, waiting: str, init: bool = False) -> Container:
        return Container(
            spec,
            self._machine,
            pod=lambda: self.pod,
            volumes=self._volumes,
            sandbox=self._sandbox,
            directory=self._directory / "containers" / spec["name"],
            changed=self._publish,
            init=init,
            waiting=waiting,
        )

    def _publish(self) -> None:
        if not self._status_open:
            return
        pod = self.pod
        running = any(container.running for container in [*self._main, *self._init])
        status = status_of(
            pod,
            [container.view for container in self._init],
            [container.view for container in self._main],
            failure=None if running else self._failure,
        )
        # The phase of a pod that has ended does not change any more.
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            status["phase"] = pod["status"]["phase"]

        def set_status(item: Item) -> None:
            item["status"] = status

        with contextlib.suppress(ApiError):  # removed by force: nobody sees the status any more
            if (
                self._machine.store.get(PODS, self._namespace, self._name)["metadata"]["uid"]
                == (pod["metadata"]["uid"])
            ):
                self._machine.store.update(PODS, self._namespace, self._name, set_status)


class Kubelet:
    """
    All pods of a server.

    :param directory: for everything of the pods
    """

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine = machine
        self._directory = directory
        self.node = machine.node
        self._workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    def adopt(self, pod: Item) -> None:
        """Run a pod that was just stored."""
        uid = pod["metadata"]["uid"]
        self._workers[uid] = PodWorker(pod, self._machine, self._directory / uid)

    def worker(self, pod: Item) -> PodWorker:
        """Return the worker of a stored pod."""
        return self._workers[pod["metadata"]["uid"]]

    def terminate(self, pod: Item, grace: float) -> None:
        """Stop and remove a pod in its own time."""
        uid = pod["metadata"]["uid"]
        removal = self._workers[uid].terminate(grace)
        removal.add_done_callback(lambda _: self._workers.pop(uid, None))

    def empty_namespace(self, name: str) -> None:
        """Remove everything in a namespace that is marked for deletion, and then the namespace."""
        task = asyncio.ensure_future(self._empty_namespace(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _empty_namespace(self, name: str) -> None:
        store = self._machine.store
        pods = [self.worker(pod) for pod in store.list(PODS, name)]
        await _all(worker.terminate(worker.grace) for worker in pods)
        for resource in (EVENTS, SECRETS, CONFIG_MAPS):
            for item in store.list(resource, name):
                store.delete(resource, name, item["metadata"]["name"])
        store.delete(NAMESPACES, "", name)

    async def close(self) -> None:
        """Kill everything that runs."""
        await _all(worker.terminate(0) for worker in list(self._workers.values()))


async def _all(awaitables: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*awaitables, return_exceptions=True)
