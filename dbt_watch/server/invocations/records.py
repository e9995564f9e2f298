"""What is known of an invocation: its state, who runs it, how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class InvocationState(str, Enum):
    """The seven states that the contract of the dbt API server names."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    ABORTED = "ABORTED"
    NOT_FOUND = "NOT_FOUND"
    INTERNAL_ERROR = "INTERNAL_ERROR"


OPEN: Final = (InvocationState.PENDING, InvocationState.STARTED)
"""The states after which something follows."""


@dataclass(frozen=True, kw_only=True)
class NewInvocation:
    """
    What a client asks for, once it has been checked.

    :ivar fingerprint: equal for the same request
    :ivar command: dbt's arguments, without what the server adds
    :ivar principal: who asks
    """

    task_id: str
    fingerprint: str
    project: str
    target: str
    sub_command: str
    command: tuple[str, ...]
    log_level: str
    callback_url: str | None
    principal: str


@dataclass(frozen=True, kw_only=True)
class Invocation(NewInvocation):
    """
    What became of it; times are seconds since 1970.

    :ivar seq: its place among all
    :ivar exc_type: why it did not end well, in a word
    :ivar exc_message: the same in a sentence
    :ivar owner: which worker runs it
    :ivar claims: how often a worker took it
    :ivar begun: whether its dbt may have been started
    :ivar pid: of its dbt, with the time at which that began
    """

    seq: int
    state: InvocationState
    created_at: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    exc_type: str | None
    exc_message: str | None
    abort_requested: bool
    owner: str | None
    claims: int
    begun: bool
    pid: int | None
    pid_started: float | None
    heartbeat_at: float | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in OPEN


@dataclass(frozen=True, kw_only=True)
class InvocationEnd:
    """How an invocation ended."""

    state: InvocationState
    exit_code: int | None = None
    exc_type: str | None = None
    exc_message: str | None = None


_NAMES: Final = [field.name for field in fields(Invocation)]


def from_row(row: Mapping[str, Any]) -> Invocation:
    """Return the invocation of a row of the table."""
    values = {name: row[name] for name in _NAMES}
    values["command"] = tuple(json.loads(values["command"]))
    values["state"] = InvocationState(values["state"])
    return Invocation(**values)
