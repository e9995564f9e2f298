"""What every request passes: a bound for its body, and the measuring of its answer."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dbt_watch.server.metrics import ServerMetrics

# In seconds; a client that sends a byte now and then would hold its connection for ever.
_BODY_TIMEOUT: Final = 20.0


class BodyLimit:
    """
    Reads the body of a request before anything else does, up to a limit.

    :param limit: bytes
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(receive), _BODY_TIMEOUT)
        except asyncio.TimeoutError:
            await _refuse(send, 408, "the body of the request did not arrive in time")
            return
        if body is None:
            return
        if len(body) > self._limit:
            await _refuse(send, 413, f"the body of a request must not exceed {self._limit} bytes")
            return
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Return the body, or its beginning when it is too long; None when the client has gone."""
        body = bytearray()
        while len(body) <= self._limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return bytes(body)


class RequestMeter:
    """Counts each request with the time that its answer took, under the path of its route."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            # The path itself would be a metric for each task_id, and for whatever else a client thinks of.
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(scope["method"], path, status, time.perf_counter() - began)


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"status_code": status, "message": message, "data": None}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
