"""
What is known of one project in one run of a DAG, put together from its tasks, its journals, and what was told beside them.

`RunSource` is asked again and again while somebody looks (`page.readers`), and each time reads only what is new. All of it blocks,
and runs in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.airflow.artifact_pages import ARTIFACTS_KEY
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.core.statuses import NOT_RUN
from dbt_watch.core.task_states import DEFERRED, OVER, RUNNING, SUCCESS
from dbt_watch.page.changes import Changes
from dbt_watch.page.journals import Journals
from dbt_watch.page.outlines import Outlines
from dbt_watch.page.project_database import ProjectDatabase
from dbt_watch.page.project_tasks import ProjectTasks
from dbt_watch.reporting.assembly import record_of
from dbt_watch.reporting.evidence import Evidence, key_of, of_pods, threads_of, with_later
from dbt_watch.reporting.sources import (
    HOLDS_ONE_ATTEMPT,
    evidence_of_sensors,
    evidence_of_state,
    results_of_sensors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbt_watch.airflow.api_server import DagRunRow, RunDatabase, TaskRow
    from dbt_watch.core.manifest.columns import Column
    from dbt_watch.core.run_notes import PhaseNote
    from dbt_watch.page.projects import ProjectKey
    from dbt_watch.reporting.manifests import ManifestFacts
    from dbt_watch.reporting.run_record import RunRecord

FINAL_RUN_STATES: Final = frozenset({"success", "failed"})
RETURN_VALUE: Final = "return_value"

_AT_WORK: Final = frozenset({RUNNING, DEFERRED})
_MAX_VALUES: Final = 400
"""How many sensors are asked in one look what an earlier attempt has left."""


class RunSource:
    """
    One project in one run.

    :param database: what Airflow knows
    :param key: the project
    """

    def __init__(self, database: RunDatabase, key: ProjectKey) -> None:
        self.key = key
        self.run: DagRunRow | None = None
        self.results: dict[str, NodeResult] = {}
        """The last word on each node that dbt has come to."""
        self._database = ProjectDatabase(database, key)
        self._tasks = ProjectTasks(self._database)
        self._journals = Journals(self._database)
        self._outlines = Outlines(self._database, self._journals)
        self._left: Evidence | None = None
        self._earlier: dict[str, NodeResult] = {}
        """What earlier attempts have built, which the journal of a later one does not tell."""
        self._asked_for: set[str] = set()
        """The tasks of nodes that were asked what an earlier attempt has left."""

    def look(self) -> Changes:
        """Read what is new."""
        changes = Changes()
        run = self._database.run()
        if run != self.run:
            self.run, changes.is_any = run, True
        if run is None:
            return changes
        changes.tasks |= self._tasks.look()
        self._journals.find_writers(self._tasks)
        self._read_journals(changes)
        self._outlines.read(changes, self._tasks, is_over=self.is_over)
        self._read_earlier(changes)
        if not self.has_journal and self.is_over and self._left is None:
            self._read_what_is_left(changes)
        return changes

    # What was read.

    @property
    def tasks(self) -> dict[str, TaskRow]:
        """The tasks of the project by their ids."""
        return self._tasks.rows

    @property
    def producers(self) -> list[TaskRow]:
        """The tasks that run dbt."""
        return self._tasks.producers

    @property
    def facts(self) -> ManifestFacts:
        """The graph of the run, and what is known of its nodes."""
        return self._outlines.facts

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that are to be built, as far as an outline tells."""
        return self._outlines.nodes

    @property
    def task_of(self) -> dict[str, str]:
        """The task that stands for each node that has one."""
        return self._outlines.task_of

    @property
    def outline_of_run(self) -> str | None:
        """The run whose outline this is, where this one has none yet."""
        return self._outlines.of_run

    @property
    def phases(self) -> list[PhaseNote]:
        """What the tasks say that run dbt and have not come to a node."""
        return self._outlines.phases

    @property
    def attempt(self) -> int:
        """The latest attempt of a task that runs dbt."""
        return self._journals.attempt

    def columns_of(self, unique_id: str) -> tuple[Column, ...]:
        """Return the columns of a node that the task has told which builds it; asks the database the first time."""
        return self._outlines.columns_of(unique_id)

    def artifacts(self) -> list[Any]:
        """Return what the tasks that run dbt say of the artifacts that they have kept; asks the database."""
        return list(self._database.values((name, ARTIFACTS_KEY) for name in self._journals.writers).values())

    # What is known.

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come, unless somebody clears a task: the run has ended, or all tasks of the project have."""
        return self.run is None or self.run.state in FINAL_RUN_STATES or self._tasks.are_over

    @property
    def has_journal(self) -> bool:
        """Whether a journal was read."""
        return bool(self._journals.begun)

    @property
    def is_between_attempts(self) -> bool:
        """Whether what is shown was left by an attempt after which another one is to come."""
        told = self.has_journal or bool(self.results)
        return (
            told
            and not self.is_over
            and not any(row.state in _AT_WORK for row in self.producers)
            and any(row.state not in OVER for row in self.producers)
        ) or any(writer.is_superseded for writer in self._journals.writers.values())

    @property
    def sources(self) -> list[str]:
        """Where the results come from, in words."""
        if self.has_journal:
            return ["journal"]
        return ["xcom of tasks"] if self._left is not None else []

    def task_rows(self, unique_ids: Iterable[str]) -> dict[str, TaskRow]:
        """Return the tasks of nodes, as far as they are known."""
        found = {unique_id: self.tasks.get(self.task_of.get(unique_id, "")) for unique_id in unique_ids}
        return {unique_id: row for unique_id, row in found.items() if row is not None}

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
        told = self._journals.begun
        if told:
            parts = [
                evidence_of_state(
                    writer.reader.state, self._source, "" if len(told) == 1 else self._label(writer.task_id)
                )
                for writer in told
            ]
            evidence = self._with_earlier(of_pods(parts, self._source))
        elif self._left is not None:
            evidence = self._left
        else:
            evidence = Evidence(source=self._source, outcome="unfinished", results={}, tries={})
        return msgspec.structs.replace(evidence, results={**self.all_results, **evidence.results})

    def record(self) -> RunRecord:
        """Return the record of the run as it is now."""
        return record_of(self.evidence(), self.facts)

    @property
    def _source(self) -> str:
        return f"the DAG run {self.key.dag_id} {self.key.run_id}"

    def _with_earlier(self, evidence: Evidence) -> Evidence:
        """Return what the journals tell with what is left of earlier attempts."""
        tries = {key_of(one): one for writer in self._journals.writers.values() for one in writer.tries}
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

    def _label(self, task_id: str) -> str:
        return task_id.removeprefix(f"{self.key.group}.")

    # Reading.

    def _read_journals(self, changes: Changes) -> None:
        news = self._journals.read(changes)
        if changes.is_reset:
            self.results.clear()
            self._earlier.clear()
            self._asked_for.clear()
        found = self._journals.last_words(news)
        for unique_id in found.keys() & self._earlier.keys():
            if found[unique_id].was_not_run:
                found[unique_id] = self._earlier[unique_id]
        self.results.update(found)
        changes.nodes |= news

    def _read_earlier(self, changes: Changes) -> None:
        """Read what earlier attempts have built: a later one builds the rest alone, and the tasks of these nodes have told."""
        if not any(writer.attempt > 1 for writer in self._journals.writers.values()):
            return
        built = {
            task_id
            for node, task_id in self.task_of.items()
            if task_id not in self._asked_for
            and self._tasks.is_sensor(task_id)
            and self.tasks[task_id].state == SUCCESS
            and self.result(node).was_not_run
        }
        asked = sorted(built)[:_MAX_VALUES]
        if not asked:
            return
        self._asked_for.update(asked)
        values = self._database.values((task_id, RETURN_VALUE) for task_id in asked)
        for unique_id, result in results_of_sensors(values.values()).items():
            if self.result(unique_id).was_not_run:
                self._earlier[unique_id] = self.results[unique_id] = result
                # The lanes of their attempts are in the record alone.
                changes.is_reset = True

    def _read_what_is_left(self, changes: Changes) -> None:
        """Read what the tasks of nodes have left, where the journal is gone."""
        values = self._database.values((row.task_id, RETURN_VALUE) for row in self._tasks.sensors)
        self._left = evidence_of_sensors(values.values(), self._source)
        if self._left is not None:
            self.results = dict(self._left.results)
            changes.is_reset = True
