"""
What a task that runs dbt writes beside its journal, for the page: outline, columns, tries, phase and summary (`core.run_notes`).

Nothing waits for any of it, so a write that fails is not tried again, and never fails a build. `NoteWriter` writes on a worker,
`AsyncNoteWriter` in a triggerer.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from dbt_watch.airflow.secrets import redact
from dbt_watch.core.packed import PackedError
from dbt_watch.core.run_notes import (
    PHASE_KEY,
    PhaseNote,
    encode_phase,
    pack_columns,
    pack_outline,
    pack_summary,
    pack_tries,
    summary_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from dbt_watch.core.manifest.columns import Column
    from dbt_watch.core.results import NodeResult
    from dbt_watch.core.run_notes import Outline, Phase

log = logging.getLogger(__name__)

PHASE_INTERVAL: Final = 1.0
"""How many seconds lie between two phases that are written; of those between them the last one counts."""


class PhaseNotes:
    """
    What is to be written of the phases of an attempt, and when.

    :param attempt: which attempt
    :param group: the id of the project's task group
    :param clock: tells the time in seconds
    """

    def __init__(self, attempt: int, group: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.attempt = attempt
        self.group = group
        self._clock = clock
        self._told: tuple[Phase, str] | None = None
        self._due = 0.0

    def note(self, phase: Phase, text: str) -> str | None:
        """Return the XCom of a phase; None where it is told already, or has to wait."""
        if (phase, text) == self._told or (
            self._told is not None and phase == self._told[0] and self._clock() < self._due
        ):
            return None
        self._told, self._due = (phase, text), self._clock() + PHASE_INTERVAL
        return encode_phase(PhaseNote(phase, str(redact(text)), time.time(), self.attempt, self.group))


def outline_writes(outline: Outline, attempt: int) -> list[tuple[str, str]]:
    """Return the XComs of an outline; nothing where it is too large."""
    try:
        return pack_outline(outline, attempt)
    except PackedError as error:
        log.info("The page will show no graph of this project: %s", error)
        return []


def columns_writes(columns: Mapping[str, Sequence[Column]], attempt: int) -> list[tuple[str, str]]:
    """Return the XComs of the columns of nodes; nothing where there are none, or too many."""
    try:
        return pack_columns(columns, attempt) if columns else []
    except PackedError as error:
        log.info("The page will show no columns of this project: %s", error)
        return []


def tries_writes(tries: Sequence[NodeResult], attempt: int) -> list[tuple[str, str]]:
    """Return the XComs of what nodes came to in earlier attempts; nothing where that is nothing, or too large."""
    try:
        return pack_tries(tries, attempt) if tries else []
    except PackedError as error:
        log.info("The page will not show how nodes failed in earlier attempts: %s", error)
        return []


def summary_writes(
    results: Iterable[NodeResult], exit_code: int | None, attempt: int
) -> list[tuple[str, str]]:
    """Return the XComs of a summary; nothing where it is too large."""
    try:
        return pack_summary(summary_of(results, exit_code, attempt), attempt)
    except PackedError as error:
        log.info("Later runs cannot be compared with this one: %s", error)
        return []


class NoteWriter:
    """
    Writes on a worker.

    :param push: stores an XCom under a key; may raise anything
    :param attempt: which attempt
    """

    def __init__(self, push: Callable[[str, str], None], attempt: int) -> None:
        self._push = push
        self._attempt = attempt
        self.phases = PhaseNotes(attempt)

    def outline(
        self,
        outline: Outline,
        columns: Mapping[str, Sequence[Column]] | None = None,
        tries: Sequence[NodeResult] = (),
    ) -> None:
        """
        Write what is going to be built; the outline last, so that whoever finds it finds the rest.

        :param columns: those of the nodes, by unique_id
        :param tries: what nodes came to in earlier attempts
        """
        self.phases.group = outline.group
        self._write(tries_writes(tries, self._attempt))
        self._write(columns_writes(columns or {}, self._attempt))
        self._write(outline_writes(outline, self._attempt))

    def phase(self, phase: Phase, text: str = "") -> None:
        """Write what happens now, if it is new."""
        note = self.phases.note(phase, text)
        if note is not None:
            self._write([(PHASE_KEY, note)])

    def summary(self, results: Iterable[NodeResult], exit_code: int | None) -> None:
        """Write how long each node took."""
        self._write(summary_writes(results, exit_code, self._attempt))

    def _write(self, writes: Iterable[tuple[str, str]]) -> None:
        try:
            for key, value in writes:
                self._push(key, value)
        except Exception as error:  # noqa: BLE001 - whatever the way to XCom makes of it, the build goes on
            log.info("Writing a note for the page failed: %s", error)


class AsyncNoteWriter:
    """
    The same in a triggerer; the outline was written before.

    :param group: the id of the project's task group
    """

    def __init__(self, push: Callable[[str, str], Awaitable[None]], attempt: int, group: str) -> None:
        self._push = push
        self._attempt = attempt
        self.phases = PhaseNotes(attempt, group)

    async def phase(self, phase: Phase, text: str = "") -> None:
        """Write what happens now, if it is new."""
        note = self.phases.note(phase, text)
        if note is not None:
            await self._write([(PHASE_KEY, note)])

    async def summary(self, results: Iterable[NodeResult], exit_code: int | None) -> None:
        """Write how long each node took."""
        await self._write(summary_writes(results, exit_code, self._attempt))

    async def _write(self, writes: Iterable[tuple[str, str]]) -> None:
        try:
            for key, value in writes:
                await self._push(key, value)
        except Exception as error:  # noqa: BLE001 - as on a worker
            log.info("Writing a note for the page failed: %s", error)
