"""
Keeps the two processes of a server running: the API, and the workers of this host.

`command` runs it. One that ends is started again, with a pause that grows. Killing one does not end the other; when this process is
killed, the API ends at once, and the workers as they do on SIGTERM.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbt_watch.server.worker.processes import in_child

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_LOGGER: Final = logging.getLogger(__name__)
_LOOK: Final = 0.2
# In seconds: between the end of a process and its next start.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0
# A process that ran for so long was not broken from its start.
_HEALTHY: Final = 60.0
# What the workers need besides the time that they leave dbt, and the API to end.
_EXTRA_S: Final = 15.0
_API_S: Final = 10.0


@dataclass
class SupervisedProcess:
    """
    A process that is to run.

    :ivar tether: what it gets when this one ends
    """

    name: str
    arguments: Sequence[str]
    tether: signal.Signals
    pid: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = _FIRST_PAUSE

    def start(self) -> None:
        """Start it, in a session of its own: what a terminal sends is for this process to pass on."""
        process = subprocess.Popen(  # noqa: S603 - arguments of our own
            list(self.arguments),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=in_child(self.tether),  # noqa: PLW1509 - this process has one thread
        )
        self.pid = process.pid
        # This process waits for its children by itself.
        process.returncode = 0
        self.started_at = time.monotonic()

    def note_end(self, status: int) -> None:
        """Note that it has ended, and when to start it again."""
        now = time.monotonic()
        self.pause = _FIRST_PAUSE if now - self.started_at > _HEALTHY else min(self.pause * 2, _LONGEST_PAUSE)
        self.pid, self.start_at = 0, now + self.pause
        _LOGGER.warning("%s ended with %d", self.name, os.waitstatus_to_exitcode(status))

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Supervisor:
    """
    What runs until SIGTERM or SIGINT.

    :param processes: in the order in which they are started; they are ended in reverse
    :param patience: seconds that the last one gets to end
    """

    def __init__(self, processes: Sequence[SupervisedProcess], patience: float) -> None:
        self._processes = processes
        self._patience = patience
        self._is_stopping = False

    def run(self) -> int:
        """Run; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self._is_stopping:
            now = time.monotonic()
            for process in self._processes:
                if not process.pid and now >= process.start_at:
                    process.start()
            self._collect()
            time.sleep(_LOOK)
        patience = self._patience + _EXTRA_S
        # The API answers while the workers end.
        for process in reversed(self._processes):
            process.send(signal.SIGTERM)
            self._wait(process, patience)
            patience = _API_S
        return 0

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True

    def _wait(self, process: SupervisedProcess, patience: float) -> None:
        until = time.monotonic() + patience
        while process.pid and time.monotonic() < until:
            self._collect()
            time.sleep(_LOOK / 2)
        process.send(signal.SIGKILL)

    def _collect(self) -> None:
        """Take the ends of all children: in a container, also of processes that nobody else waits for."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for process in self._processes:
                if process.pid == pid:
                    process.note_end(status)
