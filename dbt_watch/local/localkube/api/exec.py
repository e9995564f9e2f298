"""
Exec over a websocket: one more process in a container, its streams multiplexed by channel.

The first byte of a message is the channel: 0 stdin, 1 stdout, 2 stderr, 3 the status at the end
(https://github.com/kubernetes/kubernetes/tree/master/staging/src/k8s.io/kubelet/pkg/cri/streaming/remotecommand).
Version 5 of the protocol adds 255, by which a client closes stdin. Called by `server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from dbt_watch.local.localkube.api.logs import container_name
from dbt_watch.local.localkube.api.objects import flag
from dbt_watch.local.localkube.errors import bad_request, internal
from dbt_watch.local.localkube.isolation import CannotStartError, Command, Exit, Isolation, Process, Streams
from dbt_watch.local.localkube.store import PODS, Store
from dbt_watch.local.localkube.xcom_sidecar import EmulatedSidecar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.local.localkube.containers import Container
    from dbt_watch.local.localkube.kubelet import Kubelet

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
# The exit code of a shell for a command that may not be run.
REFUSED = 126


class ExecApi:
    """The handler of `pods/NAME/exec`."""

    def __init__(self, store: Store, kubelet: Kubelet, isolation: Isolation) -> None:
        self._store = store
        self._kubelet = kubelet
        self._isolation = isolation

    async def run(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """Run the command of the request in a container and answer over the websocket."""
        pod = self._store.get(PODS, namespace, name)
        wanted = container_name(pod, request.query.get("container"))
        argv = request.query.getall("command", [])
        if not argv:
            raise bad_request("you must specify at least one command for the container")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise bad_request("Upgrade request required: localkube speaks websockets only")
        worker = self._kubelet.worker(pod)
        worker.reach(f"exec/{namespace}/{name}/{wanted}?{request.query_string}")
        container = worker.container(wanted)
        if container is None or not container.running:
            raise internal(f'container not found ("{wanted}")')
        socket = web.WebSocketResponse(protocols=PROTOCOLS, autoclose=True)
        await socket.prepare(request)
        channels = _Channels(socket)
        with contextlib.suppress(ConnectionError):
            if isinstance(container.process, EmulatedSidecar):
                await _emulate(container.process, argv, channels)
            else:
                await self._execute(container, argv, channels, request)
            await socket.close()
        return socket

    async def _execute(
        self, container: Container, argv: Sequence[str], channels: _Channels, request: web.Request
    ) -> None:
        process, own = container.process, container.command
        if not self._isolation.namespaces or not isinstance(process, Process) or own is None:
            await channels.refuse(
                f"localkube runs {argv[0]!r} in no container: there are no PID namespaces on this machine, "
                "and it would run on the host"
            )
            return
        pipes = _Pipes.open(stdin=flag(request.query, "stdin"))
        try:
            command = Command(argv, own.env, own.cwd)
            inside = await self._isolation.execute(process, command, pipes.theirs)
        except CannotStartError as error:
            pipes.close_ours()
            await channels.fail(f"error executing command in container: {error}")
            return
        finally:
            pipes.close_theirs()
        typing = asyncio.ensure_future(channels.feed(pipes))
        try:
            await asyncio.gather(
                channels.forward(STDOUT, pipes.stdout), channels.forward(STDERR, pipes.stderr)
            )
            await channels.finish(await inside.wait())
        finally:
            typing.cancel()
            await asyncio.wait([typing])
            inside.signal(9)  # only if the client went away before the end
            pipes.close_ours()


class _Channels:
    """The websocket, seen as channels."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, channel: int, data: bytes) -> None:
        await self._socket.send_bytes(bytes([channel]) + data)

    async def read(self) -> bytes | None:
        """Return the next piece of stdin, None when there is no more."""
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            data: bytes = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            if data[:2] == bytes([CLOSE, STDIN]):
                return None
            if data[:1] == bytes([STDIN]):
                return data[1:]

    async def feed(self, pipes: _Pipes) -> None:
        """Pass stdin on until the client closes it."""
        while True:
            data = await self.read()
            if data is None:
                pipes.close_stdin()
                return
            with contextlib.suppress(OSError):  # the process does not read any more
                await pipes.write(data)

    async def forward(self, channel: int, descriptor: int) -> None:
        """Send what a process writes, until it closes the stream."""
        async for data in _chunks(descriptor):
            await self.send(channel, data)

    async def finish(self, ended: Exit) -> None:
        """Send the status of a process that has ended."""
        if ended.code == 0:
            await self._status({"metadata": {}, "status": "Success"})
            return
        text = f"command terminated with exit code {ended.code}"
        await self._status(
            {
                "metadata": {},
                "status": "Failure",
                "message": f"command terminated with non-zero exit code: {text}",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": str(ended.code)}]},
            }
        )

    async def fail(self, message: str) -> None:
        """Send the status of a command that could not be run."""
        await self._status(internal(message).status())

    async def refuse(self, message: str) -> None:
        """Print on stderr why a command is not run, and end as a shell would."""
        await self.send(STDERR, f"{message}\n".encode())
        await self.finish(Exit(REFUSED))

    async def _status(self, status: dict[str, Any]) -> None:
        await self.send(STATUS, json.dumps(status).encode())


class _Pipes:
    """The pipes of one process."""

    def __init__(self, theirs: Streams, stdin: int | None, stdout: int, stderr: int) -> None:
        self.theirs = theirs
        self.stdout = stdout
        self.stderr = stderr
        self._stdin = stdin

    @classmethod
    def open(cls, *, stdin: bool) -> _Pipes:
        stdout, stderr = os.pipe(), os.pipe()
        given = os.pipe() if stdin else None
        for descriptor in (stdout[0], stderr[0], *([given[1]] if given else [])):
            os.set_blocking(descriptor, False)
        theirs = Streams(given[0] if given else subprocess.DEVNULL, stdout[1], stderr[1])
        return cls(theirs, given[1] if given else None, stdout[0], stderr[0])

    async def write(self, data: bytes) -> None:
        while data and self._stdin is not None:
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:  # noqa: PERF203 - it is what the loop is for
                await _ready(self._stdin, writing=True)

    def close_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def close_theirs(self) -> None:
        for descriptor in (self.theirs.stdin, self.theirs.stdout, self.theirs.stderr):
            if descriptor >= 0:
                os.close(descriptor)

    def close_ours(self) -> None:
        self.close_stdin()
        for descriptor in (self.stdout, self.stderr):
            os.close(descriptor)


async def _emulate(sidecar: EmulatedSidecar, argv: Sequence[str], channels: _Channels) -> None:
    output = sidecar.answer(argv)
    if output is not None:
        if output:
            await channels.send(STDOUT, output)
        await channels.finish(Exit(0))
        return
    if not sidecar.takes_input(argv):
        await channels.refuse(f"localkube emulates the XCom sidecar here, which does not know {list(argv)!r}")
        return
    pending = b""
    while (data := await channels.read()) is not None:
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if sidecar.type_line(line.decode(errors="replace")):
                await channels.finish(Exit(0))
                return
            if line.strip():
                await channels.refuse(
                    "localkube emulates the XCom sidecar here, which does not know this command"
                )
                return


async def _chunks(descriptor: int) -> Any:
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            await _ready(descriptor, writing=False)
            continue
        if not data:
            return
        yield data


async def _ready(descriptor: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)
