"""
Follows the log of a container, line by line, until the container is really done.

The stock reader of KubernetesPodOperator hands a line on only when the next one arrives, and reads some lines twice
after a cut. `LogFollowing` has each line handed on at once, marks what was seen before, and goes on after a cut where the reading
was left off. It asks nothing itself: `producers.pods.log_reader` does so on a worker, and `producers.pods.async_log_reader` in a
triggerer.
"""

from __future__ import annotations

import itertools
import logging
import math
import operator
import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from dbt_watch.core.backoff import Backoff
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.core.steps import Pause
from dbt_watch.producers.pods.api_errors import HTTP_NOT_FOUND, status_of
from dbt_watch.producers.pods.container_end import ContainerEnd, container_end

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

log = logging.getLogger(__name__)

# All in seconds.
READ_TIMEOUT: Final = 60.0  # a silent connection is renewed after this: it may be dead
CONNECT_TIMEOUT: Final = 30.0
OVERLAP: Final = 5.0  # read again after a cut; the API counts in whole seconds
REST_TIMEOUT: Final = 60.0  # how long the end of a log is tried for once its container has ended
RECONNECT_FIRST: Final = 0.5
RECONNECT_LIMIT: Final = 10.0


class Position(msgspec.Struct):
    """
    How far a log has been read. It outlives a reader, so that another one can go on.

    :param stamp: the timestamp of the last line, in a form that compares
    :param repeats: how many lines bore that timestamp
    :param read_at: when it arrived, by our own monotonic clock; the pod's clock may be off by hours
    """

    stamp: tuple[str, str] | None = None
    repeats: int = 0
    read_at: float | None = None


class ReadLog(NamedTuple):
    """
    A step: read one stream of the log to its end. What came of it is a `StreamOutcome`.

    :param follow: whether the stream goes on until the container ends; otherwise it holds what there is now
    """

    follow: bool


class ReadPod(NamedTuple):
    """A step: read the pod afresh. What came of it is the pod."""


class StreamOutcome(NamedTuple):
    """
    What came of one stream.

    :param arrived: whether anything has arrived
    :param error: what cut it; None if it was read to its end
    """

    arrived: bool
    error: Exception | None


class LogFollowing:
    """
    What both readers do: what is to be asked next, and what an answer means. It asks nothing itself.

    :param name: the pod's
    :param namespace: the pod's
    :param container: the container's name
    :param position: where to go on; a new one reads from the beginning
    :param on_lines: called with raw lines without their ends, and whether they are new (not read before a cut)
    :param rest_timeout: seconds for which the end of a log is tried for once its container has ended; 60 by default
    :param raises: HTTP statuses of errors that end the reading, since the caller knows what to do; any other is survived
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        container: str,
        *,
        position: Position,
        on_lines: Callable[[list[bytes], bool], None],
        rest_timeout: float | None = None,
        raises: frozenset[int] = frozenset(),
    ) -> None:
        self._name = name
        self._namespace = namespace
        self._container = container
        self._position = position
        self._on_lines = on_lines
        self._rest_timeout = REST_TIMEOUT if rest_timeout is None else rest_timeout
        self._raises = raises

    def steps(
        self, end: ContainerEnd | None = None
    ) -> Generator[ReadLog | ReadPod | Pause, Any, ContainerEnd]:
        """
        Read until the container has ended and its whole log has been read (a procedure, see `core.steps`).

        :param end: how the container has ended, when that is known
        """
        in_vain = Backoff(2 * RECONNECT_FIRST, RECONNECT_LIMIT)
        while end is None:
            stream = yield from self._read(follow=True)
            end = yield from self._end()
            if end is None:
                if stream.arrived:
                    in_vain.reset()
                yield Pause(RECONNECT_FIRST if stream.arrived else in_vain.next())
        yield from self._read_rest()
        return end

    def request(self, *, follow: bool) -> dict[str, Any]:
        """Return the arguments of the request for the log, as both clients take them."""
        arguments: dict[str, Any] = {
            "name": self._name,
            "namespace": self._namespace,
            "container": self._container,
            "follow": follow,
            "timestamps": True,
            "_preload_content": False,
            "_request_timeout": (CONNECT_TIMEOUT, READ_TIMEOUT),
        }
        if self._position.read_at is not None:
            # By our own clock: the kubelet counts back from its own now, whatever the pod's timestamps say.
            arguments["since_seconds"] = math.ceil(time.monotonic() - self._position.read_at + OVERLAP)
        return arguments

    def lines(self) -> StreamLines:
        """Return what takes the pieces of the stream that is read next."""
        return StreamLines(self._position, self._on_lines)

    def lost(self, error: Exception) -> ContainerEnd | None:
        """Return what an error means that came instead of the pod's state; None to ask again."""
        status = status_of(error)
        if status in self._raises:
            raise error
        if status == HTTP_NOT_FOUND:
            return ContainerEnd(None, "the pod was deleted")
        log.warning("Asking for the pod's state failed (%s); retrying", error)
        return None

    def _read(self, *, follow: bool) -> Generator[ReadLog, StreamOutcome, StreamOutcome]:
        """Read one stream to its end, or until it is cut."""
        stream = yield ReadLog(follow)
        if stream.error is not None:
            status = status_of(stream.error)
            if status in self._raises:
                raise stream.error
            if not follow or status != HTTP_NOT_FOUND:
                log.info("Reading the log of %s was interrupted (%s); continuing", self._name, stream.error)
        return stream

    def _end(self) -> Generator[ReadPod, Any, ContainerEnd | None]:
        """Return how the container ended; None while it has not."""
        try:
            pod = yield ReadPod()
        except Exception as error:  # noqa: BLE001 - the network, or credentials; asked again
            return self.lost(error)
        return container_end(pod, self._container)

    def _read_rest(self) -> Generator[ReadLog | Pause, Any, None]:
        """Read what has reached the API after the stream was closed, until that has worked once."""
        deadline = time.monotonic() + self._rest_timeout
        backoff = Backoff(RECONNECT_FIRST, RECONNECT_LIMIT)
        while True:
            stream = yield from self._read(follow=False)
            if stream.error is None or status_of(stream.error) == HTTP_NOT_FOUND:
                return
            if time.monotonic() > deadline:
                log.warning(
                    "The end of the log could not be read (%s); the last lines may be missing", stream.error
                )
                return
            yield Pause(backoff.next())


