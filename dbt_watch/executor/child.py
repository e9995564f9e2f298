"""
The watching process, as the scheduler's part has it: begun, spoken with and begun again, without ever waiting for it.

The loop of a scheduler calls all of this, so nothing here blocks, whatever the process does.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from dbt_watch.core.backoff import Backoff
from dbt_watch.executor.messages import Alive, encoded, report_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.executor.messages import Order, Report

log = logging.getLogger(__name__)

PROGRAM: Final = (sys.executable, "-m", "dbt_watch.executor.process")
# In seconds: what did not say that it is alive for so long is killed. It says so every 5 s.
SILENCE: Final = 90.0
_PAUSE_FIRST: Final = 1.0
_PAUSE_LIMIT: Final = 60.0
# In seconds: a process that has lived for so long was well.
_LONG_LIFE: Final = 60.0
_GRACE: Final = 5.0
_CHUNK: Final = 1 << 16


class Child:
    """
    The process.

    :param url: where the execution API is
    :param program: what is run, with the number of a socket and the URL as its arguments
    """

    def __init__(self, url: str, program: Sequence[str] = PROGRAM) -> None:
        self._url = url
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._unsent: deque[memoryview] = deque()
        self._unread = b""
        self._began = self._heard = 0.0
        self._pauses = Backoff(_PAUSE_FIRST, _PAUSE_LIMIT)
        self._start_due = 0.0

    @property
    def pid(self) -> int | None:
        """The id of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def revive(self) -> bool:
        """Begin the process if there is none; return whether it was, so that it knows of nothing."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            if now - self._heard < SILENCE:
                return False
            log.error("The process that watches dbt nodes (%d) does not respond", self._process.pid)
        if self._process is not None:
            code = self._put_away(grace=0.0)
            pause = 0.0 if now - self._began > _LONG_LIFE else self._pauses.next()
            self._start_due = now + pause
            log.warning(
                "The process that watches dbt nodes has ended (%s); restarting it in %.0f s",
                code,
                pause,
            )
        if now < self._start_due:
            return False
        self._start(now)
        return True

    def _start(self, now: float) -> None:
        ours, its = socket.socketpair()
        with its:
            ours.setblocking(False)
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*self._program, str(its.fileno()), self._url],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._socket = ours
        self._began = self._heard = now
        log.info("The process that watches dbt nodes has started: %d", self._process.pid)

    def send(self, order: Order) -> None:
        """Send an order as soon as the process takes it; what it has not taken by its end is lost."""
        self._unsent.append(memoryview(encoded(order)))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._socket is not None and self._unsent:
                sent = self._socket.send(self._unsent[0])
                if sent == len(self._unsent[0]):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = self._unsent[0][sent:]
        except BlockingIOError:
            return
        except OSError:
            return  # it has ended, which is seen in a moment

    def receive(self) -> list[Report]:
        """Return what it has reported since the last time; send on what it has not taken yet."""
        self._flush()
        lines = self._read()
        if lines:
            self._heard = time.monotonic()
        reports = [report_in(line) for line in lines]
        return [report for report in reports if not isinstance(report, Alive)]

    def _read(self) -> list[bytes]:
        if self._socket is None:
            return []
        parts = [self._unread]
        try:
            while part := self._socket.recv(_CHUNK):
                parts.append(part)
        except OSError:
            pass  # nothing more for now, or it has ended
        *lines, self._unread = b"".join(parts).split(b"\n")
        return lines

    def stop(self) -> None:
        """End the process."""
        self._put_away(grace=_GRACE)

    def _put_away(self, grace: float) -> int | None:
        process, self._process = self._process, None
        if self._socket is not None:
            self._socket.close()  # which tells it to end
        self._socket, self._unread = None, b""
        self._unsent.clear()
        if process is None:
            return None
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
