"""The commands that a `FakeDbt` was given, from the notes that `player` takes: `PlayedCommand`, for the assertions of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.core.labels import label_of
from dbt_watch.testing.call import Call, call_of
from dbt_watch.testing.notes import read_notes

if TYPE_CHECKING:
    from pathlib import Path


class PlayedCommand(msgspec.Struct, kw_only=True):
    """
    One command of dbt in a pod.

    :ivar words: what followed `dbt`
    :ivar pod: the name of the pod
    :ivar at: when it began, in seconds since 1970
    :ivar selected: the unique_ids of the nodes that it was to run
    :ivar ended: how each node ended that did, by its unique_id: dbt's word
    :ivar exit_code: of dbt; None when it was killed or has not ended
    """

    words: tuple[str, ...]
    pod: str = ""
    at: float = 0.0
    selected: tuple[str, ...] = ()
    ended: dict[str, str] = {}
    exit_code: int | None = None

    @property
    def call(self) -> Call:
        """The same, read as dbt reads it."""
        return call_of(self.words)

    @property
    def name(self) -> str:
        """The command, such as "build"."""
        return self.call.command

    @property
    def vars(self) -> Any:
        """The variables, as a dict; text where they are not JSON."""
        return self.call.vars

    @property
    def macro(self) -> str | None:
        """The macro of a `run-operation`; None where it is another command."""
        call = self.call
        return call.arguments[0] if call.command == "run-operation" and call.arguments else None

    @property
    def args(self) -> Any:
        """The arguments of the macro, as a dict; text where they are not JSON."""
        return self.call.args

    @property
    def full_refresh(self) -> bool:
        """Whether it was asked to build incremental models from scratch."""
        return self.call.has("--full-refresh")

    @property
    def target(self) -> str | None:
        """The target that it was given."""
        return self.call.value("--target")

    @property
    def nodes(self) -> set[str]:
        """The names of the nodes that it was to run."""
        return set(map(label_of, self.selected))

    def assert_selects(self, *names: str) -> None:
        """
        Check that nodes are among those that it was to run.

        :param names: their names or unique_ids
        :raises AssertionError: with what was selected
        """
        __tracebackhide__ = True
        if missing := [name for name in names if not self._has(name)]:
            raise AssertionError(f"not selected: {', '.join(missing)}; {self._told()}")

    def assert_leaves_out(self, *names: str) -> None:
        """
        Check that nodes are not among those that it was to run.

        :param names: their names or unique_ids
        :raises AssertionError: with what was selected
        """
        __tracebackhide__ = True
        if found := [name for name in names if self._has(name)]:
            raise AssertionError(f"selected: {', '.join(found)}; {self._told()}")

    def _has(self, name: str) -> bool:
        return name in self.selected or name in self.nodes

    def _told(self) -> str:
        return f"`dbt {' '.join(self.words)}` selects {', '.join(sorted(self.nodes)) or 'nothing'}"


def commands_in(path: Path) -> list[PlayedCommand]:
    """Return the commands that the notes tell of, oldest first."""
    found: dict[str, PlayedCommand] = {}
    for note in read_notes(path):
        match note:
            case {"note": "begin", "id": str(key), "words": words, "pod": pod, "at": at}:
                found[key] = PlayedCommand(words=tuple(words), pod=pod, at=at)
            case {"note": "selected", "id": str(key), "nodes": nodes} if key in found:
                found[key].selected = tuple(nodes)
            case {"note": "ended", "id": str(key), "node": node, "status": status} if key in found:
                found[key].ended = {**found[key].ended, node: status}
            case {"note": "exit", "id": str(key), "code": code} if key in found:
                found[key].exit_code = code
            case _:
                pass
    return list(found.values())
