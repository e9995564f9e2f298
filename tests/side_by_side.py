"""
Run the tests as three processes side by side: what shares one Airflow, and what else starts pods and programs, both of which mostly
wait, and all others, which mostly compute.

`noxfile.py` runs it. Each process is a pytest with the arguments of this program; `--part` of `tests/conftest.py` divides the
tests between them. The output of the first is shown as it comes, that of each other in one piece when it has ended. An interrupt
ends all as Ctrl-C ends one pytest, and this program ends after them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dbt_watch.local.airflow.processes import INTERRUPTS, interrupts_held, python_module, tethered

if TYPE_CHECKING:
    from types import FrameType

# By its name, what a part runs, and how far it gives way to the others: what just computes fills the gaps of those that wait.
PARTS = {
    "airflow": ("what runs on the shared Airflow", 0),
    "slow": ("what else starts pods and programs", 0),
    "others": ("all other tests", 10),
}
PAUSE = 0.2


@dataclass
class Part:
    """
    One pytest.

    :ivar name: what it runs, in words
    :ivar kept: where its output is until it has ended; None when it is shown as it comes
    """

    name: str
    process: subprocess.Popen[bytes]
    kept: IO[bytes] | None

    def has_ended(self) -> bool:
        """Tell whether it has ended; the first time, show the output that was kept."""
        if self.process.poll() is None:
            return False
        if self.kept is not None:
            print(f"\n===== {self.name} =====", flush=True)
            self.kept.seek(0)
            shutil.copyfileobj(self.kept, sys.stdout.buffer)
            sys.stdout.flush()
            self.kept = None
        return True

    def verdict(self) -> str:
        code = self.process.returncode
        return "passed" if code == 0 else f"FAILED (pytest ended with {code})"


def main(arguments: list[str]) -> int:
    """Run all parts; returns the exit status of this program."""
    parts: list[Part] = []
    interrupts: list[int] = []

    def interrupt(signum: int, _: FrameType | None) -> None:
        # A first SIGTERM too is to let the fixtures end what they have started.
        forwarded = signum if interrupts else signal.SIGINT
        interrupts.append(signum)
        for part in parts:
            if part.process.poll() is None:
                with suppress(ProcessLookupError, PermissionError):  # it is ending
                    os.killpg(part.process.pid, forwarded)

    for signum in INTERRUPTS:
        signal.signal(signum, interrupt)
    with ExitStack() as stack:
        for part, (name, gives_way) in PARTS.items():
            kept = stack.enter_context(tempfile.TemporaryFile()) if parts else None
            with interrupts_held():
                if not interrupts:
                    process = start(["--part", part, *arguments], kept, gives_way)
                    parts.append(Part(name, process, kept))
        while [part for part in parts if not part.has_ended()]:
            time.sleep(PAUSE)
    print()
    for part in parts:
        print(f"{part.name}: {part.verdict()}", flush=True)
    if interrupts:
        return 128 + interrupts[0]
    return int(any(part.process.returncode for part in parts))


def start(arguments: list[str], output: IO[bytes] | None, gives_way: int) -> subprocess.Popen[bytes]:
    """
    Start pytest in a session of its own, where an interrupt reaches it from here alone, and so just once.

    :param output: where its output is kept
    :param gives_way: how nice it is
    """
    return subprocess.Popen(
        tethered(python_module("pytest", *arguments)),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
        preexec_fn=partial(give_way, gives_way),  # noqa: PLW1509 - this process has one thread
    )


def give_way(niceness: int) -> None:
    """Let others go first; Linux shares the processors among sessions, each of which has a niceness too."""
    os.nice(niceness)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
