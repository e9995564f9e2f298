"""Reads the journals of a project: who writes one, what is new in it, whose word on a node is the last. Called by `page.run_source`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.journal.format import JournalError, decode_page, part_key
from dbt_watch.core.journal.reader import JournalReader

if TYPE_CHECKING:
    from dbt_watch.core.manifest.columns import Column
    from dbt_watch.core.results import NodeResult
    from dbt_watch.core.run_notes import Outline, PhaseNote
    from dbt_watch.page.changes import Changes
    from dbt_watch.page.project_database import ProjectDatabase
    from dbt_watch.page.project_tasks import ProjectTasks

log = logging.getLogger(__name__)

# A journal that is written faster than it is read is not followed to its end in one look.
_MAX_VALUES: Final = 400


class Writer:
    """
    A task that has written a journal, or is going to: a producer, an isolated node's, or a sensor that has built alone.

    `Journals` reads its journal, `page.outlines` the notes that it has written beside that.
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.reader = JournalReader()
        self.try_number = 0
        self.is_damaged = False
        self.outline: Outline | None = None
        self.outline_attempt = 0
        self.phase: PhaseNote | None = None
        self.tries: list[NodeResult] = []
        """What nodes came to in earlier attempts."""
        self.columns: tuple[int, dict[str, tuple[Column, ...]]] | None = None
        """The columns that it has told, with the attempt of the outline that they belong to."""

    @property
    def attempt(self) -> int:
        """The attempt whose journal this is; 0 before there is one."""
        return self.reader.state.attempt

    @property
    def began(self) -> float:
        """When that began, in seconds since 1970."""
        return self.reader.page.began if self.reader.page is not None else 0.0

    @property
    def is_superseded(self) -> bool:
        """Whether what was read is of an earlier attempt than the one that Airflow has come to."""
        return 0 < self.attempt < self.try_number

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        return not self.is_damaged and (self.reader.state.closed is None or self.is_superseded)


class Journals:
    """
    The journals of one project.

    :param database: that of the project
    """

    def __init__(self, database: ProjectDatabase) -> None:
        self.writers: dict[str, Writer] = {}
        """Who writes them, by the ids of the tasks."""
        self._database = database

    @property
    def begun(self) -> list[Writer]:
        """The writers of which a journal was read, in the order in which their attempts began."""
        begun = [writer for writer in self.writers.values() if writer.attempt]
        return sorted(begun, key=lambda writer: (writer.began, writer.task_id))

    @property
    def attempt(self) -> int:
        """The latest attempt of a writer."""
        return (
            max((max(writer.attempt, writer.try_number) for writer in self.writers.values()), default=1) or 1
        )

    def find_writers(self, tasks: ProjectTasks) -> None:
        """Learn of tasks that write journals. A sensor does so only when it was cleared alone."""
        names = {row.task_id for row in tasks.producers}
        if any(row.try_number > 1 for row in tasks.sensors):
            names |= self._database.tasks_with(part_key(0)) & tasks.rows.keys()
        for name in sorted(names - self.writers.keys()):
            self.writers[name] = Writer(name)
        for name, writer in self.writers.items():
            row = tasks.rows.get(name)
            if row is not None and row.try_number > writer.try_number:
                writer.try_number, writer.is_damaged = row.try_number, False

    def read(self, changes: Changes) -> set[str]:
        """
        Read what is new.

        :param changes: is told of more than news of nodes: that a journal has begun or ended, or has to be read anew
        :returns: the unique_ids of the nodes of which there is news: all that are known where a journal is read anew
        """
        self._look_for_later_attempts(changes)
        reading = {
            name: writer
            for name, writer in self.writers.items()
            if writer.is_open and not writer.is_superseded
        }
        news: set[str] = set()
        for _ in range(_MAX_VALUES):
            if not reading:
                break
            values = self._database.values((name, writer.reader.key) for name, writer in reading.items())
            reading = {
                name: writer
                for name, writer in reading.items()
                if _take(writer, values.get((name, writer.reader.key)), news, changes)
            }
        if changes.is_reset:
            news = {node for writer in self.writers.values() for node in writer.reader.state.entries}
        return news

    def last_words(self, unique_ids: set[str]) -> dict[str, NodeResult]:
        """Return the last word on nodes: that of the attempt that began last, unless dbt did not come to them there."""
        found: dict[str, NodeResult] = {}
        for writer in self.begun:
            entries = writer.reader.state.entries
            for unique_id in unique_ids & entries.keys():
                entry = entries[unique_id]
                if unique_id not in found or not entry.was_not_run:
                    found[unique_id] = entry
        return found

    def _look_for_later_attempts(self, changes: Changes) -> None:
        """Read anew where a later attempt has begun; until then, what the one before has left is shown."""
        superseded = [name for name, writer in self.writers.items() if writer.is_superseded]
        values = self._database.values((name, part_key(0)) for name in superseded)
        for (name, _), value in values.items():
            writer = self.writers[name]
            try:
                attempt = decode_page(value).chunk.attempt
            except JournalError:
                continue
            if attempt > writer.attempt:
                writer.reader, writer.phase, changes.is_reset = JournalReader(), None, True


def _take(writer: Writer, value: Any, news: set[str], changes: Changes) -> bool:
    """Take a value of a journal; return whether to ask for another one at once."""
    before = writer.attempt
    try:
        more = writer.reader.take(value)
    except JournalError as error:
        log.warning("The journal of %s cannot be read: %s", writer.task_id, error)
        writer.is_damaged = True
        return False
    changes.is_reset |= bool(before) and writer.attempt != before
    changes.is_any |= not before and bool(writer.attempt)
    changes.is_any |= writer.reader.state.closed is not None
    news.update(entry.unique_id for entry in writer.reader.news)
    return more
