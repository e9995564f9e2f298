"""
Faults on the way between a client and the API: refusals, hanging, latency, cut log streams.

`faults` adds them, from any thread; the server asks `Traffic` with every request and every piece of a log.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from dbt_watch.local.localkube.errors import ApiError, unauthorized

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from aiohttp import web
    from typing_extensions import Self

# How often a request that hangs looks whether it still must, in seconds.
GLANCE: Final = 0.02
# How long a client is asked to wait by a server that has too much to do, in seconds.
RETRY_AFTER: Final = 1
TOO_MANY_REQUESTS: Final = 429

# What API servers say with these codes; (reason, message).
_WORDS: Final = {
    429: ("TooManyRequests", "Too many requests, please try again later."),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "apiserver is shutting down"),
    504: ("Timeout", "request did not complete within the allotted timeout"),
}


@dataclass(frozen=True, slots=True)
class Requests:
    """
    Which requests are meant.

    :ivar path: a pattern with `*`, such as `*/pods/*/log`
    :ivar methods: none stands for all
    """

    path: str = "*"
    methods: frozenset[str] = frozenset()

    def match(self, request: web.Request) -> bool:
        """Whether this is one of them."""
        return fnmatchcase(request.path, self.path) and (not self.methods or request.method in self.methods)


class Fault:
    """
    A fault that goes on: until it has come so many times, until a time is over, or until it is ended.

    Used as a context manager it ends with the block.

    :ivar hits: how many times it has come; a test looks here whether it has caused anything at all
    """

    def __init__(self, *, times: int | None, seconds: float | None) -> None:
        self.hits = 0
        self._times = times
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._ended = False

    @property
    def active(self) -> bool:
        """Whether it still comes."""
        return not self.over and (self._times is None or self.hits < self._times)

    @property
    def over(self) -> bool:
        """Whether it was ended or its time is over."""
        return self._ended or (self._deadline is not None and time.monotonic() >= self._deadline)

    def end(self) -> None:
        """Let it come no more; may be called twice."""
        self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class RequestFault(Fault):
    """
    A fault of requests.

    :param strike: is awaited with each request before it is served; raises what it is answered with instead
    """

    def __init__(
        self,
        which: Requests,
        strike: Callable[[RequestFault], Awaitable[None]],
        *,
        times: int | None = None,
        seconds: float | None = None,
    ) -> None:
        super().__init__(times=times, seconds=seconds)
        self._which = which
        self._strike = strike

    async def meet(self, request: web.Request) -> None:
        """Take effect on a request, if it is one of those meant."""
        if self.active and self._which.match(request):
            self.hits += 1
            await self._strike(self)


class StreamFault(Fault):
    """
    Cuts log streams.

    :param within: the longest a stream may get before it is cut, in bytes
    """

    def __init__(self, *, times: int, within: int, seed: int) -> None:
        super().__init__(times=times, seconds=None)
        self._within = within
        self._random = random.Random(seed)  # noqa: S311 - no secret: a seed lets a failure be repeated

    def choose(self) -> int:
        """Return after how many bytes the next stream is cut."""
        return self._random.randint(0, self._within)


class Traffic:
    """The requests and log streams of a server, and what becomes of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: tuple[RequestFault, ...] = ()
        self._streams: tuple[StreamFault, ...] = ()
        # By identity: a request has no hash.
        self._open: dict[int, web.Request] = {}

    def add(self, fault: RequestFault | StreamFault) -> None:
        """Let a fault come from now on."""
        with self._lock:
            if isinstance(fault, RequestFault):
                self._requests = (*(each for each in self._requests if each.active), fault)
            else:
                self._streams = (*(each for each in self._streams if each.active), fault)

    def clear(self) -> None:
        """End all faults."""
        for fault in (*self._requests, *self._streams):
            fault.end()

    async def meet(self, request: web.Request) -> None:
        """Let the faults take effect on a request; :raises ApiError: what it is answered with."""
        for fault in self._requests:
            await fault.meet(request)

    def drop_streams(self, path: str = "*") -> None:
        """Cut the log streams that are open; to be called in the server's loop."""
        for request in list(self._open.values()):
            if fnmatchcase(request.path, path):
                _cut(request)

    async def limited(
        self, request: web.Request, batches: AsyncIterator[bytes], *, follow: bool
    ) -> AsyncIterator[bytes]:
        """Pass the pieces of a log on, and cut the connection where a fault wants that."""
        fault = next((each for each in self._streams if each.active), None) if follow else None
        left = None if fault is None else fault.choose()
        self._open[id(request)] = request
        try:
            async for batch in batches:
                if fault is not None and left is not None and len(batch) > left:
                    if fault.active:
                        fault.hits += 1
                        if left:
                            yield batch[:left]
                        _cut(request)
                        return
                    fault = None
                if left is not None:
                    left -= len(batch)
                yield batch
        finally:
            self._open.pop(id(request), None)


def answering(code: int) -> Callable[[RequestFault], Awaitable[None]]:
    """Return a strike that answers with an error."""

    async def strike(_: RequestFault) -> None:
        reason, message = _WORDS.get(code, ("", f"localkube was told to answer {code}"))
        details = {"retryAfterSeconds": RETRY_AFTER} if code == TOO_MANY_REQUESTS else None
        raise ApiError(code, reason, message, details)

    return strike


def waiting(seconds: float) -> Callable[[RequestFault], Awaitable[None]]:
    """Return a strike that delays a request."""

    async def strike(_: RequestFault) -> None:
        await asyncio.sleep(seconds)

    return strike


async def hanging(fault: RequestFault) -> None:
    """Hold a request back for as long as the fault lasts."""
    while not fault.over:  # noqa: ASYNC110 - it is ended from other threads, and by the clock
        await asyncio.sleep(GLANCE)


async def refusing_credentials(_: RequestFault) -> None:
    """Answer as to a token that has expired."""
    raise unauthorized()


def _cut(request: web.Request) -> None:
    # What was written before still goes out; the end of the message does not.
    if request.transport is not None:
        request.transport.close()
