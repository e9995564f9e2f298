"""
A proxy in front of Airflow's api-server which can be told to answer badly.

Tasks on workers reach Airflow only through it, so what it does is what a failing api-server would do to them. It
listens on loopback, on a free port.
"""

import asyncio
import contextlib
import threading

import aiohttp
from aiohttp import web

HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding", "content-encoding", "host"}


class Proxy:
    """
    Forwards to one address; runs in a thread of its own.

    :param target: such as http://127.0.0.1:8080
    """

    def __init__(self, target):
        self.target = target
        self.answered_badly = 0
        self._is_failing = False
        self._over = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self):
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def failing(self, *, hangs=False):
        """For as long as the block lasts, answer 500 to all requests, or do not answer them at all."""
        self._is_failing, self._over = True, asyncio.Event() if hangs else None
        try:
            yield
        finally:
            self._is_failing = False
            if self._over is not None:
                self._loop.call_soon_threadsafe(self._over.set)

    async def _start(self):
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return self._runner.addresses[0][1]

    async def _stop(self):
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request):
        if self._is_failing:
            self.answered_badly += 1
            if self._over is None:
                return web.json_response({"detail": "the database is away"}, status=500)
            await self._over.wait()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = await request.read()
        try:
            async with self._session.request(
                request.method,
                self.target + request.path_qs,
                headers=headers,
                data=body,
                allow_redirects=False,
            ) as answer:
                kept = {
                    k: v
                    for k, v in answer.headers.items()
                    if k.lower() not in HOP_BY_HOP - {"content-encoding"}
                }
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except aiohttp.ClientError:
            # As where nothing stands in between: nobody is there who could answer.
            request.transport.abort()
            return web.Response()
