"""
Reads what is known of one project in one run of a DAG: journals, outlines, phases, and the states of tasks.

`RunSource` is asked again and again while somebody looks (`page.readers`), and each time reads only what is new. All of it blocks,
and runs in a thread.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from dbt_watch.airflow.artifact_pages import ARTIFACTS_KEY
from dbt_watch.core.journal.format import JournalError, decode_page, part_key
from dbt_watch.core.journal.reader import JournalReader
from dbt_watch.core.packed import PackedError, attempt_in, piece_key
from dbt_watch.core.results import NodeResult, NotRun
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
from dbt_watch.core.statuses import NOT_RUN
from dbt_watch.core.task_states import DEFERRED, OVER, RUNNING, SUCCESS
from dbt_watch.page.projects import OPERATOR_PREFIX, SENSOR
from dbt_watch.reporting.assembly import record_of
from dbt_watch.reporting.evidence import Evidence, key_of, of_pods, threads_of, with_later
from dbt_watch.reporting.manifests import ManifestFacts
from dbt_watch.reporting.sources import (
    HOLDS_ONE_ATTEMPT,
    evidence_of_sensors,
    evidence_of_state,
    results_of_sensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dbt_watch.airflow.api_server import DagRunRow, RunDatabase, TaskRow
    from dbt_watch.core.manifest.columns import Column
    from dbt_watch.core.run_notes import Outline, PhaseNote
    from dbt_watch.page.projects import ProjectKey
    from dbt_watch.reporting.run_record import RunRecord

log = logging.getLogger(__name__)

_Noted = TypeVar("_Noted")

FINAL_RUN_STATES: Final = frozenset({"success", "failed"})
RETURN_VALUE: Final = "return_value"
EARLIER_RUNS: Final = 5
"""In how many earlier runs an outline is looked for, where this one has none yet."""

_AT_WORK: Final = frozenset({RUNNING, DEFERRED})
# How much longer than the pause between two looks the states of tasks are read back, for clocks that differ.
_OVERLAP: Final = timedelta(seconds=10)
_ALL_TASKS_EVERY: Final = timedelta(seconds=20)
# A journal that is written faster than it is read is not followed to its end in one look.
_MAX_VALUES: Final = 400


class Changes(msgspec.Struct):
    """
    What a look has found.

    :param nodes: the unique_ids of the nodes of which there is news
    :param tasks: the ids of the tasks whose states have changed
    :param is_reset: whether what was known before is of no use, as when another attempt has begun
    :param is_any: whether anything else has changed
    """

    nodes: set[str] = msgspec.field(default_factory=set)
    tasks: set[str] = msgspec.field(default_factory=set)
    is_reset: bool = False
    is_any: bool = False

    def __bool__(self) -> bool:
        return bool(self.nodes or self.tasks or self.is_reset or self.is_any)


class _Writer:
    """A task that has written a journal, or is going to: a producer, an isolated node's, or a sensor that has built alone."""

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
        return self.reader.state.attempt

    @property
    def began(self) -> float:
        return self.reader.page.began if self.reader.page is not None else 0.0

    @property
    def is_superseded(self) -> bool:
        """Whether what was read is of an earlier attempt than the one that Airflow has come to."""
        return 0 < self.attempt < self.try_number

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        return not self.is_damaged and (self.reader.state.closed is None or self.is_superseded)


