"""
Reads what the tasks that run dbt tell beside their journals (`core.run_notes`): outlines, phases, columns, tries. Called by `page.run_source`.

From the outlines comes the graph of a run. Where this run has none yet, that of an earlier one is shown until it has.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.packed import PackedError, attempt_in
from dbt_watch.core.run_notes import (
    COLUMNS_KEY,
    OUTLINE_KEY,
    PHASE_KEY,
    TRIES_KEY,
    decode_phase,
    graph_of,
    unpack_columns,
    unpack_outline,
    unpack_tries,
)
from dbt_watch.reporting.manifests import ManifestFacts

if TYPE_CHECKING:
    from dbt_watch.core.manifest.columns import Column
    from dbt_watch.core.run_notes import PhaseNote
    from dbt_watch.page.changes import Changes
    from dbt_watch.page.journals import Journals, Writer
    from dbt_watch.page.project_database import ProjectDatabase
    from dbt_watch.page.project_tasks import ProjectTasks

log = logging.getLogger(__name__)

EARLIER_RUNS: Final = 5
"""In how many earlier runs an outline is looked for, where this one has none yet."""


class Outlines:
    """
    What is told beside the journals of a project.

    :param database: that of the project
    :param journals: its journals
    """

    def __init__(self, database: ProjectDatabase, journals: Journals) -> None:
        self.facts = ManifestFacts(graph_of(()), {})
        self.nodes: frozenset[str] = frozenset()
        """The nodes that are to be built, as far as an outline tells."""
        self.task_of: dict[str, str] = {}
        """The task that stands for each node that has one."""
        self.of_run: str | None = None
        """The run whose outline this is, where this one has none yet; empty where no earlier one has any either."""
        self._database = database
        self._journals = journals

    @property
    def phases(self) -> list[PhaseNote]:
        """What the tasks say that run dbt and have not come to a node."""
        return [
            writer.phase
            for writer in self._journals.writers.values()
            if writer.phase is not None and writer.is_open and writer.phase.attempt >= writer.try_number
        ]

    def read(self, changes: Changes, tasks: ProjectTasks, *, is_over: bool) -> None:
        """
        Read what is new.

        :param changes: is told of it
        :param tasks: those of the project
        :param is_over: whether nothing more is to come, so that no earlier run need stand for this one
        """
        writers = self._journals.writers
        asked = [
            (name, key)
            for name, writer in writers.items()
            for key in (
                *((OUTLINE_KEY,) if _wants_outline(writer, tasks) else ()),
                *((PHASE_KEY,) if writer.is_open and not writer.reader.state.entries else ()),
            )
        ]
        values = self._database.values(asked)
        has_new_outline = False
        for name, writer in writers.items():
            phase = decode_phase(values.get((name, PHASE_KEY)))
            if phase is not None and phase != writer.phase:
                writer.phase, changes.is_any = phase, True
            value = values.get((name, OUTLINE_KEY))
            if value is not None:
                has_new_outline |= self._take(writer, value, self._database.key.run_id)
        if has_new_outline:
            self.of_run = None
            self._join(changes)
        elif not self.nodes and self.of_run is None and not is_over:
            self._borrow(changes)

    def columns_of(self, unique_id: str) -> tuple[Column, ...]:
        """Return the columns of a node that the task has told which builds it; asks the database the first time."""
        for writer in self._journals.writers.values():
            outline = writer.outline
            if outline is None or all(node.unique_id != unique_id for node in outline.nodes):
                continue
            if writer.columns is None or writer.columns[0] != writer.outline_attempt:
                found = self._database.unpacked(
                    writer.task_id, COLUMNS_KEY, unpack_columns, self.of_run or None
                )
                writer.columns = (writer.outline_attempt, found or {})
            if columns := writer.columns[1].get(unique_id):
                return columns
        return ()

    def _take(self, writer: Writer, value: Any, run_id: str) -> bool:
        """Take an outline of a run; return whether it was new."""
        try:
            attempt = attempt_in(value)
            if attempt <= writer.outline_attempt:
                return False
            writer.outline = unpack_outline(
                value, lambda number: self._database.piece(writer.task_id, OUTLINE_KEY, number, run_id)
            )
            writer.outline_attempt, writer.tries = attempt, []
            if attempt > 1 and run_id == self._database.key.run_id:
                writer.tries = self._database.unpacked(writer.task_id, TRIES_KEY, unpack_tries) or []
        except PackedError as error:
            log.warning("The outline of %s cannot be read: %s", writer.task_id, error)
            writer.outline_attempt = max(writer.try_number, 1)
            return False
        return True

    def _join(self, changes: Changes) -> None:
        """Make one graph of all outlines."""
        outlines = [
            writer.outline for writer in self._journals.writers.values() if writer.outline is not None
        ]
        self.facts = ManifestFacts(graph_of(outlines), {})
        self.nodes = frozenset(node.unique_id for outline in outlines for node in outline.nodes)
        self.task_of = {node: task for outline in outlines for node, task in outline.task_of.items()}
        changes.is_reset = True

    def _borrow(self, changes: Changes) -> None:
        """Take the outline of an earlier run, until this one has its own."""
        self.of_run = ""
        writers = self._journals.writers
        for run_id in self._database.earlier_runs(EARLIER_RUNS):
            found = self._database.values(((name, OUTLINE_KEY) for name in writers), run_id)
            for (name, _), value in found.items():
                if self._take(writers[name], value, run_id):
                    writers[name].outline_attempt = 0
            if found:
                self.of_run = run_id
                self._join(changes)
                return


def _wants_outline(writer: Writer, tasks: ProjectTasks) -> bool:
    return writer.outline_attempt < max(writer.try_number, 1) and not tasks.is_sensor(writer.task_id)
