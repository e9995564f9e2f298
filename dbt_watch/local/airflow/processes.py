"""
Child processes that are started, watched and ended as one: each in a session of its own, its output in a file.

Used by `deployment` for the components of an Airflow and by the demo for `dbt parse`. A session is what makes ending
safe: whatever a component starts in turn belongs to the session that this module made, so all of it can be found by
id, and nothing else can.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import psutil

from dbt_watch.local.airflow.waiting import CannotRun, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals by which a person or a supervisor asks this program to end."""

_KILL_PATIENCE_S = 10.0


class Interrupted(KeyboardInterrupt):
    """
    The program was asked to end.

    :param signum: by which signal
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"interrupted by {signal.Signals(signum).name}")


class ChildProcess:
    """
    One child process in a session of its own.

    :param name: what to call it in messages
    :param argv: the command, as a list of arguments
    :param env: its whole environment
    :param log: the file that receives its standard output and error
    :param cwd: its working directory
    """

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - a list of arguments of our own making, no shell
                tethered(argv),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        return self._popen.poll()

    def wait(self, timeout: float) -> int:
        """
        Wait for the end and return the exit code.

        :param timeout: seconds
        :raises CannotRun: if it still runs then
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CannotRun(f"{self.name} did not end within {timeout:.0f} s\n{self.tail()}") from None

    def tail(self, lines: int = 25) -> str:
        """Return the last lines of its output."""
        try:
            with self.log.open("rb") as output:
                output.seek(max(0, os.fstat(output.fileno()).st_size - 64_000))
                text = output.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


class ProcessSet:
    """
    The processes that one owner started, ended together.

    Starting and recording are one step that no interrupt can split, so `stop` knows every process there is.
    """

    def __init__(self) -> None:
        self._processes: dict[str, ChildProcess] = {}

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path
    ) -> ChildProcess:
        """Start a process; the arguments are those of `ChildProcess`. A name may be used again after its end."""
        with interrupts_held():
            process = ChildProcess(name, argv, env=env, log=log, cwd=cwd)
            self._processes[name] = process
        return process

    def __getitem__(self, name: str) -> ChildProcess:
        return self._processes[name]

    def pids(self) -> set[int]:
        """Return the ids of all processes that live in the sessions of this set."""
        return {member.pid for member in _members({process.pid for process in self._processes.values()})}

    def check(self, names: Iterable[str]) -> None:
        """
        Make sure that these still run, except those that `stop` ended.

        :raises CannotRun: with the exit code and the last lines of the first that does not
        """
        for process in [self._processes[name] for name in names if name in self._processes]:
            code = process.exit_code()
            if code is not None:
                raise CannotRun(
                    f"{process.name} ended with exit code {code}; its last lines:\n{process.tail()}"
                )

    def stop(self, names: Iterable[str] | None = None, *, grace: float = 5.0) -> None:
        """
        End processes and everything in their sessions: SIGTERM, then SIGKILL for what is left.

        :param names: which; all by default
        :param grace: seconds between the two signals
        """
        chosen = list(self._processes if names is None else names)
        with interrupts_held():
            ending = [self._processes.pop(name) for name in chosen if name in self._processes]
            sessions = {process.pid for process in ending}
            _signal_until_gone(sessions, signal.SIGTERM, grace)
            _signal_until_gone(sessions, signal.SIGKILL, _KILL_PATIENCE_S)
            for process in ending:
                with contextlib.suppress(CannotRun):
                    process.wait(_KILL_PATIENCE_S)


def _members(sessions: set[int]) -> list[psutil.Process]:
    """Return the living processes of these sessions and their descendants, which may have left them."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(process.pid) in sessions:
                for member in (process, *process.children(recursive=True)):
                    if member.status() != psutil.STATUS_ZOMBIE:
                        found[member.pid] = member
    return list(found.values())


def _signal_until_gone(sessions: set[int], signum: int, patience: float) -> None:
    """Send a signal once to each member, newcomers included, until none is left or `patience` seconds passed."""
    signalled: set[psutil.Process] = set()

    def none_is_left() -> bool:
        # Those that left their session are found as descendants only while their parents live: remember them.
        members = set(_members(sessions)) | {process for process in signalled if _is_alive(process)}
        for process in members - signalled:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signum)
        signalled.update(members)
        return not members

    if patience > 0:
        with contextlib.suppress(CannotRun):
            wait_for(none_is_left, patience, "processes are left", pause=0.05)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def interrupts_raised() -> Iterator[None]:
    """Let each of `INTERRUPTS` raise `Interrupted` in the main thread for the time of the block."""

    def interrupt(signum: int, _: FrameType | None) -> None:
        raise Interrupted(signum)

    with _handlers(interrupt):
        yield


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold `INTERRUPTS` back until the end of the block, so that it is done as a whole or not at all."""
    held: list[int] = []
    with _handlers(lambda signum, _: held.append(signum)):
        yield
    for signum in held[:1]:
        signal.raise_signal(signum)


@contextlib.contextmanager
def _handlers(handler: Any) -> Iterator[None]:
    # Python runs signal handlers in the main thread only, so other threads have nothing to guard against.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in INTERRUPTS}
    try:
        yield
    finally:
        for signum, previous in before.items():
            signal.signal(signum, previous)


def tethered(argv: Sequence[str]) -> list[str]:
    """
    Return the command that runs another one which gets a SIGTERM when this process dies, however it dies.

    Only Linux can do that (prctl(2), PR_SET_PDEATHSIG); elsewhere the command is returned as it is.
    """
    if not sys.platform.startswith("linux"):
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *argv]


_PR_SET_PDEATHSIG = 1
_TETHER = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with the interpreter that runs this."""
    return [sys.executable, "-m", module, *arguments]
