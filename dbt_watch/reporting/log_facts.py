"""
What a log of dbt tells beside the ledger: its version, its threads, when its commands began and ended.

`reporting.sources` notes each line, and asks for the commands that the ledger believes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.log.entries import moment
from dbt_watch.core.log.event_roles import MAX_THREADS, MEANS, THREADS, Role
from dbt_watch.core.log.events import MISREAD
from dbt_watch.reporting.evidence import CommandFacts

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Info(msgspec.Struct, gc=False):
    name: str
    ts: str
    thread: str = ""
    invocation_id: str = ""


class _Node(msgspec.Struct, gc=False):
    unique_id: str = ""


class _Data(msgspec.Struct, gc=False):
    node_info: _Node | None = None
    version: str = ""
    num_threads: int | None = None


class _Event(msgspec.Struct, gc=False):
    info: _Info
    data: _Data = msgspec.field(default_factory=_Data)


_decode: Final = msgspec.json.Decoder(_Event).decode

# Nodes for which there is nothing to do have an end and no start.
_OF_NODES: Final = tuple(
    name for name, role in MEANS.items() if role in {Role.START, Role.RESULT, Role.NO_OP}
)
_ENDS: Final = (*(name for name, role in MEANS.items() if role is Role.SUMMARY), "EndOfRunSummary")
_COMMANDS: Final = tuple(name for name, role in MEANS.items() if role is Role.COMMAND)
_NEEDED: Final = tuple(f'"{name}"'.encode() for name in {THREADS, *_OF_NODES, *_ENDS, *_COMMANDS})


class LogFacts:
    """
    What is known of the dbt commands of one log.

    :ivar commands: by invocation_id
    :ivar threads: the thread that each node ran in, by invocation_id and unique_id
    """

    def __init__(self) -> None:
        self.commands: dict[str, CommandFacts] = {}
        self.threads: dict[tuple[str, str], str] = {}

    def note(self, lines: Iterable[bytes]) -> None:
        """Read some lines; what is not about a command, or the start or end of a node, is passed over."""
        for line in lines:
            if any(name in line for name in _NEEDED):
                try:
                    event = _decode(line)
                except MISREAD:
                    continue
                self._take(event)

    def _take(self, event: _Event) -> None:
        info, data = event.info, event.data
        if info.name in _OF_NODES:
            if data.node_info is not None and info.thread:
                self.threads.setdefault((info.invocation_id, data.node_info.unique_id), info.thread)
            return
        facts = self.commands.setdefault(info.invocation_id, CommandFacts())
        if info.name in _COMMANDS:
            facts.dbt_version = data.version.removeprefix("=")
            facts.started_at = moment(info.ts)
        elif info.name in _ENDS:
            facts.finished_at = moment(info.ts)
        elif info.name == THREADS and data.num_threads is not None and 0 < data.num_threads <= MAX_THREADS:
            facts.threads = data.num_threads
