"""
Which dbt commands of a log are believed.

Whatever a container prints may look like a record of dbt: a line that a model prints, a piece of another log. A command is
believed once its first record has been followed by one about a node; another command only when the one before it has
ended. Events of other commands are held back, in case they are believed later. `core.log.stream` asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.log.event_roles import MEANS, Role
from dbt_watch.core.log.events import decode_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.core.log.events import DbtEvent

MAX_COMMANDS: Final = 50
"""How many dbt commands one log may hold; those that come after them are not believed."""

MAX_HELD_BYTES: Final = 16 << 20
"""How much is held back of commands that are not believed; what is beyond it is dropped."""

_encode: Final = msgspec.json.Encoder().encode


class Invocations:
    """
    The commands of one log, by their invocation_id.

    :param is_over: returns whether a command that is believed has ended
    :ivar current: the command that is believed; None before there is one
    """

    def __init__(self, is_over: Callable[[str], bool]) -> None:
        self.current: str | None = None
        self._is_over = is_over
        self._past: set[str] = set()
        self._begun: dict[str, None] = {}
        self._summed_up: dict[str, None] = {}
        self._held: dict[str, list[bytes]] = {}
        self._room = MAX_HELD_BYTES

    def sift(self, event: DbtEvent) -> list[DbtEvent]:
        """
        Return the events that count from now on: this one with those held back before it, or none.

        :param event: any event of the log, those of `current` need not be asked for
        """
        invocation = event.info.invocation_id
        role = MEANS.get(event.info.name)
        if role is None:
            return []
        if invocation == self.current or invocation in self._past:
            return [event]
        if role is Role.COMMAND and len(self._begun) + len(self._past) < MAX_COMMANDS:
            self._begun[invocation] = None
        has_told = role is not Role.COMMAND or invocation in self._held
        if invocation in self._begun and has_told and self._is_free:
            return [*self._begin(invocation), event]
        if self._hold(event) and role is Role.SUMMARY:
            self._summed_up[invocation] = None
        return []

    def rest(self) -> list[DbtEvent]:
        """
        Return what counts at the end of the log, where nothing else did.

        That is the last command that has begun, or, where all beginnings are lost, the only one with a summary.
        """
        if self.current is not None:
            return []
        if self._begun:
            return self._begin(list(self._begun)[-1])
        return self._begin(next(iter(self._summed_up))) if len(self._summed_up) == 1 else []

    def wrote(self, record: bytes) -> bool:
        """Return whether a line that was not decoded may be a record of the command that is believed."""
        return self.current is not None and self.current.encode() in record

    @property
    def _is_free(self) -> bool:
        return self.current is None or self._is_over(self.current)

    def _begin(self, invocation: str) -> list[DbtEvent]:
        if self.current is not None:
            self._past.add(self.current)
        self.current = invocation
        self._begun.pop(invocation, None)
        held = self._held.pop(invocation, [])
        self._room += sum(map(len, held))
        return [decode_record(record) for record in held]

    def _hold(self, event: DbtEvent) -> bool:
        record = _encode(event)
        known = self._held.get(event.info.invocation_id)
        if len(record) > self._room or (known is None and len(self._held) >= MAX_COMMANDS):
            return False
        self._held.setdefault(event.info.invocation_id, []).append(record)
        self._room -= len(record)
        return True
