"""
Follows the log of a container in a triggerer, as `producers.pods.log_reader` does on a worker, with the asynchronous client.

`producers.pods.trigger` runs it. Credentials that expire are just another cut: the next connection is made with fresh ones.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kubernetes_asyncio.client import ApiException, CoreV1Api

from dbt_watch.core.backoff import Backoff
from dbt_watch.core.steps import Pause, run_async
from dbt_watch.producers.pods.container_end import container_end, has_started
from dbt_watch.producers.pods.failure_reasons import words_of
from dbt_watch.producers.pods.log_following import (
    CONNECT_TIMEOUT,
    RECONNECT_LIMIT,
    LogFollowing,
    ReadLog,
    ReadPod,
    log,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractAsyncContextManager

    from dbt_watch.producers.pods.container_end import ContainerEnd
    from dbt_watch.producers.pods.log_following import Position, StreamOutcome

STARTED_POLL_S = 0.7


class AsyncPodLogReader:
    """
    Reads the log of one container.

    :param connect: opens an API client; with fresh credentials once the API has refused the last ones
    :param name: the pod's
    :param namespace: the pod's
    :param container: the container's name
    :param position: where to go on; a new one reads from the beginning
    :param on_lines: called with raw lines without their ends, and whether they are new (not read before a cut)
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Any]],
        name: str,
        namespace: str,
        container: str,
        *,
        position: Position,
        on_lines: Callable[[list[bytes], bool], None],
    ) -> None:
        self._following = LogFollowing(name, namespace, container, position=position, on_lines=on_lines)
        self._connect = connect
        self._name = name
        self._namespace = namespace
        self._container = container
        self.started = asyncio.Event()
        """Set as soon as the container is known to have started."""
        self.pod: Any = None
        """The pod as it was seen last."""

    async def follow(self) -> ContainerEnd:
        """Read until the container has ended and its whole log has been read."""
        return await run_async(self._steps(), self._do)

    async def events(self) -> Sequence[Any]:
        """Return what happened to the pod; nothing where that cannot be read."""
        try:
            async with self._connect() as connection:
                listed = await CoreV1Api(connection).list_namespaced_event(
                    self._namespace,
                    field_selector=f"involvedObject.name={self._name}",
                    _request_timeout=CONNECT_TIMEOUT,
                )
        except Exception as error:  # noqa: BLE001 - the pod's own status may say enough
            log.info("The events of the pod cannot be read: %s", words_of(error))
            return ()
        return listed.items or ()

    def _steps(self) -> Generator[ReadLog | ReadPod | Pause, Any, ContainerEnd]:
        end = yield from self._wait_for_start()
        return (yield from self._following.steps(end))

    def _wait_for_start(self) -> Generator[ReadPod | Pause, Any, ContainerEnd | None]:
        backoff = Backoff(2 * STARTED_POLL_S, RECONNECT_LIMIT)
        while True:
            try:
                pod = yield ReadPod()
            except Exception as error:  # noqa: BLE001 - the network, or credentials; asked again
                end = self._following.lost(error)
                wait = backoff.next()
            else:
                end = container_end(pod, self._container)
                backoff.reset()
                wait = STARTED_POLL_S
                if end is not None or has_started(pod, self._container):
                    self.started.set()
                    return end
            if end is not None:
                return end
            yield Pause(wait)

    async def _do(self, step: ReadLog | ReadPod | Pause) -> Any:
        if isinstance(step, ReadLog):
            return await self._read(follow=step.follow)
        if isinstance(step, ReadPod):
            return await self._read_pod()
        await asyncio.sleep(step.seconds)
        return None

    async def _read(self, *, follow: bool) -> StreamOutcome:
        lines = self._following.lines()
        try:
            async with self._connect() as connection:
                response: Any = await CoreV1Api(connection).read_namespaced_pod_log(
                    **self._following.request(follow=follow)
                )
                try:
                    await _check(response)
                    async for piece in response.content.iter_any():
                        lines.feed(piece)
                        await asyncio.sleep(0)  # a long log must not keep the other triggers waiting
                finally:
                    response.close()
        except Exception as error:  # noqa: BLE001 - whatever cuts a stream, it is read on
            return lines.end(error)
        return lines.end(None)

    async def _read_pod(self) -> Any:
        async with self._connect() as connection:
            self.pod = await CoreV1Api(connection).read_namespaced_pod(self._name, self._namespace)
            return self.pod


async def _check(response: Any) -> None:
    """Do what the client leaves out for a stream."""
    if not 200 <= response.status <= 299:  # noqa: PLR2004 - as the client itself does
        text = await response.text()
        raise ApiException(status=response.status, reason=text[:200])
