"""
One process of dbt: started, its output read, interrupted, ended with all that it started.

It is the first process of a session of its own, and dies with the worker that started it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from dbt_watch.server.worker.processes import in_child, start_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KILL_AFTER_S: Final = 5.0
"""Seconds between SIGINT and SIGKILL."""

_PIECE: Final = 1 << 18  # bytes
# In seconds: how long what dbt started may go on writing after its end.
_LAST_WORDS: Final = 2.0


class DbtProcess:
    """
    A dbt that runs.

    :param arguments: its program and the arguments of that
    :param environment: all of its variables
    :raises OSError: when it cannot be started
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a list of arguments that were checked, and no shell
            list(arguments),
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child(),  # noqa: PLW1509 - a worker has one thread
        )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self._output = self._process.stdout.fileno()
        self.pid = self._process.pid
        self.started = start_time(self.pid)
        self._is_open = True
        self._interrupted_at: float | None = None
        self._ended_at: float | None = None

    def read(self, timeout: float) -> bytes:
        """Return what it has written since, waiting for a while; nothing, if it has written nothing."""
        if not self._is_open:
            if not self._has_exited():
                time.sleep(min(timeout, 0.05))
            return b""
        if not select.select([self._output], [], [], timeout)[0]:
            return b""
        data = os.read(self._output, _PIECE)
        self._is_open = bool(data)
        return data

    def has_ended(self) -> bool:
        """Return whether it has ended and everything that it wrote was read."""
        if not self._has_exited():
            return False
        if not self._is_open:
            return True
        self._ended_at = self._ended_at or time.monotonic()
        return time.monotonic() - self._ended_at > _LAST_WORDS

    def interrupt(self) -> None:
        """Ask it to end, once; after `KILL_AFTER_S`, end it."""
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = now
            self._process.send_signal(signal.SIGINT)
        elif now - self._interrupted_at > KILL_AFTER_S:
            self.kill()

    def kill(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> int:
        """End what is left of it, and return its exit code, negative for a signal."""
        # Before its number is free for another process.
        self.kill()
        code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def _has_exited(self) -> bool:
        """Return whether it has ended, and leave its number taken."""
        if self._process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None
