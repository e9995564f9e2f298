"""
One run of dbt in a process: its output read, interrupted, ended with all that it started.

`DbtProgram` starts dbt as a program; `worker.warm` has the other way, a fork of a process that has imported it. Either is the
first process of a session of its own, and does not outlive the worker that asked for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from abc import ABC, abstractmethod
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
# In seconds: how often its end is looked for once it has closed its output, which it mostly does by its end.
_LAST_LOOK: Final = 0.01


class DbtProcess(ABC):
    """
    A dbt that runs.

    :param pid: its number
    :param output: the descriptor that its output is read from
    """

    def __init__(self, pid: int, output: int) -> None:
        self.pid = pid
        self.started = start_time(pid)
        self._output = output
        self._is_open = True
        self._interrupted_at: float | None = None
        self._ended_at: float | None = None

    def read(self, timeout: float) -> bytes:
        """Return what it has written since, waiting for a while; nothing, if it has written nothing."""
        if not self._is_open:
            if not self._has_exited():
                time.sleep(min(timeout, _LAST_LOOK))
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
            self._ask_to_end()
        elif now - self._interrupted_at > KILL_AFTER_S:
            self.kill()

    def close(self) -> int:
        """End what is left of it, and return its exit code, negative for a signal."""
        code = self._collect()
        os.close(self._output)
        return code

    @abstractmethod
    def kill(self) -> None:
        """End it and what it started."""

    @abstractmethod
    def _ask_to_end(self) -> None:
        """Send it SIGINT."""

    @abstractmethod
    def _has_exited(self) -> bool:
        """Return whether it has ended, and leave its number taken."""

    @abstractmethod
    def _collect(self) -> int:
        """End it and what it started, let go of its number, and return its exit code."""


class DbtProgram(DbtProcess):
    """
    A dbt that was started as a program.

    :param arguments: the program and the arguments of it
    :param environment: all of its variables
    :raises OSError: when it cannot be started
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        output, written = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list of arguments that were checked, and no shell
                list(arguments),
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
                preexec_fn=in_child(),  # noqa: PLW1509 - a worker has one thread
            )
        except OSError:
            os.close(output)
            raise
        finally:
            os.close(written)
        super().__init__(self._process.pid, output)

    def kill(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _ask_to_end(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def _has_exited(self) -> bool:
        if self._process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def _collect(self) -> int:
        # Before its number is free for another process.
        self.kill()
        return self._process.wait()
