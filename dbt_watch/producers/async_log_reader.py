"""
Follows the log of a container in a triggerer, as `producers.log_reader` does on a worker, with the asynchronous client.

`producers.trigger` runs it. Credentials that expire are just another cut: the next connection is made with fresh ones.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from kubernetes_asyncio.client import ApiException, CoreV1Api

from dbt_watch.core.backoff import Backoff
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.producers.failure_reasons import words_of
from dbt_watch.producers.log_reader import (
    CONNECT_TIMEOUT,
    HTTP_NOT_FOUND,
    RECONNECT_FIRST,
    RECONNECT_LIMIT,
    REST_TIMEOUT,
    ContainerEnd,
    LogReading,
    Overlap,
    Position,
    container_end,
    has_started,
    log,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

STARTED_POLL_S = 0.7


class AsyncPodLogReader(LogReading):
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
        super().__init__(name, namespace, container, position=position, on_lines=on_lines)
        self._connect = connect
        self.started = asyncio.Event()
        """Set as soon as the container is known to have started."""
        self.pod: Any = None
        """The pod as it was seen last."""

    async def follow(self) -> ContainerEnd:
        """Read until the container has ended and its whole log has been read."""
        end = await self._wait_for_start()
        in_vain = Backoff(2 * RECONNECT_FIRST, RECONNECT_LIMIT)
        while end is None:
            arrived, _ = await self._read(follow=True)
            end = await self._end()
            if end is None:
                if arrived:
                    in_vain.reset()
                await asyncio.sleep(RECONNECT_FIRST if arrived else in_vain.next())
        await self._read_rest()
        return end

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

    async def _wait_for_start(self) -> ContainerEnd | None:
        backoff = Backoff(2 * STARTED_POLL_S, RECONNECT_LIMIT)
        while True:
            try:
                pod = await self._read_pod()
            except Exception as error:  # noqa: BLE001 - the network, or credentials; asked again
                end = self._lost(error)
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
            await asyncio.sleep(wait)

    async def _read_rest(self) -> None:
        """Read what has reached the API after the stream was closed, until that has worked once."""
        deadline = time.monotonic() + REST_TIMEOUT
        backoff = Backoff(RECONNECT_FIRST, RECONNECT_LIMIT)
        while True:
            _, error = await self._read(follow=False)
            if error is None or status_of(error) == HTTP_NOT_FOUND:
                return
            if time.monotonic() > deadline:
                log.warning("The end of the log could not be read (%s); the last lines may be missing", error)
                return
            await asyncio.sleep(backoff.next())

    async def _read(self, *, follow: bool) -> tuple[bool, Exception | None]:
        """Read one stream to its end; tell whether anything arrived, and what cut it if it was cut."""
        splitter, overlap, arrived = LineSplitter(), Overlap(self._position), False
        try:
            async with self._connect() as connection:
                response: Any = await CoreV1Api(connection).read_namespaced_pod_log(
                    **self._request(follow=follow)
                )
                try:
                    await _check(response)
                    async for piece in response.content.iter_any():
                        arrived = True
                        self._take(splitter.feed(piece), overlap)
                        await asyncio.sleep(0)  # a long log must not keep the other triggers waiting
                finally:
                    response.close()
        except Exception as error:  # noqa: BLE001 - whatever cuts a stream, it is read on
            if not follow or status_of(error) != HTTP_NOT_FOUND:
                self._report_cut(error)
            return arrived, error
        self._take(splitter.flush(), overlap)
        return arrived, None

    async def _end(self) -> ContainerEnd | None:
        """Tell how the container ended; None while it has not."""
        try:
            pod = await self._read_pod()
        except Exception as error:  # noqa: BLE001 - the network, or credentials; asked again
            return self._lost(error)
        return container_end(pod, self._container)

    async def _read_pod(self) -> Any:
        async with self._connect() as connection:
            self.pod = await CoreV1Api(connection).read_namespaced_pod(self._name, self._namespace)
            return self.pod


async def _check(response: Any) -> None:
    """Do what the client leaves out for a stream."""
    if not 200 <= response.status <= 299:  # noqa: PLR2004 - as the client itself does
        text = await response.text()
        raise ApiException(status=response.status, reason=text[:200])
