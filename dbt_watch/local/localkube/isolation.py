"""
How processes of containers are started and signalled; the only module of localkube that does either.

Each process has a launcher of its own (`launcher.py`) as its parent, in a session of its own, and only that parent
ever signals it. With namespaces, the process is PID 1 of a PID namespace and sees a private layer over the host's
files; without, see `without_namespaces` for what is allowed to run at all. Called by `containers` and the exec endpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAUNCHER = Path(__file__).with_name("launcher.py")
HOME = "/pod"
# Nothing of the user's Python set-up may run here, and the start is faster.
BARE = ("-I", "-S")
# As Kubernetes' own first process of a pod: it collects what ends in its namespace, and ends on SIGINT and SIGTERM.
PAUSE = """
import os, signal
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: os._exit(0))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects them itself
while True:
    signal.pause()
"""


class IsolationMode(str, Enum):
    """What `isolation=` takes: namespaces where the machine can, `none` for running without."""

    AUTO = "auto"
    NAMESPACES = "namespaces"
    NONE = "none"

    @classmethod
    def parse(cls, value: object) -> IsolationMode:
        """Return the mode of that name; :raises ArgumentError: there is none."""
        try:
            return cls(value)
        except ValueError:
            names = [mode.value for mode in cls]
            raise ArgumentError("isolation", value, f"one of {', '.join(names)}", known=names) from None


class MountMode(str, Enum):
    """How a directory of the host is shown in a container; `private` means that changes stay in the container."""

    PRIVATE = "private"
    SHARED = "shared"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class BoundPath:
    """A file or directory of the host, and where a container sees it."""

    source: Path
    target: str
    mode: MountMode


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: the argument list, the whole environment, and the directory to start in."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str = "/"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What the main process of a container sees.

    :ivar directory: a directory of localkube's for this container alone
    :ivar beside: a process whose PID namespace it shares; None for one of its own
    """

    directory: Path
    hostname: str
    mounts: Sequence[BoundPath] = ()
    beside: Process | None = None


@dataclass(frozen=True, slots=True)
class Streams:
    """File descriptors for the standard streams of a process; the caller keeps its own copies and closes them."""

    stdin: int = subprocess.DEVNULL
    stdout: int = subprocess.DEVNULL
    stderr: int = subprocess.DEVNULL


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended; `code` is 128 + the signal's number when one killed it, as a shell has it."""

    code: int


class CannotStartError(Exception):
    """The process could not be started; the text says why."""


class CannotCreateError(CannotStartError):
    """The process may not be started here; trying again cannot help."""


