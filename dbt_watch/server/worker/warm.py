"""
Keeps dbt imported for each project of a host, so that an invocation starts with a fork instead of seconds of imports.

`worker.consumer` runs one `fork_server` for each project, in the interpreter of the project's dbt; `worker.runner` asks it for a
dbt. Whoever asks gets one that has not begun, or an error; then nothing has run, and dbt is started as a program.

The two find each other by what they inherit: each worker has the sending side of a channel for each project, each fork server the
receiving side, and what is sent are the ends of new streams. There is no address that anything else could connect to. The channel
outlives the fork servers, so that a new one takes the place of one that has died or of which dbt was installed anew.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.worker import fork_server
from dbt_watch.server.worker.child import DbtProcess
from dbt_watch.server.worker.processes import end_session, in_child

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dbt_watch.server.projects import ServedProject

_LOGGER: Final = logging.getLogger(__name__)

# In seconds: how long a worker waits for a dbt, as long as a program would need to import it on a busy machine.
_PATIENCE: Final = 10.0
# In seconds: how long a keeper may need to end what is left of its dbt.
_ENDING: Final = 10.0
# In seconds: the pauses between a fork server that failed and the next, and what imports may take.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_LONGEST_IMPORT: Final = 300.0
_LONGEST_HEAD: Final = 4096  # bytes of a console script

_ENTRY: Final = re.compile(r"^from dbt\.cli\.main import cli\b", re.MULTILINE)
# How installers write a path that is too long for `#!`.
_LONG_SHEBANG: Final = re.compile(r"""^'''exec' (?P<command>.+) "\$0" "\$@"$""")
_ADAPTER: Final = re.compile(
    r"""^\s*["']?type["']?\s*:\s*["']?([a-z][a-z0-9_]*)["']?\s*(?:#.*)?$""", re.MULTILINE
)


class NotWarm(Exception):
    """There is no fork server that answers; dbt has not begun."""


class ForkedDbt(DbtProcess):
    """
    A dbt that was forked, and that its keeper looks after.

    :param stream: to the keeper
    :param pid: of dbt
    :param output: the descriptor that its output is read from
    """

    def __init__(self, stream: socket.socket, pid: int, output: int) -> None:
        super().__init__(pid, output)
        self._stream = stream
        self._said = b""
        self._code: int | None = None

    def kill(self) -> None:
        """End it and what it started."""
        if not self._ask(b"k"):
            self._end_session()

    def _ask_to_end(self) -> None:
        self._ask(b"i")

    def _ask(self, what: bytes) -> bool:
        try:
            self._stream.sendall(what)
        except OSError:
            return False
        return True

    def _has_exited(self) -> bool:
        self._listen(0)
        return self._code is not None

    def _listen(self, timeout: float) -> bool:
        """Take what the keeper says within a time; return whether it is there."""
        if not select.select([self._stream], [], [], timeout)[0]:
            return True
        try:
            said = self._stream.recv(64)
        except ConnectionError:
            said = b""
        self._said += said
        if self._code is None and self._said.endswith(b"\n"):
            self._code = int(self._said)
        if not said and self._code is None:
            # Somebody has killed the keeper, and the kernel dbt.
            self._code = -signal.SIGKILL
        return bool(said)

    def _collect(self) -> int:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)
        until = time.monotonic() + _ENDING
        while self._listen(max(0.0, until - time.monotonic())) and time.monotonic() < until:
            pass
        if not self._said.endswith(b"\n"):
            # Its keeper has not ended what dbt had started.
            self._end_session()
        self._stream.close()
        return -signal.SIGKILL if self._code is None else self._code

    def _end_session(self) -> None:
        end_session(self.pid, self.started)


class WarmProject:
    """The fork server of one project on this host; made by the consumer, inherited by its workers."""

    def __init__(self, project: ServedProject) -> None:
        self._project = project
        # What is sent waits here while there is no fork server, or while it imports.
        self._sending, self._receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sending.setblocking(False)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._with_adapters = True
        self._started_at = self._start_at = time.monotonic()
        self._pause = _FIRST_PAUSE
        self._said = ""

    @property
    def pid(self) -> int | None:
        """The number of the fork server, when it takes requests."""
        return self._process.pid if self._process is not None and self._is_ready else None

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> ForkedDbt:
        """
        Return a dbt that has begun; a worker calls it.

        :raises NotWarm: when none has begun
        """
        stream, theirs = socket.socketpair()
        output, written = os.pipe()
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "directory": str(directory),
        }
        body = json.dumps(request).encode()
        try:
            with theirs:
                try:
                    socket.send_fds(self._sending, [b"r"], [theirs.fileno(), written])
                finally:
                    os.close(written)
            stream.settimeout(_PATIENCE)
            stream.sendall(fork_server.LENGTH.pack(len(body)) + body)
            pid = _number(stream)
            dbt = ForkedDbt(stream, pid, output)
            # From here on dbt may have begun.
            stream.sendall(b"g")
        except OSError as error:
            stream.close()
            os.close(output)
            raise NotWarm from error
        stream.settimeout(None)
        return dbt

    def look(self, *, may_start: bool) -> bool:
        """
        Start the fork server when it is not there, and turn away who waits for it in vain; the consumer calls it.

        :return: whether it imports dbt
        """
        now = time.monotonic()
        if self._process is None:
            self._turn_away()
            if may_start and now >= self._start_at:
                self._start(now)
            return self._process is not None
        if not self._is_ready:
            self._note_ready(now)
        code = self._process.poll()
        if code is not None:
            self._note_end(code, now)
        return self._process is not None and not self._is_ready

    def _start(self, now: float) -> None:
        try:
            script = self._project.executable()
            interpreter = interpreter_of(script)
        except (ArgumentError, OSError, ValueError) as error:
            script, interpreter = "", None
            self._say(f"dbt's script cannot be read: {error}")
        else:
            if interpreter is None:
                self._say(f"{script} is not a console script of dbt-core")
        if interpreter is None:
            self._postpone(now)
            return
        adapters = adapters_of(self._project.profiles_dir / "profiles.yml") if self._with_adapters else []
        channel = self._receiving.fileno()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter of the operator's dbt, and a script of ours
                [*interpreter, fork_server.__file__, str(channel), script, *adapters],
                env=self._project.common_environment(),
                cwd=self._project.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=[channel],
                start_new_session=True,
                preexec_fn=in_child(),  # noqa: PLW1509 - the consumer has one thread
            )
        except OSError as error:
            self._say(f"{interpreter[0]} cannot be started: {error.strerror}")
            self._postpone(now)
            return
        self._started_at, self._is_ready = now, False

    def _note_ready(self, now: float) -> None:
        assert self._process is not None  # noqa: S101 - asked by `look`
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        output = self._process.stdout
        if not select.select([output], [], [], 0)[0]:
            if now - self._started_at > _LONGEST_IMPORT:
                self._process.kill()
            return
        if os.read(output.fileno(), 65_536).endswith(fork_server.READY):
            self._is_ready = True
            self._pause = _FIRST_PAUSE
            self._said = ""
            _LOGGER.info("dbt of %s is warm, after %.1f s", self._project.name, now - self._started_at)

    def _note_end(self, code: int, now: float) -> None:
        assert self._process is not None  # noqa: S101 - asked by `look`
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        if code == 0:
            _LOGGER.info("the dbt installation of %s has changed", self._project.name)
            self._start_at, self._with_adapters = now, True
            return
        if code == fork_server.THREADS and self._with_adapters:
            self._start_at, self._with_adapters = now, False
            return
        if code == fork_server.THREADS:
            self._say("its imports start threads")
        else:
            _LOGGER.warning("the fork server of %s ended with %d", self._project.name, code)
        self._postpone(now)

    def _postpone(self, now: float) -> None:
        self._start_at = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            _LOGGER.warning("dbt of %s is started as a new program each time: %s", self._project.name, why)

    def _turn_away(self) -> None:
        """Close the streams of who waits, so that they need not wait until they have lost patience."""
        while select.select([self._receiving], [], [], 0)[0]:
            for descriptor in fork_server.take(self._receiving):
                os.close(descriptor)


class WarmProjects:
    """
    The fork servers of a host.

    :param projects: those that the server serves
    """

    def __init__(self, projects: Iterable[ServedProject]) -> None:
        self.by_name: dict[str, WarmProject] = (
            {project.name: WarmProject(project) for project in projects if project.settings.warm}
            # The kernel of no other system ends a dbt whose keeper was killed.
            if sys.platform.startswith("linux")
            else {}
        )

    def look(self) -> None:
        """See to it that they are there, one import of dbt at a time; to be called many times a minute."""
        is_busy = False
        for project in self.by_name.values():
            is_busy |= project.look(may_start=not is_busy)


def interpreter_of(script: str) -> list[str] | None:
    """
    Return the command line of the interpreter that runs a console script of dbt-core; None when it is anything else.

    :raises OSError: when it cannot be read
    """
    with Path(script).open("rb") as file:
        head = file.read(_LONGEST_HEAD).decode(errors="replace")
    lines = head.splitlines()
    if not _ENTRY.search(head) or not lines[0].startswith("#!"):
        return None
    command = lines[0][2:]
    # Of more than 127 characters, or with a blank.
    if long := _LONG_SHEBANG.match(lines[1]):
        command = long["command"]
    words = shlex.split(command)
    return words if any(Path(word).name.startswith("python") for word in words) else None


def adapters_of(profiles: Path) -> list[str]:
    """Return the adapters that a file of profiles names; those whose name is made by a template are imported by each dbt itself."""
    try:
        text = profiles.read_text()
    except (OSError, UnicodeDecodeError):
        return []
    return sorted(set(_ADAPTER.findall(text)))


def _number(stream: socket.socket) -> int:
    said = b""
    while not said.endswith(b"\n"):
        piece = stream.recv(1)
        if not piece:
            raise ConnectionResetError
        said += piece
    return int(said)
