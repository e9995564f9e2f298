"""
Processes that end with the one that started them, and what identifies one after its end.

A number of a process is used again, so it is told with the time at which the process began. Numbers mean something on one host and
in one PID namespace only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG: Final = 1
# In seconds; the time at which a process began is worked out from that at which the machine did.
_SAME_TIME: Final = 1.5
_LIBC: Final = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def host_id() -> str:
    """Return a name for where the numbers of processes mean the same."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return ":".join(parts)


def start_time(pid: int) -> float:
    """Return when a process began, in seconds since 1970; 0.0 if there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def is_alive(pid: int, started: float) -> bool:
    """Return whether a process runs that began at a time."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < _SAME_TIME
    except psutil.Error:
        return False


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """
    Have the kernel send this process a signal when the one that started it ends, however that ends.

    Only Linux can do that; elsewhere `worker.sweep` ends what a worker left.

    :param parent: the process that started this one; it may be gone by now
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)


def in_child(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """
    Return what a child process does before it becomes another program.

    :param number: what it gets when this process ends
    """
    parent = os.getpid()

    def prepare() -> None:
        end_with_parent(parent, number)
        # What a worker ignores, its child would ignore too.
        for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(interrupt, signal.SIG_DFL)

    return prepare


def end_session(leader: int, started: float) -> int:
    """
    Kill what is left of a session, and return how many processes that were.

    :param leader: the process that was its first, which may have ended
    :param started: when that began
    """
    killed = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.create_time() > started - _SAME_TIME:
                process.kill()
                killed += 1
    return killed