class Process:
    """
    A started process, by way of the launcher that is its parent.

    :ivar pidfd: stands for the process as long as this object is used; None without namespaces
    """

    def __init__(self, launcher: subprocess.Popen[bytes], link: _Link, pidfd: int | None) -> None:
        self._launcher = launcher
        self._link = link
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.pidfd = pidfd
        self._reader = asyncio.ensure_future(self._watch())

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet, as far as is known."""
        return not self._ended.done()

    def signal(self, number: int) -> None:
        """Have its parent signal the process; nothing happens when it has ended."""
        if self.running:
            self._link.send({"signal": int(number)})

    async def wait(self) -> Exit:
        """Wait for the end; may be called any number of times."""
        return await asyncio.shield(self._ended)

    async def _watch(self) -> None:
        exit_ = Exit(128 + signal.SIGKILL)  # what a launcher that is killed leaves
        try:
            message = await self._link.read()
            if message is not None and "exit" in message:
                exit_ = Exit(message["exit"])
            elif message is not None:
                exit_ = Exit(128 + message["signal"])
        finally:
            self._link.close()
            if self.pidfd is not None:
                os.close(self.pidfd)
                self.pidfd = None
            _reap(self._launcher)
            self._ended.set_result(exit_)


class Isolation:
    """
    Starts processes.

    :param namespaces: whether each container gets namespaces of its own
    :param user_namespace: whether that needs a user namespace, because this process is not root
    """

    def __init__(self, *, namespaces: bool, user_namespace: bool = False) -> None:
        self.namespaces = namespaces
        self._user_namespace = user_namespace

    async def start(self, command: Command, streams: Streams, around: Surroundings) -> Process:
        """
        Start the main process of a container.

        :raises CannotStartError: the program is not there, a mount failed, ...
        """
        pidfd = None if around.beside is None else _open(around.beside)
        spec = {"kind": "container", **_file_system(around)}
        return await self._launch(spec, command, streams, pidfd=pidfd)

    async def pause(self) -> Process:
        """
        Start a process that does nothing, as the first of a PID namespace that containers may share.

        :raises CannotStartError: there are no namespaces
        """
        if not self.namespaces:
            raise CannotStartError("there are no namespaces to share")
        return await self._launch(
            {"kind": "pause"}, Command([sys.executable, *BARE, "-c", PAUSE], {}), Streams()
        )

    async def execute(self, inside: Process, command: Command, streams: Streams) -> Process:
        """
        Start one more process inside the namespaces of a container.

        :raises CannotStartError: the container is gone, the program is not there, or there are no namespaces
        """
        return await self._launch({"kind": "exec"}, command, streams, pidfd=_open(inside))

    async def _launch(
        self, spec: dict[str, Any], command: Command, streams: Streams, *, pidfd: int | None = None
    ) -> Process:
        ours, theirs = socket.socketpair()
        passed = [theirs.fileno()] if pidfd is None else [theirs.fileno(), pidfd]
        try:
            # Not in a thread: the kernel kills the launcher when the very thread that started it ends.
            launcher = subprocess.Popen(  # noqa: ASYNC220, S603 - as said; our own program, given a number
                [sys.executable, *BARE, str(LAUNCHER), str(theirs.fileno())],
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
                pass_fds=passed,
                start_new_session=True,
                cwd="/",
            )
        finally:
            theirs.close()
        link = await _Link.open(ours)
        link.write(
            {
                **spec,
                "namespaces": self.namespaces,
                "user_namespace": self._user_namespace,
                "parent": os.getpid(),
                "pidfd": pidfd,
                "argv": list(command.argv),
                "env": dict(command.env),
                "cwd": command.cwd,
            }
        )
        held = None
        try:
            pid = (await link.expect("pid"))["pid"]
            if self.namespaces:
                # Before "go" the process cannot have ended and been collected, so the number is still its own.
                held = os.pidfd_open(pid)
            link.write("go")
            await link.expect("started")
        except BaseException:
            link.close()  # the launcher kills the process when it sees the end
            if held is not None:
                os.close(held)
            _reap(launcher)
            raise
        return Process(launcher, link, held)


async def choose(mode: IsolationMode, scratch: Path) -> Isolation:
    """
    Find out what this machine can do, by running a container that does nothing.

    :param scratch: a directory for the trial
    :raises ArgumentError: namespaces are asked for and cannot be had
    """
    if mode is IsolationMode.NONE:
        return Isolation(namespaces=False)
    why = "it needs Linux"
    if sys.platform.startswith("linux") and hasattr(os, "pidfd_open"):
        candidate = Isolation(namespaces=True, user_namespace=os.getuid() != 0)
        try:
            await _try(candidate, scratch)
        except CannotStartError as error:
            why = str(error)
        else:
            return candidate
    if mode is IsolationMode.NAMESPACES:
        raise ArgumentError(
            "isolation", mode.value, f"'auto' or 'none': no PID namespace can be had here, {why}"
        )
    return Isolation(namespaces=False)


async def _try(candidate: Isolation, scratch: Path) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        mounts = [BoundPath(Path(directory), "/localkube/trial", MountMode.SHARED)]
        around = Surroundings(Path(directory), "trial", mounts)
        # The shell waits, so that a second process can be started inside, as exec does.
        waiting = Command(["/bin/sh", "-c", "while :; do sleep 1; done"], {"PATH": os.defpath})
        process = await candidate.start(waiting, Streams(), around)
        try:
            inner = Command(["/bin/sh", "-c", "test -d /localkube/trial"], {"PATH": os.defpath})
            ended = await (await candidate.execute(process, inner, Streams())).wait()
            if ended.code != 0:
                raise CannotStartError("mounts do not work")
        finally:
            process.signal(signal.SIGKILL)
            await process.wait()


def _open(process: Process) -> int:
    """Return what stands for a process that runs; :raises CannotStartError: it has ended."""
    if process.pidfd is None:
        raise CannotStartError("the container has ended, or has no namespaces of its own")
    return process.pidfd


@dataclass(slots=True)
class _Link:
    """Our end of the socket pair to a launcher."""

    _socket: socket.socket
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, sock: socket.socket) -> _Link:
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        return cls(sock, reader, writer)

    async def read(self) -> Any:
        """Wait for the next message; None when the launcher is gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    async def expect(self, key: str) -> dict[str, Any]:
        """Wait for the message with that key; :raises CannotStartError: another one came, or none."""
        message = await self.read() or {"error": "its launcher was killed"}
        if key not in message:
            raise CannotStartError(message.get("error", str(message)))
        return dict(message)

    def write(self, value: object) -> None:
        self._writer.write(json.dumps(value).encode() + b"\n")

    def send(self, value: object) -> None:
        """
        Write past the stream, once it has nothing left to write, to a launcher that may have ended.

        A write that fails would close the stream, and the last message of the launcher would be lost unread.
        """
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps(value).encode() + b"\n")

    def close(self) -> None:
        self._writer.close()


def _file_system(around: Surroundings) -> dict[str, Any]:
    """Return the part of a launcher's spec that says what the process sees."""
    root = around.directory / "root"
    root.mkdir(exist_ok=True)
    mounts = [
        {"source": os.path.realpath(bound.source), "target": bound.target, "mode": bound.mode.value}
        for bound in around.mounts
    ]
    return {
        "root": os.path.realpath(root),
        "home": HOME,
        "mounts": mounts,
        "hostname": around.hostname,
    }


def _reap(launcher: subprocess.Popen[bytes]) -> None:
    """Collect a launcher that is about to end, or end it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        launcher.wait(timeout=2)
        return
    launcher.kill()
    launcher.wait()


def remove_tree(path: Path) -> None:
    """Remove a directory of localkube's with all that containers wrote into its volumes."""
    shutil.rmtree(path, ignore_errors=True)
