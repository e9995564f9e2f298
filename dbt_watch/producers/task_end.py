"""
How the end of an attempt becomes that of its task: what Airflow is told before, what may contradict it, and who is waited for.

`producers.dbt_task` asks, on the worker that has followed dbt and on the one that goes on after a deferral. `producers.ending` says how
dbt has ended, and how the task of an isolated node ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.airflow.supervisor import patiently, read_states_now, runs_in_dag_test
from dbt_watch.airflow.task_instances import key_of, will_retry
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.resume import built_tasks, outdated_tasks
from dbt_watch.producers.asset_report import report_builds
from dbt_watch.producers.attempt import failure_of
from dbt_watch.producers.ending import Ending, end_of_node
from dbt_watch.producers.journal_store import stored_journal
from dbt_watch.producers.retry_plan import named
from dbt_watch.producers.waiting import await_sensors

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow.sdk import Context

    from dbt_watch.core.assets import TrackedAssets
    from dbt_watch.core.results import NodeResult
    from dbt_watch.exceptions import DbtWatchError
    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.build_scope import BuildScope
    from dbt_watch.producers.build_watch import BuildWatch


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """
    The end of one attempt of a task that runs dbt.

    :param context: of the task that runs here
    :param scope: what the task builds
    :param producer: the id of the task that runs dbt, which a sensor that builds alone is not
    :param log: the task's
    :param on_warning: called with the context when the isolated node that it builds ended with a warning
    :param assets: the nodes of whose builds Airflow is told; None where another task tells of them
    """

    context: Context
    scope: BuildScope
    producer: str
    log: logging.Logger
    on_warning: Sequence[Callable[[Context], object]] = ()
    assets: TrackedAssets | None = None

    def as_seen(self, attempt: Attempt, watch: BuildWatch, result: Any) -> Any:
        """
        End the task as its worker has seen dbt end.

        :param attempt: the attempt, which has ended
        :param watch: what has been seen of it
        :param result: what the operator itself returns
        :raises Exception: see `after`
        """
        ending = Ending(
            closed=attempt.closed or Closed(),
            error=attempt.failure(),
            entries={entry.unique_id: entry for entry in watch.results},
            was_held_back=watch.was_held_back,
        )
        return self.after(ending, result)

    def after_failure(self, attempt: Attempt, watch: BuildWatch, error: Exception) -> None:
        """
        Do what is left to do on the worker before the task fails.

        :param attempt: the attempt
        :param watch: what has been seen of it
        :param error: what the task fails with
        """
        if self.scope.stands_for:
            self._say(watch.failure_lines())
        if not attempt.signal.is_leaving:
            entries = {entry.unique_id: entry for entry in watch.results}
            self._await_sensors(error, lambda: entries, attempt.tick)

    def say_at_once(self, told: Mapping[str, Any]) -> None:
        """
        Say why dbt has failed, before anything else is said after a deferral.

        :param told: see `as_told`
        """
        # A test of an isolated node may have failed alone: then its task may end well.
        if not self.scope.stands_for:
            self._say(told.get("failure", ()))

    def as_told(self, told: Mapping[str, Any], result: Any, lost: Callable[[str], DbtWatchError]) -> Any:
        """
        End the task as a trigger has found.

        :param told: what the event holds under the key `END`
        :param result: what the operator itself returns
        :param lost: makes what the task fails with when there is no end of dbt
        :raises Exception: see `after`
        """
        closed = Closed(told["exit_code"], told["reason"])
        entries = self._entries_after_deferral(closed)
        ending = Ending(
            closed=closed,
            error=failure_of(closed.exit_code, closed.reason, told["summary"], lost),
            entries=entries,
            was_held_back=told.get("was_held_back", False),
        )
        try:
            return self.after(ending, result)
        except AirflowSkipException:
            raise
        except Exception as error:
            if self.scope.stands_for:
                self._say(told.get("failure", ()))
            self._await_sensors(error, lambda: entries or self._stored_entries(), lambda: None)
            raise

    def after(self, ending: Ending, result: Any) -> Any:
        """
        End the task as dbt has ended, and that of an isolated node as the node has.

        :param ending: how dbt has ended
        :param result: what the operator itself returns
        :raises Exception: the failure, unless it is one of tests only that have tasks of their own
        """
        if self.scope.stands_for:
            result = end_of_node(self.context, ending, self.scope.stands_for, self.on_warning)
        elif ending.is_bad:
            raise ending.failure from None
        attempt = self.context["ti"].try_number
        if attempt > 1:
            self._raise_if_outdated(ending.entries)
        if self.assets is not None:
            report_builds(self.context, self.assets, ending.entries.values(), attempt, self.scope.watched)
        return result

    def _await_sensors(
        self,
        error: Exception,
        entries_now: Callable[[], Mapping[str, NodeResult]],
        on_tick: Callable[[], None],
    ) -> None:
        """
        Let the sensors of what an attempt has built end before the next one, which builds what has no green sensor.

        :param error: what the attempt fails with
        :param entries_now: returns the results of the attempt by unique_id; may raise anything
        :param on_tick: called while it waits
        """
        ti = self.context["ti"]

        def tasks_now() -> frozenset[str]:
            return built_tasks(self.scope.watched, entries_now()) - {ti.task_id}

        if will_retry(ti) and not isinstance(error, AirflowFailException) and not runs_in_dag_test():
            await_sensors(key_of(ti), tasks_now, on_tick)

    def _raise_if_outdated(self, entries: Mapping[str, NodeResult]) -> None:
        """
        See to it that the task is not green over sensors that show something else than what dbt has done now.

        :raises AirflowFailException: naming them; another attempt would change nothing
        """
        watched = self.scope.watched
        states = patiently(lambda: read_states_now(key_of(self.context["ti"]), watched))
        tasks = outdated_tasks(watched, states, Closed(0), entries)
        if tasks:
            raise AirflowFailException(
                f"dbt succeeded, but {named(tasks)} had already ended in a state that no longer matches. Clear them"
                " together with"
                f" {self.producer}"
            )

    def _entries_after_deferral(self, closed: Closed) -> Mapping[str, NodeResult]:
        """Return what the journal tells of the nodes, as far as `after` asks for it."""
        is_well = closed.exit_code == 0
        if self.scope.stands_for or (is_well and self.context["ti"].try_number > 1):
            return patiently(self._stored_entries)
        if is_well and self.assets is not None:
            return self._entries_for_assets()
        return {}

    def _entries_for_assets(self) -> Mapping[str, NodeResult]:
        """Return what the journal tells; nothing where it cannot be read: that dbt has ended well is worth more."""
        try:
            return patiently(self._stored_entries)
        except Exception as error:  # noqa: BLE001 - see above
            self.log.warning("The journal cannot be read, so no asset events are sent: %s", error)
            return {}

    def _stored_entries(self) -> Mapping[str, NodeResult]:
        return stored_journal(key_of(self.context["ti"])).entries

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.log.error("%s", line)
