"""What Prometheus reads: the invocations and workers as they are, and the requests that this process answered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from dbt_watch.server.invocations.records import InvocationState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbt_watch.server.invocations.store import InvocationStore
    from dbt_watch.server.worker.hosts import WorkerHosts

_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 60, 600)


class ServerMetrics:
    """
    The metrics of a server.

    :param store: what the number of invocations is read from, with each scrape
    """

    def __init__(self, store: InvocationStore, hosts: WorkerHosts) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_StoreCollector(store, hosts))
        self._requests = Histogram(
            "dbt_watch_request_seconds",
            "Time to answer a request; for a followed log, as long as it was followed.",
            ["method", "path", "status"],
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(method, path, str(status)).observe(seconds)

    def text(self) -> bytes:
        """Return all of them in Prometheus' format."""
        text: bytes = generate_latest(self._registry)
        return text


class _StoreCollector:
    def __init__(self, store: InvocationStore, hosts: WorkerHosts) -> None:
        self._store = store
        self._hosts = hosts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        invocations = GaugeMetricFamily(
            "dbt_watch_invocations", "Invocations that the server knows.", labels=["project", "state"]
        )
        counts = self._store.counts()
        for project in sorted({project for project, _ in counts}):
            for state in InvocationState:
                if state is not InvocationState.NOT_FOUND:
                    invocations.add_metric([project, state.value], counts.get((project, state.value), 0))
        yield invocations
        oldest = self._store.oldest_pending()
        yield GaugeMetricFamily(
            "dbt_watch_oldest_pending_seconds",
            "How long the oldest waiting invocation has waited.",
            value=0 if oldest is None else max(0.0, time.time() - oldest),
        )
        yield GaugeMetricFamily(
            "dbt_watch_workers", "Worker processes, on all hosts.", value=self._hosts.workers()
        )
