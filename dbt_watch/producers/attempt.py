"""
One attempt of a task that runs dbt, on the worker: its journal, its signals, and what is known of the build.

`producers.dbt_task` works with it; a subclass says what dbt runs in, and is made when the task begins.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from dbt_watch.airflow.supervisor import SupervisorProcess, read_state_now
from dbt_watch.airflow.task_instances import is_first_since_clear, key_of, made_at, will_retry
from dbt_watch.core.held_back import HeldBack
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.exceptions import DbtRunFailed
from dbt_watch.producers.journal_publisher import JournalPublisher
from dbt_watch.producers.notes import NoteWriter
from dbt_watch.producers.retry_state import Memory
from dbt_watch.producers.termination import StopSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from dbt_watch.exceptions import DbtWatchError
    from dbt_watch.lineage.plan import LineagePlan
    from dbt_watch.producers.build_watch import BuildWatch
    from dbt_watch.producers.lineage import BuildLineage


class Attempt:
    """
    One attempt.

    :param context: of the task that runs here
    :param stop: stops dbt; called when the task turns out to have been stopped
    """

    runs_in: ClassVar[str]
    """What dbt runs in, in a word."""

    def __init__(self, context: Context, stop: Callable[[], None]) -> None:
        task_instance: Any = context["ti"]
        self.context = context
        self.task_instance = task_instance
        self.number: int = task_instance.try_number
        self.will_retry = will_retry(task_instance)
        # By the clock of this worker, which may be behind the one of the process that made the task.
        self.began = max(time.time(), made_at(task_instance.id))
        self.memory = Memory(context)
        self.signal = StopSignal(self._own_state, stop, runs_in=self.runs_in)
        self.writer = JournalWriter(attempt=self.number)
        self.wanted: frozenset[str] | None = None
        """The nodes that a person wants of it, once that is known."""
        self.left_to_dbt = ""
        """Why dbt itself may leave out nodes that it is to build, in words."""
        self.held = HeldBack()
        """What is not built because of what came before."""
        self.nodes: frozenset[str] = frozenset()
        """The nodes that it builds, once that is decided."""
        self.watch: BuildWatch | None = None
        self.lineage_plan: LineagePlan | None = None
        """What its OpenLineage events are made of, once it is known what it builds; None where there are none."""
        self.lineage: BuildLineage | None = None
        """Sends them, where the worker follows the build."""
        self._is_known: bool | None = None
        publication = Publication(self.writer, will_retry=self.will_retry, began=self.began)
        self._publisher = JournalPublisher(publication, self._push)
        self.notes = NoteWriter(self._push, self.number)
        """What it tells beside the journal."""
        self._supervisor = SupervisorProcess()

    @staticmethod
    def lost(why: str) -> DbtWatchError:
        """Return what the task fails with when there is no end of dbt."""
        raise NotImplementedError(why)

    @property
    def is_first_since_clear(self) -> bool:
        """Whether a person has cleared the task before this attempt."""
        return is_first_since_clear(self.task_instance)

    def open(self) -> None:
        """Begin the journal, and heed signals."""
        self.signal.watch()
        self._publisher.flush()

    def tick(self) -> None:
        """
        Do what is due; called often, in the task's own thread.

        :raises SystemExit: when nobody is left to whom the outcome could be told
        """
        if self.is_orphaned:
            raise SystemExit(
                f"the supervisor process of this task is gone; the {self.runs_in} is left for the next attempt"
            )
        self.signal.check()
        self._publisher.write()
        if self.watch is not None:
            self.watch.tell_progress()

    def hand_over(self) -> None:
        """Write all that is known by now, before a triggerer goes on with the journal: it knows nothing but what is written."""
        self._publisher.finish()

    def close(self, exit_code: int | None, reason: str | None = None, **more: Any) -> None:
        """
        End the journal, once.

        :param more: what else `BuildWatch.end` is to know
        """
        if self.watch is not None and self.watch.end(exit_code, self.signal.reason or reason, **more):
            if self.watch.was_held_back:
                self._publisher.give_up()
            self._publisher.finish()
            end = self.watch.closed
            self._is_known = self.memory.remember_end(well=end is not None and end.exit_code == 0)
            if self.will_retry and (end is None or end.exit_code != 0):
                self.memory.remember_tries(self.watch.results)
            self.notes.summary(self.watch.results, end.exit_code if end is not None else None)
            if self.lineage is not None:
                self.lineage.close()

    @property
    def may_be_superseded(self) -> bool:
        """
        Whether Airflow may have given this attempt up, and begun another that looks for what this one has left.

        That happens to a worker that was not heard of for too long, and goes on nevertheless. Airflow 3.3 tells; before, all
        that such a worker notices is that it is asked to end.
        """
        return self.signal.is_leaving if self._is_known is None else not self._is_known

    @property
    def closed(self) -> Closed | None:
        """How the attempt has ended; None before."""
        return None if self.watch is None else self.watch.closed

    def failure(self) -> DbtWatchError:
        """Say what became of dbt, once the attempt has ended."""
        closed = self.closed or Closed()
        summary = "" if self.watch is None else self.watch.summary()
        return failure_of(closed.exit_code, self.signal.reason or closed.reason, summary, self.lost)

    @property
    def is_orphaned(self) -> bool:
        """Whether Airflow's process that watches over this one was killed; another attempt may have begun."""
        return self._supervisor.has_gone

    def _push(self, key: str, value: str | int) -> None:
        with self.signal.talking():
            self.task_instance.xcom_push(key=key, value=value)

    def _own_state(self) -> str | None:
        return read_state_now(key_of(self.task_instance))


def failure_of(
    exit_code: int | None, reason: str | None, summary: str, lost: Callable[[str], DbtWatchError]
) -> DbtWatchError:
    """
    Return what became of dbt, in one line, as an exception.

    :param lost: makes it where there is no exit code
    """
    why = "; ".join(part.rstrip(".") for part in (reason, summary) if part)
    if exit_code is None:
        return lost(why)
    return DbtRunFailed(f"dbt ended with exit code {exit_code}: {why}")
