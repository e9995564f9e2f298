"""
The XCom sidecar of KubernetesPodOperator without a process: recognised, and answered from its volume.

Used only where no PID namespace can be had. There, what the operator sends to stop its sidecar
(`kill -2 $(pgrep -u $(id -u) -f 'sh')`) must not reach any shell: it would interrupt every shell of the user.
"""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING

from dbt_watch.local.localkube.isolation import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SIDECAR_SCRIPT = re.compile(r"""^trap ["']exit 0["'] INT; while true; do sleep \d+; done;?$""")
_READ = re.compile(r"^if \[ -s (?P<path>\S+) \]; ?then cat (?P=path); ?else echo (?P<empty>\S+); ?fi;?$")
_CAT = re.compile(r"^cat (?P<path>\S+)$")
# Both forms that providers send; neither is ever run.
_STOP = re.compile(r"^(kill -2 \$\(pgrep .*\)|for f in /proc/\[0-9\]\*/comm; do .*kill -2 .*; done)$")
_SHELLS = frozenset({"sh", "/bin/sh"})


def is_sidecar(argv: Sequence[str]) -> bool:
    """Whether a container's command is that of the XCom sidecar."""
    return len(argv) == 3 and argv[0] in _SHELLS and argv[1] == "-c" and bool(SIDECAR_SCRIPT.match(argv[2]))  # noqa: PLR2004 - shell, -c, script


class EmulatedSidecar:
    """
    Stands for the sidecar's process; understands the same signals.

    :param locate: turns a path in the container into the host's, None when it lies outside of all volumes
    """

    pidfd = None

    def __init__(self, locate: Callable[[str], Path | None]) -> None:
        self._locate = locate
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @property
    def running(self) -> bool:
        """Whether it has not been stopped yet."""
        return not self._ended.done()

    def signal(self, number: int) -> None:
        """SIGINT is trapped, SIGKILL ends it; PID 1 of a container ignores the rest."""
        if number == signal.SIGINT:
            self._end(Exit(0))
        elif number == signal.SIGKILL:
            self._end(Exit(128 + signal.SIGKILL))

    async def wait(self) -> Exit:
        """Wait until it is stopped."""
        return await asyncio.shield(self._ended)

    def answer(self, argv: Sequence[str]) -> bytes | None:
        """Return the output of one of the commands that read the result; None for any other command."""
        if len(argv) == 3 and argv[0] in _SHELLS and argv[1] == "-c":  # noqa: PLR2004 - shell, -c, script
            return self._read(argv[2].strip())
        return None

    def takes_input(self, argv: Sequence[str]) -> bool:
        """Whether a command is the bare shell that the operator sends its stop command to."""
        return len(argv) == 1 and argv[0] in _SHELLS

    def type_line(self, line: str) -> bool:
        """Take a line typed into that shell; False when it is not the one that is understood."""
        if not _STOP.match(line.strip()):
            return False
        self.signal(signal.SIGINT)
        return True

    def _read(self, script: str) -> bytes | None:
        match = _READ.match(script) or _CAT.match(script)
        path = self._locate(match.group("path")) if match else None
        if match is None or path is None:
            return None
        content = path.read_bytes() if path.is_file() else b""
        empty = match.groupdict().get("empty")
        return f"{empty}\n".encode() if not content and empty else content

    def _end(self, exit_: Exit) -> None:
        if not self._ended.done():
            self._ended.set_result(exit_)