class StreamLines:
    """
    The lines of one stream of the log, cut out of its pieces.

    :param position: how far the log has been read; it is moved on
    :param on_lines: called with raw lines without their ends, and whether they are new (not read before a cut)
    """

    def __init__(self, position: Position, on_lines: Callable[[list[bytes], bool], None]) -> None:
        self._splitter = LineSplitter()
        self._overlap = Overlap(position)
        self._on_lines = on_lines
        self._arrived = False

    def feed(self, piece: bytes) -> None:
        """Take what has arrived."""
        self._arrived = True
        self._take(self._splitter.feed(piece))

    def end(self, error: Exception | None) -> StreamOutcome:
        """Take the end of the stream. What was cut in the middle of a line is read again."""
        if error is None:
            self._take(self._splitter.flush())
        return StreamOutcome(self._arrived, error)

    def _take(self, lines: list[bytes]) -> None:
        told = [(self._overlap.is_new(stamp), text) for stamp, text in map(split_timestamp, lines)]
        for is_new, group in itertools.groupby(told, key=operator.itemgetter(0)):
            self._on_lines([text for _, text in group], is_new)


class Overlap:
    """Tells lines that were read before a cut from new ones, by their timestamps, and moves the position on."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._until = position.stamp
        self._skip = position.repeats

    def is_new(self, stamp: tuple[str, str] | None) -> bool:
        """Return whether a line with this timestamp was not read before."""
        if stamp is None:
            return self._until is None
        if self._until is not None:
            if stamp < self._until:
                return False
            if stamp == self._until and self._skip > 0:
                self._skip -= 1
                return False
            self._until = None
        position = self._position
        position.repeats = position.repeats + 1 if stamp == position.stamp else 1
        position.stamp = stamp
        position.read_at = time.monotonic()
        return True


def split_timestamp(line: bytes) -> tuple[tuple[str, str] | None, bytes]:
    """
    Split off the RFC 3339 timestamp that the API puts in front of each line.

    :returns: the timestamp in a form that compares (seconds, nanoseconds), or None if there is none, and the rest
    """
    match = _TIMESTAMP.match(line)
    if match is None:
        return None, line
    seconds, fraction = match.groups(b"")
    # Trailing zeros are left out by the API.
    return (seconds.decode(), fraction.decode().ljust(9, "0")), line[match.end() :]


# A node writes its local time, so there may be an offset instead of the Z.
_TIMESTAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|[+-]\d\d:\d\d)(?: |$)")
