"""
Faults at the push of a button: what goes wrong in a real cluster, shown by localkube as the real thing shows it.

The public `LocalKube.faults`, for tests of DAGs. Each method says what a client gets to see and where that is written
down; "kubernetes" stands for the source of release 1.34 at https://github.com/kubernetes/kubernetes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube.errors import ApiError, forbidden
from dbt_watch.local.localkube.pod_facts import PodFact
from dbt_watch.local.localkube.pod_status import PodFailure
from dbt_watch.local.localkube.store import PODS, Item, Resource, Store
from dbt_watch.local.localkube.traffic import (
    Fault,
    RequestFault,
    Requests,
    StreamFault,
    Traffic,
    answering,
    hanging,
    refusing_credentials,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dbt_watch.local.localkube.accounts import Accounts
    from dbt_watch.local.localkube.containers import Container
    from dbt_watch.local.localkube.kubelet import Kubelet, PodWorker

T = TypeVar("T")

# kubernetes, pkg/kubelet/eviction/helpers.go: with its spaces, also the one at the end.
LOW_ON_MEMORY = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 41228Ki. "
    "Container {container} was using 1207Mi, request is 0, has larger consumption of memory. "
)
# Of a hard eviction, in seconds: immediateEvictionGracePeriodSeconds, pkg/kubelet/eviction/eviction_manager.go.
EVICTION_GRACE = 1
NO_ROOM = (
    "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: "
    "1 No preemption victims found for incoming pod."
)
# How long a change of a pod may take to be made, in seconds; it takes milliseconds.
PATIENCE = 30.0


class Faults:
    """
    The fault switches of a running server; may be used from any thread but the server's own.

    Those of requests and streams return a `Fault`, which counts what it has caused, and can be ended. A pod is named by
    its `PodFact`, or as `name` in the namespace `default`, or as `namespace/name`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        kubelet: Kubelet,
        traffic: Traffic,
        accounts: Accounts,
    ) -> None:
        self._loop = loop
        self._store = store
        self._kubelet = kubelet
        self._traffic = traffic
        self._accounts = accounts
        self._quotas: dict[str, _Quota] = {}
        store.admission.append(self._admit)

    def end_all(self) -> None:
        """End every fault that goes on; what has happened to pods and logs stays."""

        def end() -> None:
            self._traffic.clear()
            self._quotas.clear()
            self._kubelet.node.clock.offset = 0.0
            self._kubelet.node.refuse(None)

        self._in_loop(end)

    # Requests and streams

    def answer(
        self,
        code: int = 500,
        *,
        path: str = "*",
        methods: Sequence[str] = (),
        times: int | None = None,
        seconds: float | None = None,
    ) -> Fault:
        """
        Answer requests with an error, as an API server does whose etcd or whose node is in trouble.

        :param code: the HTTP status; 429 comes with `Retry-After: 1`
        :param path: which paths, as a pattern with `*`, such as `*/pods/*/log`
        :param methods: which methods, in capitals; none stands for all
        :param times: for so many requests
        :param seconds: for so long
        :raises ArgumentError: the code is no error
        """
        first, last = 400, 599
        if not first <= code <= last:
            raise ArgumentError("code", code, f"an HTTP status from {first} to {last}")
        which = Requests(path, frozenset(methods))
        return self._add(RequestFault(which, answering(code), times=times, seconds=seconds))

    def hang(self, seconds: float | None = None, *, path: str = "*", methods: Sequence[str] = ()) -> Fault:
        """
        Answer no request until the time is over or the fault is ended; then all that wait are served.

        Streams that are open go on.
        """
        return self._add(RequestFault(Requests(path, frozenset(methods)), hanging, seconds=seconds))

    def delay(self, seconds: float, *, path: str = "*", methods: Sequence[str] = ()) -> Fault:
        """Serve each request so many seconds late."""
        return self._add(RequestFault(Requests(path, frozenset(methods)), waiting(seconds)))

    def cut_log_streams(self, times: int, *, within: int = 16_384, seed: int = 0) -> Fault:
        """
        Cut the connection of streams that follow a log: each after a random number of bytes, so many in all.

        A client sees the connection end without the end of the message, as when a load balancer, an API server or a
        kubelet is restarted. A stream that ends by itself before its moment has come is not counted.

        :param within: the most bytes that a stream may get before it is cut
        :param seed: the same one cuts at the same places
        """
        return self._add(StreamFault(times=times, within=within, seed=seed))

    def drop_log_streams(self, *, path: str = "*") -> None:
        """Cut the log streams that are open now, at once."""
        self._in_loop(lambda: self._traffic.drop_streams(path))

    def refuse_credentials(
        self, times: int | None = None, *, seconds: float | None = None, path: str = "*"
    ) -> Fault:
        """
        Answer requests with 401 whatever their token, as an API server whose token review fails.

        Streams that are open go on, since only the beginning of a request is checked.
        """
        fault = RequestFault(Requests(path), refusing_credentials, times=times, seconds=seconds)
        return self._add(fault)

    def expire_credentials(self, *, cut_streams: bool = True) -> None:
        """
        Void all tokens and write new ones into the kubeconfigs: who reads the file again is let in.

        Of tokens that others have made (`LocalKube.accept_tokens`), those are void that were let in so far.

        An API server does not end a stream whose token has expired; what is asked for after its end gets 401.

        :param cut_streams: cut the log streams that are open, so that their readers come back with the old token
        """
        self._accounts.renew()
        if cut_streams:
            self.drop_log_streams()

    # Pods

    def evict(self, pod: PodFact | str, message: str = LOW_ON_MEMORY) -> None:
        """
        Evict a pod, as a kubelet that runs out of memory.

        Its containers get SIGTERM and one second. When the last one has ended, the phase is Failed, with the reason
        `Evicted` and the condition `DisruptionTarget`/`TerminationByKubelet`. The pod stays in the API.
        Source: kubernetes, pkg/kubelet/eviction;
        https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/

        :param message: what the pod's status says; `{container}` becomes the name of its first container
        """

        async def evict() -> None:
            worker = self._worker(pod)
            text = message.replace("{container}", worker.pod["spec"]["containers"][0]["name"])
            await worker.fail(PodFailure("Evicted", text, "TerminationByKubelet"), EVICTION_GRACE)

        self._run(evict())

    def kill(self, pod: PodFact | str, container: str | None = None) -> None:
        """
        End a container by SIGKILL from outside: exit code 137, reason `Error`.

        :param container: the first one of the pod if left out
        """
        self._in_loop(lambda: self._container(pod, container).kill("Error"))

    def kill_for_memory(self, pod: PodFact | str, container: str | None = None) -> None:
        """
        End a container as the kernel does when it uses more memory than its limit: exit code 137, `OOMKilled`.

        Source: https://kubernetes.io/docs/tasks/configure-pod-container/assign-memory-resource/
        """
        self._in_loop(lambda: self._container(pod, container).kill("OOMKilled"))

    def lose_node(self, pod: PodFact | str, *, running: bool = False) -> None:
        """
        Let the node of a pod vanish.

        The phase stays Running and the container states stay as they were; the condition Ready becomes False, with an
        event `NodeNotReady`. Requests for its log, and exec, are answered with 500 ("no route to host"), and open
        streams end. A graceful delete marks the pod and nothing more: it stays until `collect_lost_pod`, or until
        it is deleted with a grace period of 0. (Older releases could also put the reason `NodeLost` there.)
        Source: kubernetes, pkg/controller/nodelifecycle, pkg/controller/util/node (MarkPodsNotReady);
        https://kubernetes.io/docs/concepts/architecture/nodes/#node-status

        :param running: the machine has only lost its network: the containers go on, and nobody sees them
        """

        def lose() -> None:
            worker = self._worker(pod)
            worker.lose(running=running)
            metadata = worker.pod["metadata"]
            self._traffic.drop_streams(f"*/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log")

        self._in_loop(lose)

    def collect_lost_pod(self, pod: PodFact | str) -> None:
        """
        Remove the pod of a lost node, as the pod garbage collector does after the node has left the cluster.

        The phase becomes Failed, with the condition `DisruptionTarget`/`DeletionByPodGC`; then the pod is deleted
        without grace. Source: kubernetes, pkg/controller/podgc/gc_controller.go.
        """
        self._in_loop(lambda: self._worker(pod).collect())

    def rotate_log(self, pod: PodFact | str, container: str | None = None) -> None:
        """
        Rotate the log of a container: what it has written so far cannot be read any more.

        Only the newest file of a log can be read through the API; a stream that follows it already loses nothing.
        Source: https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation
        """

        def rotate() -> None:
            log = self._container(pod, container).log
            if log is None:
                raise ArgumentError("pod", pod, "one whose container has written a log")
            log.rotate()

        self._in_loop(rotate)

    # The cluster

    def limit_pods(self, namespace: str, pods: int | None, *, quota: str = "compute-quota") -> None:
        """
        Set a quota for the number of pods in a namespace that have not ended; None takes it away.

        What is too much is refused with 403: `pods "x" is forbidden: exceeded quota: ..., requested: pods=1,
        used: pods=2, limited: pods=2`.
        Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/

        :param quota: the name of the ResourceQuota in the message
        """

        def limit() -> None:
            self._quotas.pop(namespace, None)
            if pods is not None:
                self._quotas[namespace] = _Quota(quota, pods)

        self._in_loop(limit)

    def no_room(self, why: str | None = NO_ROOM) -> None:
        """
        Let every new pod stay Pending for ever; with None, those that wait and all later ones are scheduled.

        The condition PodScheduled is False with the reason `Unschedulable`, and there is an event
        `FailedScheduling` with the same message.
        Source: https://kubernetes.io/docs/tasks/debug/debug-application/debug-pods/#my-pod-stays-pending
        """
        self._in_loop(lambda: self._kubelet.node.refuse(why))

    def set_node_clock(self, offset: float) -> None:
        """
        Let the node's clock be wrong.

        It stamps the lines of a log and the start and end of containers, and `sinceSeconds` counts back from it;
        `sinceTime` is compared with the stamps as it is. What a container itself takes for the time stays right: a
        process cannot be given another clock.
        Source: kubernetes, pkg/kubelet/kubelet_pods.go (GetKubeletContainerLogs),
        https://github.com/kubernetes/cri-client/blob/master/pkg/logs/logs.go (NewLogOptions)

        :param offset: seconds by which it is ahead, negative for behind; set it before the pod starts
        """

        def turn() -> None:
            self._kubelet.node.clock.offset = offset

        self._in_loop(turn)

    # How

    def _add(self, fault: RequestFault | StreamFault) -> Fault:
        self._traffic.add(fault)
        return fault

    def _admit(self, resource: Resource, item: Item) -> None:
        quota = self._quotas.get(item["metadata"].get("namespace", ""))
        if resource is PODS and quota is not None:
            quota.check(self._store, item)

    def _worker(self, pod: PodFact | str) -> PodWorker:
        if isinstance(pod, PodFact):
            namespace, name = pod.namespace, pod.name
        else:
            namespace, _, name = (pod if "/" in pod else f"default/{pod}").partition("/")
        found = self._store.find(PODS, namespace, name)
        if found is None or (isinstance(pod, PodFact) and found["metadata"]["uid"] != pod.uid):
            known = [
                f"{each['metadata']['namespace']}/{each['metadata']['name']}"
                for each in self._store.list(PODS)
            ]
            raise ArgumentError("pod", pod, "a pod that is there", known=known, sought=f"{namespace}/{name}")
        return self._kubelet.worker(found)

    def _container(self, pod: PodFact | str, name: str | None) -> Container:
        worker = self._worker(pod)
        names = [spec["name"] for spec in worker.pod["spec"]["containers"]]
        found = worker.container(name or names[0])
        if found is None:
            raise ArgumentError("container", name, "the name of a container of the pod", known=names)
        return found

    def _in_loop(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return self._run(act())

    def _run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(PATIENCE)


class _Quota:
    """A ResourceQuota that counts pods."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit

    def check(self, store: Store, pod: Item) -> None:
        """Let a new pod through; :raises ApiError: 403, there are enough."""
        metadata = pod["metadata"]
        used = sum(
            each["status"]["phase"] not in ("Succeeded", "Failed")
            for each in store.list(PODS, metadata["namespace"])
        )
        if used >= self._limit:
            raise self._refusal(metadata["name"], used)

    def _refusal(self, name: str, used: int) -> ApiError:
        why = (
            f"exceeded quota: {self._name}, requested: pods=1, used: pods={used}, limited: pods={self._limit}"
        )
        return forbidden(PODS.plural, name, why)
