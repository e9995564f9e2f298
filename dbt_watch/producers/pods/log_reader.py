"""
Reads the log of a container on a worker, as `producers.pods.log_following` says.

A thread reads the stream; all else stays in the task's own thread, which goes on to heed signals and to write the journal.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.steps import run
from dbt_watch.producers.pods.api_errors import HTTP_UNAUTHORIZED
from dbt_watch.producers.pods.log_following import LogFollowing, ReadLog, ReadPod

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import CoreV1Api, V1Pod

    from dbt_watch.core.steps import Pause
    from dbt_watch.producers.pods.container_end import ContainerEnd
    from dbt_watch.producers.pods.log_following import Position, StreamOutcome

TICK: Final = 0.1
"""How often `on_tick` is called while no line arrives, in seconds."""


class PodLogReader:
    """
    Reads the log of one container.

    :param client: an API client
    :param read_pod: reads the pod afresh; may raise ApiException
    :param pod: the pod, of which only name and namespace are used
    :param container: the container's name
    :param position: where to go on; a new one reads from the beginning
    :param on_lines: called with raw lines without their ends, and whether they are new (not read before a cut)
    :param on_tick: called after each piece of the log, and every 0.1 s while there is none
    :param rest_timeout: seconds for which the end of a log is tried for once its container has ended
    """

    def __init__(
        self,
        client: CoreV1Api,
        read_pod: Callable[[V1Pod], V1Pod],
        pod: V1Pod,
        container: str,
        *,
        position: Position,
        on_lines: Callable[[list[bytes], bool], None],
        on_tick: Callable[[], None],
        rest_timeout: float | None = None,
    ) -> None:
        self._following = LogFollowing(
            pod.metadata.name,
            pod.metadata.namespace,
            container,
            position=position,
            on_lines=on_lines,
            rest_timeout=rest_timeout,
            raises=frozenset({HTTP_UNAUTHORIZED}),
        )
        self._client = client
        self._read_pod = read_pod
        self._pod = pod
        self._on_tick = on_tick

    def follow(self) -> ContainerEnd:
        """
        Read until the container has ended and its whole log has been read.

        :raises ApiException: with status 401, when the credentials have expired; call again with a new client
        """
        return run(self._following.steps(), self._do)

    def _do(self, step: ReadLog | ReadPod | Pause) -> Any:
        if isinstance(step, ReadLog):
            return self._read(follow=step.follow)
        if isinstance(step, ReadPod):
            return self._read_pod(self._pod)
        self._pause(step.seconds)
        return None

    def _read(self, *, follow: bool) -> StreamOutcome:
        pieces: queue.Queue[bytes | _StreamEnd] = queue.Queue(maxsize=256)
        stream = _Stream(self._open, pieces, follow=follow)
        lines = self._following.lines()
        stream.start()
        try:
            while True:
                try:
                    piece = pieces.get(timeout=TICK)
                except queue.Empty:
                    self._on_tick()
                    continue
                if isinstance(piece, _StreamEnd):
                    break
                lines.feed(piece)
                self._on_tick()
        finally:
            stream.stop()
        return lines.end(piece.error)

    def _open(self, *, follow: bool) -> Any:
        return self._client.read_namespaced_pod_log(**self._following.request(follow=follow))

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._on_tick()
            time.sleep(TICK)


class _StreamEnd(msgspec.Struct, frozen=True):
    """Comes last in the queue of a stream, with what ended it."""

    error: Exception | None


class _Stream:
    """A thread that does nothing but read: all calls to Airflow stay in the task's own thread."""

    def __init__(
        self,
        open_stream: Callable[..., Any],
        pieces: queue.Queue[bytes | _StreamEnd],
        *,
        follow: bool,
    ) -> None:
        self._open_stream = open_stream
        self._pieces = pieces
        self._follow = follow
        self._stopped = threading.Event()
        self._response: Any = None
        self._thread = threading.Thread(target=self._run, name="dbt-watch-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end with its next piece; to close its response from here would wait for that, too."""
        self._stopped.set()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._response = self._open_stream(follow=self._follow)
            for piece in self._response.stream(amt=None, decode_content=True):
                self._put(piece)
                if self._stopped.is_set():
                    break
        except Exception as caught:  # noqa: BLE001 - whatever cuts a stream, the other thread decides
            error = caught
        finally:
            if self._response is not None:
                if self._stopped.is_set():
                    self._response.close()  # with what is left in it, the connection is of no more use
                else:
                    self._response.release_conn()
        self._put(_StreamEnd(error))

    def _put(self, item: bytes | _StreamEnd) -> None:
        while not self._stopped.is_set():
            try:
                self._pieces.put(item, timeout=1.0)
            except queue.Full:
                continue
            return