class RunSource:
    """
    One project in one run.

    :param database: what Airflow knows
    :param key: the project
    """

    def __init__(self, database: RunDatabase, key: ProjectKey) -> None:
        self.key = key
        self.run: DagRunRow | None = None
        self.tasks: dict[str, TaskRow] = {}
        self.results: dict[str, NodeResult] = {}
        """The last word on each node that dbt has come to."""
        self.facts = ManifestFacts(graph_of(()), {})
        self.nodes: frozenset[str] = frozenset()
        """The nodes that are to be built, as far as an outline tells."""
        self.task_of: dict[str, str] = {}
        """The task that stands for each node that has one."""
        self.outline_of_run: str | None = None
        """The run whose outline this is, where this one has none yet."""
        self._database = database
        self._writers: dict[str, _Writer] = {}
        self._left: Evidence | None = None
        self._earlier: dict[str, NodeResult] = {}
        """What earlier attempts have built, which the journal of a later one does not tell."""
        self._asked_for: set[str] = set()
        """The tasks of nodes that were asked what an earlier attempt has left."""
        self._tasks_at: datetime | None = None
        self._all_tasks_at: datetime | None = None

    def look(self) -> Changes:
        """Read what is new."""
        changes = Changes()
        run = self._database.run(self.key.dag_id, self.key.run_id)
        if run != self.run:
            self.run, changes.is_any = run, True
        if run is None:
            return changes
        self._look_at_tasks(changes)
        self._find_writers()
        self._read_journals(changes)
        self._read_notes(changes)
        self._read_earlier(changes)
        if not self.has_journal and self.is_over and self._left is None:
            self._read_what_is_left(changes)
        return changes

    # What is known.

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come, unless somebody clears a task: the run has ended, or all tasks of the project have."""
        if self.run is None or self.run.state in FINAL_RUN_STATES:
            return True
        return bool(self.tasks) and all(row.state in OVER for row in self.tasks.values())

    @property
    def has_journal(self) -> bool:
        """Whether a journal was read."""
        return any(writer.attempt for writer in self._writers.values())

    @property
    def is_between_attempts(self) -> bool:
        """Whether what is shown was left by an attempt after which another one is to come."""
        told = self.has_journal or bool(self.results)
        return (
            told
            and not self.is_over
            and not any(row.state in _AT_WORK for row in self.producers)
            and any(row.state not in OVER for row in self.producers)
        ) or any(writer.is_superseded for writer in self._writers.values())

    @property
    def sources(self) -> list[str]:
        """Where the results come from, in words."""
        if self.has_journal:
            return ["journal"]
        return ["xcom of tasks"] if self._left is not None else []

    @property
    def attempt(self) -> int:
        """The latest attempt of a task that runs dbt."""
        return (
            max((max(writer.attempt, writer.try_number) for writer in self._writers.values()), default=1) or 1
        )

    @property
    def phases(self) -> list[PhaseNote]:
        """What the tasks say that run dbt and have not come to a node."""
        return [
            writer.phase
            for writer in self._writers.values()
            if writer.phase is not None and writer.is_open and writer.phase.attempt >= writer.try_number
        ]

    def task_rows(self, unique_ids: Iterable[str]) -> dict[str, TaskRow]:
        """Return the tasks of nodes, as far as they are known."""
        found = {unique_id: self.tasks.get(self.task_of.get(unique_id, "")) for unique_id in unique_ids}
        return {unique_id: row for unique_id, row in found.items() if row is not None}

    @property
    def producers(self) -> list[TaskRow]:
        """The tasks that run dbt."""
        return [row for row in self.tasks.values() if runs_dbt(row)]

    @property
    def all_results(self) -> dict[str, NodeResult]:
        """The last word on each node; those that dbt has not come to are "not run", with no reason."""
        waiting = {node: self.result(node) for node in self.nodes if node not in self.results}
        return {**self.results, **waiting}

    def result(self, unique_id: str) -> NodeResult:
        """Return the last word on a node; see `all_results`."""
        known = self.results.get(unique_id)
        if known is not None:
            return known
        node = self.facts.graph.nodes.get(unique_id)
        is_ephemeral = node is not None and node.materialized == "ephemeral"
        return NodeResult(
            unique_id=unique_id,
            resource_type=unique_id.partition(".")[0],
            status=NOT_RUN,
            not_run=NotRun.EPHEMERAL if is_ephemeral else None,
        )

    def evidence(self) -> Evidence:
        """Return all that is known of the run."""
        source = f"the DAG run {self.key.dag_id} {self.key.run_id}"
        told = self._in_order()
        if told:
            parts = [
                evidence_of_state(
                    writer.reader.state, source, "" if len(told) == 1 else self._label(writer.task_id)
                )
                for writer in told
            ]
            evidence = self._with_earlier(of_pods(parts, source))
        elif self._left is not None:
            evidence = self._left
        else:
            evidence = Evidence(source=source, outcome="unfinished", results={}, tries={})
        return msgspec.structs.replace(evidence, results={**self.all_results, **evidence.results})

    def _with_earlier(self, evidence: Evidence) -> Evidence:
        """Return what the journals tell with what is left of earlier attempts."""
        tries = {key_of(one): one for writer in self._writers.values() for one in writer.tries}
        evidence = msgspec.structs.replace(
            evidence,
            tries={**tries, **evidence.tries},
            threads={**threads_of(tries), **evidence.threads},
        )
        if not self._earlier and not tries:
            return evidence
        # What they have built and how they have failed is known, so it is not missing.
        notes = tuple(note for note in evidence.notes if not note.startswith(HOLDS_ONE_ATTEMPT))
        return with_later(msgspec.structs.replace(evidence, notes=notes), self._earlier)

    def record(self) -> RunRecord:
        """Return the record of the run as it is now."""
        return record_of(self.evidence(), self.facts)

    def _label(self, task_id: str) -> str:
        return task_id.removeprefix(f"{self.key.group}.")

    def _in_order(self) -> list[_Writer]:
        told = [writer for writer in self._writers.values() if writer.attempt]
        return sorted(told, key=lambda writer: (writer.began, writer.task_id))

    # Reading.

    def _look_at_tasks(self, changes: Changes) -> None:
        now = datetime.now(timezone.utc)
        is_due = self._all_tasks_at is None or now - self._all_tasks_at >= _ALL_TASKS_EVERY
        since = None if is_due or self._tasks_at is None else self._tasks_at - _OVERLAP
        key = self.key
        rows = self._database.tasks_below(key.dag_id, key.run_id, key.group, key.map_index, since=since)
        self._tasks_at = now
        if since is None:
            self._all_tasks_at = now
        for row in rows:
            if self.tasks.get(row.task_id) != row:
                self.tasks[row.task_id] = row
                changes.tasks.add(row.task_id)

    def _find_writers(self) -> None:
        """Learn of tasks that write journals. A sensor does so only when it was cleared alone."""
        names = {row.task_id for row in self.tasks.values() if runs_dbt(row)}
        if any(row.try_number > 1 for row in self.tasks.values() if row.operator == SENSOR):
            key = self.key
            found = self._database.tasks_with(key.dag_id, key.run_id, part_key(0))
            names |= {task for task, index in found if index == key.map_index and task in self.tasks}
        for name in sorted(names - self._writers.keys()):
            self._writers[name] = _Writer(name)
        for name, writer in self._writers.items():
            row = self.tasks.get(name)
            if row is not None and row.try_number > writer.try_number:
                writer.try_number, writer.is_damaged = row.try_number, False

    def _read_journals(self, changes: Changes) -> None:
        self._look_for_later_attempts(changes)
        reading = {
            name: writer
            for name, writer in self._writers.items()
            if writer.is_open and not writer.is_superseded
        }
        news: set[str] = set()
        for _ in range(_MAX_VALUES):
            if not reading:
                break
            values = self._xcoms((name, writer.reader.key) for name, writer in reading.items())
            reading = {
                name: writer
                for name, writer in reading.items()
                if self._take(writer, values.get((name, writer.reader.key)), news, changes)
            }
        if changes.is_reset:
            self.results.clear()
            self._earlier.clear()
            self._asked_for.clear()
            news = {node for writer in self._writers.values() for node in writer.reader.state.entries}
        self._decide(news)
        changes.nodes |= news

    def _look_for_later_attempts(self, changes: Changes) -> None:
        """Read anew where a later attempt has begun; until then, what the one before has left is shown."""
        superseded = [name for name, writer in self._writers.items() if writer.is_superseded]
        for (name, _), value in self._xcoms((name, part_key(0)) for name in superseded).items():
            writer = self._writers[name]
            try:
                attempt = decode_page(value).chunk.attempt
            except JournalError:
                continue
            if attempt > writer.attempt:
                writer.reader, writer.phase, changes.is_reset = JournalReader(), None, True

    def _take(self, writer: _Writer, value: Any, news: set[str], changes: Changes) -> bool:
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

    def _decide(self, unique_ids: set[str]) -> None:
        """Take the last word on nodes: that of the attempt that began last, unless dbt did not come to them there."""
        found: dict[str, NodeResult] = {}
        for writer in self._in_order():
            entries = writer.reader.state.entries
            for unique_id in unique_ids & entries.keys():
                entry = entries[unique_id]
                if unique_id not in found or not entry.was_not_run:
                    found[unique_id] = entry
        for unique_id in found.keys() & self._earlier.keys():
            if found[unique_id].was_not_run:
                found[unique_id] = self._earlier[unique_id]
        self.results.update(found)

    def _read_notes(self, changes: Changes) -> None:
        asked = [
            (name, key)
            for name, writer in self._writers.items()
            for key in (
                *((OUTLINE_KEY,) if self._wants_outline(writer) else ()),
                *((PHASE_KEY,) if writer.is_open and not writer.reader.state.entries else ()),
            )
        ]
        values = self._xcoms(asked)
        has_new_outline = False
        for name, writer in self._writers.items():
            phase = decode_phase(values.get((name, PHASE_KEY)))
            if phase is not None and phase != writer.phase:
                writer.phase, changes.is_any = phase, True
            value = values.get((name, OUTLINE_KEY))
            if value is not None:
                has_new_outline |= self._take_outline(writer, value, (self.key.run_id,))
        if has_new_outline:
            self.outline_of_run = None
            self._take_outlines(changes)
        elif not self.nodes and self.outline_of_run is None and not self.is_over:
            self._borrow_outline(changes)

    def _read_earlier(self, changes: Changes) -> None:
        """Read what earlier attempts have built: a later one builds the rest alone, and the tasks of these nodes have told."""
        if not any(writer.attempt > 1 for writer in self._writers.values()):
            return
        built = {
            task_id
            for node, task_id in self.task_of.items()
            if task_id not in self._asked_for
            and (row := self.tasks.get(task_id)) is not None
            and row.state == SUCCESS
            and row.operator == SENSOR
            and self.result(node).was_not_run
        }
        asked = sorted(built)[:_MAX_VALUES]
        if not asked:
            return
        self._asked_for.update(asked)
        values = self._xcoms((task_id, RETURN_VALUE) for task_id in asked)
        for unique_id, result in results_of_sensors(values.values()).items():
            if self.result(unique_id).was_not_run:
                self._earlier[unique_id] = self.results[unique_id] = result
                # The lanes of their attempts are in the record alone.
                changes.is_reset = True

    def _wants_outline(self, writer: _Writer) -> bool:
        return (
            writer.outline_attempt < max(writer.try_number, 1)
            and self.tasks.get(writer.task_id, _NOBODY).operator != SENSOR
        )

    def _take_outline(self, writer: _Writer, value: Any, run_ids: tuple[str, ...]) -> bool:
        """Read an outline; return whether it was new."""
        try:
            attempt = attempt_in(value)
            if attempt <= writer.outline_attempt:
                return False
            key = self.key

            def ask(number: int) -> Any:
                name = piece_key(OUTLINE_KEY, number)
                found = self._database.xcoms(key.dag_id, run_ids, [(writer.task_id, name)], key.map_index)
                return found[0].value if found else None

            writer.outline = unpack_outline(value, ask)
            writer.outline_attempt = attempt
            writer.tries = self._tries_of(writer) if attempt > 1 and run_ids == (key.run_id,) else []
        except PackedError as error:
            log.warning("The outline of %s cannot be read: %s", writer.task_id, error)
            writer.outline_attempt = max(writer.try_number, 1)
            return False
        return True

    def _tries_of(self, writer: _Writer) -> list[NodeResult]:
        """Return what nodes came to in the attempts before that of an outline."""
        return self._noted(writer, TRIES_KEY, self.key.run_id, unpack_tries) or []

    def columns_of(self, unique_id: str) -> tuple[Column, ...]:
        """Return the columns of a node that the task has told which builds it; asks the database the first time."""
        for writer in self._writers.values():
            outline = writer.outline
            if outline is None or all(node.unique_id != unique_id for node in outline.nodes):
                continue
            if writer.columns is None or writer.columns[0] != writer.outline_attempt:
                run_id = self.outline_of_run or self.key.run_id
                found = self._noted(writer, COLUMNS_KEY, run_id, unpack_columns) or {}
                writer.columns = (writer.outline_attempt, found)
            if columns := writer.columns[1].get(unique_id):
                return columns
        return ()

    def artifacts(self) -> list[Any]:
        """Return what the tasks that run dbt say of the artifacts that they have kept; asks the database."""
        return list(self._xcoms((name, ARTIFACTS_KEY) for name in self._writers).values())

    def _noted(
        self, writer: _Writer, key: str, run_id: str, read: Callable[[Any, Callable[[int], Any]], _Noted]
    ) -> _Noted | None:
        """Read a note that a task has packed; None where there is none."""

        def ask(number: int) -> Any:
            wanted = [(writer.task_id, piece_key(key, number))]
            found = self._database.xcoms(self.key.dag_id, (run_id,), wanted, self.key.map_index)
            return found[0].value if found else None

        value = ask(0)
        if value is None:
            return None
        try:
            return read(value, ask)
        except PackedError as error:
            log.warning("%s of %s cannot be read: %s", key, writer.task_id, error)
            return None

    def _take_outlines(self, changes: Changes) -> None:
        outlines = [writer.outline for writer in self._writers.values() if writer.outline is not None]
        self.facts = ManifestFacts(graph_of(outlines), {})
        self.nodes = frozenset(node.unique_id for outline in outlines for node in outline.nodes)
        self.task_of = {node: task for outline in outlines for node, task in outline.task_of.items()}
        changes.is_reset = True

    def _borrow_outline(self, changes: Changes) -> None:
        """Take the outline of an earlier run, until this one has its own."""
        self.outline_of_run = ""
        key = self.key
        for run in self._database.runs(key.dag_id, limit=EARLIER_RUNS, before=key.run_id):
            wanted = [(name, OUTLINE_KEY) for name in self._writers]
            found = self._database.xcoms(key.dag_id, [run.run_id], wanted, key.map_index) if wanted else []
            for xcom in found:
                writer = self._writers[xcom.task_id]
                if self._take_outline(writer, xcom.value, (run.run_id,)):
                    writer.outline_attempt = 0
            if found:
                self.outline_of_run = run.run_id
                self._take_outlines(changes)
                return

    def _read_what_is_left(self, changes: Changes) -> None:
        """Read what the tasks of nodes have left, where the journal is gone."""
        sensors = [row.task_id for row in self.tasks.values() if row.operator == SENSOR]
        values = self._xcoms((task_id, RETURN_VALUE) for task_id in sensors)
        source = f"the DAG run {self.key.dag_id} {self.key.run_id}"
        self._left = evidence_of_sensors(values.values(), source)
        if self._left is not None:
            self.results = dict(self._left.results)
            changes.is_reset = True

    def _xcoms(self, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        asked = list(wanted)
        if not asked:
            return {}
        key = self.key
        found = self._database.xcoms(key.dag_id, [key.run_id], asked, key.map_index)
        return {(xcom.task_id, xcom.key): xcom.value for xcom in found}


class _Nobody:
    operator = ""


_NOBODY: Final = _Nobody()


def runs_dbt(row: TaskRow) -> bool:
    """Return whether a task of a project's group runs dbt."""
    return row.operator.startswith(OPERATOR_PREFIX) and row.operator != SENSOR
