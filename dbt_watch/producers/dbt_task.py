"""
What any task does that runs dbt, wherever dbt runs: what there is to build, the journal, the retries, and how the task ends.

`DbtTaskMixin` goes in front of an operator. `producers.pods.operator` and `producers.api.operator` say how dbt is reached: in a pod,
and by a server. It knows neither Kubernetes nor HTTP.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout

from dbt_watch.airflow.compat import AirflowFailException
from dbt_watch.airflow.secrets import redact
from dbt_watch.airflow.supervisor import patiently, read_states_now, runs_in_dag_test
from dbt_watch.airflow.task_instances import key_of, will_retry
from dbt_watch.core.event_time import EVENT_TIME, RunDates, resolved
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.drift import Drift, OnDrift
from dbt_watch.core.log.stale_sources import OnStale, StaleSources
from dbt_watch.core.manifest.columns import columns_at
from dbt_watch.core.resume import built_tasks, outdated_tasks, selection_of_part
from dbt_watch.core.run_notes import outline_of
from dbt_watch.core.selection.gaps import selected_nodes
from dbt_watch.core.selection.near import complaint
from dbt_watch.core.selection.run_time import narrowed
from dbt_watch.core.selection.source_freshness import readers_of
from dbt_watch.exceptions import ProjectIsBusy
from dbt_watch.producers.asset_report import report_builds
from dbt_watch.producers.attempt import failure_of
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.dbt_trigger import pack
from dbt_watch.producers.ending import Ending, end_of_node
from dbt_watch.producers.journal_store import stored_journal
from dbt_watch.producers.kept_files import KeptFilesMixin
from dbt_watch.producers.lineage import BuildLineage, lineage_plan, packed_plan
from dbt_watch.producers.retry_plan import AttemptPlan, Wanted, named
from dbt_watch.producers.secrets import hide, secrets_in
from dbt_watch.producers.triggerer_capacity import has_place
from dbt_watch.producers.upstreams import held_back_of, raise_if_missing
from dbt_watch.producers.waiting import await_sensors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from dbt_watch.core.artifacts import Artifacts
    from dbt_watch.core.assets import TrackedAssets
    from dbt_watch.core.command import Selection
    from dbt_watch.core.held_back import HeldBack
    from dbt_watch.core.log.enclosed_files import EnclosedFiles
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.manifest.node_meta import NodeSettings
    from dbt_watch.core.part import Part
    from dbt_watch.core.results import NodeResult
    from dbt_watch.lineage.settings import LineageSource
    from dbt_watch.producers.attempt import Attempt


class DbtTaskMixin(KeptFilesMixin):
    """
    Runs `dbt build`, `dbt source freshness`, or both.

    :param build: the options of `dbt_build(...)`, with templates and XComArgs
    :param selection: the nodes to build, and the sources to check
    :param graph: the project
    :param selected: the unique_ids of both
    :param on_stale: what becomes of nodes that read from a stale source
    :param on_drift: what becomes of an attempt in which dbt ran another project than the manifest's
    :param watched: the unique_ids that each sensor stands for, by its task id
    :param sensors_told: what the log says of how the sensors start
    :param on_warning: called with the context when the isolated node that it builds ended with a warning
    :param project_dir: the directory of `dbt_project.yml` where dbt runs
    :param lineage: what its OpenLineage events are made of; None where there are to be none
    :param artifacts: which of dbt's artifacts are kept, and where
    :param state: where the state of an earlier run is, or "last_success"
    :param manifest: where the manifest is that the DAG was made of

    What `rendering.pod_tasks` sets as well, since it may change while a DAG file is parsed:

    :ivar part: what it builds of a project that is split; None where it builds all of it
    :ivar needs: the ids of the tasks whose values dbt is called with, and which must have ended well
    :ivar siblings: of a build of some nodes alone, the ids of all tasks of nodes of the project
    :ivar check: raises when the project would be split in another way now that the whole DAG file has been read
    :ivar assets: the nodes of whose builds it tells Airflow when it ends well
    :ivar project_group: the id of the project's task group
    """

    shallow_copy_attrs: Sequence[str] = ("artifacts", "assets", "check", "graph", "part")
    ui_color = "#ff694a"

    attempt_class: ClassVar[type[Attempt]]
    """What an attempt of it is."""

    if TYPE_CHECKING:
        deferrable: bool
        execution_timeout: timedelta | None
        log: Any
        task_id: str

    def __init__(
        self,
        *,
        build: Mapping[str, Any],
        selection: Selection,
        graph: Graph,
        selected: frozenset[str],
        watched: Mapping[str, Sequence[str]],
        sensors_told: str = "",
        on_stale: OnStale = "fail",
        on_drift: OnDrift = "warn",
        on_warning: Sequence[Callable[[Context], object]] = (),
        project_dir: str | None = None,
        lineage: LineageSource | None = None,
        artifacts: Artifacts | None = None,
        state: str | None = None,
        manifest: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.build = dict(build)
        self.selection = selection
        self.graph = graph
        self.selected = selected
        self.watched = watched
        self.sensors_told = sensors_told
        self.on_stale = on_stale
        self.on_drift = on_drift
        self.on_warning = tuple(on_warning)
        self.project_dir = project_dir
        self.lineage = lineage
        self.artifacts = artifacts
        self.state = state
        self.manifest = manifest
        self.artifacts_told: dict[str, Any] = {}
        self.part: Part | None = None
        self.needs: frozenset[str] = frozenset()
        self.check: Callable[[], None] | None = None
        self.siblings: tuple[str, ...] = ()
        self.assets: TrackedAssets | None = None
        self.project_group = ""
        self._attempt: Attempt | None = None
        self._secrets: list[str] = []

    @property
    def watch(self) -> BuildWatch | None:
        """What has been seen of the build; None before it begins."""
        return None if self._attempt is None else self._attempt.watch

    # What a subclass says.

    def stop_dbt(self) -> None:
        """Stop dbt, if it runs; once."""
        raise NotImplementedError

    @property
    def takes_over(self) -> bool:
        """Whether another attempt may go on with what this one leaves."""
        return True

    def values_by_name(self) -> dict[str, Any]:
        """Return what dbt is given under names, some of which may be those of secrets."""
        return {"vars": self.build.get("vars")}

    def suit(self, settings: Iterable[NodeSettings]) -> None:
        """
        Take on what some nodes say of where they are built, for a build of these nodes alone.

        :param settings: of each, in an order in which the first that says something decides
        """

    def _explain(self, attempt: Attempt, error: Exception) -> str:
        """Return in one line why there is no end of dbt."""
        raise NotImplementedError

    def _is_told_by(self, attempt: Attempt, error: Exception) -> bool:
        """Return whether the end of an attempt says all that an error does."""
        del attempt, error
        return False

    # What Airflow calls.

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render as usual, and have Airflow mask what is secret among what dbt is given."""
        super().render_template_fields(context, jinja_env)  # type: ignore[misc]
        self._secrets = []
        self._hide(secrets_in(self.values_by_name()))

    def _hide(self, secrets: Iterable[str]) -> None:
        """Have Airflow mask more that dbt is given, here and in a trigger that goes on."""
        more = [secret for secret in secrets if secret not in self._secrets]
        self._secrets = [*self._secrets, *more]
        hide(more)

    def on_kill(self) -> None:
        """Stop dbt, unless it is only this worker that has to go, and another attempt takes over."""
        attempt = self._attempt
        is_timeout = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
        if attempt is None or is_timeout or not (self.takes_over and attempt.will_retry):
            self.stop_dbt()
        else:
            attempt.signal.receive()

    # One attempt.

    def _attempted(self, context: Context, attempt: Attempt, run: Callable[[], Any]) -> Any:
        """
        Make an attempt, and the journal with it.

        :param run: does so, once all that it needs is there
        """
        # Before anything that takes time: readers look for it.
        attempt.open()
        try:
            if self.check is not None:
                self.check()
            raise_if_missing(context["ti"], self.needs)
            return run()
        except (AirflowSkipException, ProjectIsBusy):
            raise
        except Exception as error:
            if attempt.closed is None:  # it has not come to `_built`
                self._close(attempt, self._explain(attempt, error))
            if self._stands_for and attempt.watch is not None:
                self._say_why(attempt.watch.failure_lines())
            if attempt.watch is not None and not attempt.signal.is_leaving:
                self._await_sensors(context, error, attempt.watch.results, attempt.tick)
            raise

    def _built(self, context: Context, attempt: Attempt, run: Callable[[], Any]) -> Any:
        """
        Run dbt, and end the task as dbt has ended.

        :param run: runs dbt, and closes the attempt unless somebody else follows dbt from now on
        """
        result = None
        try:
            result = run()
        except AirflowTaskTimeout:
            self.stop_dbt()
            self._close(
                attempt, f"the task took longer than its execution_timeout of {self.execution_timeout}"
            )
            raise
        except (AirflowSkipException, ProjectIsBusy):
            raise
        except Exception as error:
            self._close(attempt, self._explain(attempt, error))
            if not self._is_told_by(attempt, error):
                raise
        if attempt.closed is None or attempt.watch is None:
            return result  # deferred, or left to another attempt
        if attempt.nodes:
            self._keep_artifacts(context, attempt.watch.files)
            self._keep_state(context, attempt.closed, attempt.watch.files)
        ending = Ending(
            closed=attempt.closed,
            error=attempt.failure(),
            entries={entry.unique_id: entry for entry in attempt.watch.results},
            was_held_back=attempt.watch.was_held_back,
        )
        return self._end(context, ending, result)

    def _ended_as_told(
        self, context: Context, told: Mapping[str, Any], result: Any, files: EnclosedFiles | None = None
    ) -> Any:
        """
        End the task as a trigger has found.

        :param told: what the event holds under the key `END`
        :param result: what the operator itself returns
        :param files: what the container has put into its log
        """
        ti = context["ti"]
        closed = Closed(told["exit_code"], told["reason"])
        if files is not None:
            self._keep_artifacts(context, files)
            self._keep_state(context, closed, files)
        entries: Mapping[str, NodeResult] = {}
        if self._stands_for or (closed.exit_code == 0 and ti.try_number > 1):
            entries = patiently(lambda: stored_journal(key_of(ti))).entries
        elif closed.exit_code == 0 and self.assets is not None:
            entries = self._entries_if_readable(ti, "Airflow is not told of the builds")
        ending = Ending(
            closed=closed,
            error=failure_of(closed.exit_code, closed.reason, told["summary"], self.attempt_class.lost),
            entries=entries,
            was_held_back=told.get("was_held_back", False),
        )
        try:
            return self._end(context, ending, result)
        except AirflowSkipException:
            raise
        except Exception as error:
            if self._stands_for:
                self._say_why(told.get("failure", ()))
            if will_retry(ti):
                known = entries or self._entries_if_readable(ti, "its sensors are not waited for")
                self._await_sensors(context, error, known.values(), lambda: None)
            raise

    def _say_at_once(self, told: Mapping[str, Any]) -> None:
        """
        Say why dbt has failed, before anything else is said after a deferral.

        :param told: see `_ended_as_told`
        """
        if not self._stands_for:
            self._say_why(told.get("failure", ()))

    def _say_why(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.log.error("%s", line)

    def _entries_if_readable(self, task_instance: Any, otherwise: str) -> Mapping[str, NodeResult]:
        """Return what the journal tells; nothing where it cannot be read: how dbt has ended is worth more."""
        try:
            return patiently(lambda: stored_journal(key_of(task_instance))).entries
        except Exception as error:  # noqa: BLE001 - see above
            self.log.warning("The journal cannot be read, so %s: %s", otherwise, error)
            return {}

    def _await_sensors(
        self, context: Context, error: Exception, results: Iterable[NodeResult], on_tick: Callable[[], None]
    ) -> None:
        """
        Let the sensors of what an attempt has built end before the next one, which builds what has no green sensor.

        :param error: what the attempt fails with
        :param results: of the attempt
        :param on_tick: called while it waits
        """
        ti = context["ti"]
        if will_retry(ti) and not isinstance(error, AirflowFailException) and not runs_in_dag_test():
            tasks = built_tasks(self.watched, {result.unique_id: result for result in results})
            await_sensors(key_of(ti), tasks - {ti.task_id}, on_tick)

    @property
    def _stands_for(self) -> tuple[str, ...]:
        """The nodes whose task this is: of an isolated node; none for a producer."""
        return () if self.part is None else self.part.stands_for

    def _end(self, context: Context, ending: Ending, result: Any) -> Any:
        """
        End the task as dbt has ended, and that of an isolated node as the node has.

        :param result: what the operator itself returns
        :raises Exception: the failure, unless it is one of tests only that have tasks of their own
        """
        if self._stands_for:
            result = end_of_node(context, ending, self._stands_for, self.on_warning)
        elif ending.is_bad:
            raise ending.failure from None
        if context["ti"].try_number > 1:
            self._raise_if_outdated(context["ti"], ending.entries)
        # A sensor that has built its nodes alone tells of them itself.
        if self.assets is not None and not self.is_lone(context["ti"]):
            attempt = context["ti"].try_number
            report_builds(context, self.assets, ending.entries.values(), attempt, self.watched)
        return result

    def _raise_if_outdated(self, task_instance: Any, entries: Mapping[str, NodeResult]) -> None:
        """
        See to it that the task is not green over sensors that show something else than what dbt has done now.

        :raises AirflowFailException: naming them; another attempt would change nothing
        """
        states = patiently(lambda: read_states_now(key_of(task_instance), self.watched))
        tasks = outdated_tasks(self.watched, states, Closed(0), entries)
        if tasks:
            raise AirflowFailException(
                f"dbt ended well, but {named(tasks)} had ended before and show something else. Clear them together with"
                f" {self.task_id}"
            )

    # What there is to build, and what is known of it.

    def is_lone(self, task_instance: Any) -> bool:
        """Return whether the task that runs this is a sensor, which builds its own nodes alone."""
        return bool(task_instance.task_id != self.task_id)

    def _may_defer(self, task_instance: Any) -> bool:
        """Return whether a trigger is to follow dbt; say how the sensors start."""
        # A sensor that was cleared alone waits for its own build itself, as everything does in `dag.test()`.
        stays = self.is_lone(task_instance) or runs_in_dag_test()
        if self.sensors_told and not stays:
            self.log.info("%s", self.sensors_told)
        return self.deferrable and not stays and has_place(task_instance, len(self.watched), self.log)

    def _wanted_now(self, context: Context, attempt: Attempt) -> Wanted:
        """Return what is wanted of an attempt."""
        ti = context["ti"]
        build = self._build_now(context)
        if ti.max_tries:
            build = attempt.memory.options_of_first_attempt(build)
        narrow = narrowed(
            self._compared(ti, build),
            self.selected,
            self.selection,
            build,
            attempt=attempt.number,
            on_unmatched=lambda found: self.log.warning("%s", complaint(self.graph, found)),
        )
        if not narrow.nodes:
            self.log.info("Nothing is to be built: %s", narrow.left_out[0].message if narrow.left_out else "")
            attempt.wanted = frozenset()
            own = self.selected if self.part is None else self.part.nodes
            return Wanted(build, None, tuple(entry for entry in narrow.left_out if entry.unique_id in own))
        attempt.left_to_dbt = narrow.left_to_dbt
        whole: AttemptPlan[Any] = AttemptPlan(narrow.nodes, narrow.selection)
        left_out = narrow.left_out
        if self.part is not None:
            attempt.held = self._held_back(ti, self.part, narrow.nodes & self.part.nodes)
            ours = [entry for entry in left_out if entry.unique_id in self.part.nodes]
            left_out = (*ours, *attempt.held.entries)
            nodes = (narrow.nodes & self.part.nodes) - attempt.held.nodes
            if nodes.isdisjoint({node for task_nodes in self.watched.values() for node in task_nodes}):
                attempt.wanted = frozenset()
                return Wanted(build, None, left_out)
            whole = AttemptPlan(nodes, selection_of_part(self.graph, self.selection, self.selected, nodes))
        attempt.wanted = whole.nodes
        return Wanted(build, whole, left_out)

    def _build_now(self, context: Context) -> Mapping[str, Any]:
        """Return the options of dbt for this run of the DAG."""
        if EVENT_TIME not in self.build:
            return self.build
        build = resolved(self.build, RunDates.of(context["dag_run"]))
        start, end = (build.get(f"event_time_{name}") for name in ("start", "end"))
        if start is None:
            self.log.info("This run has no data interval: dbt itself says which batches it builds")
        else:
            self.log.info("Microbatch models are built from %s to %s", start, end)
        return build

    def _held_back(self, task_instance: Any, part: Part, nodes: Collection[str]) -> HeldBack:
        return held_back_of(task_instance, part, nodes, self.graph, on_stale=self.on_stale)

    def _watch_build(self, attempt: Attempt, nodes: frozenset[str], done: Iterable[NodeResult]) -> None:
        """
        Have an attempt watch a build.

        :param nodes: what is built
        :param done: what is known of others, for the journal to tell
        """
        attempt.nodes = nodes
        attempt.lineage_plan = lineage_plan(self.lineage, attempt.context, nodes)
        if attempt.lineage_plan is not None:
            attempt.lineage = BuildLineage(attempt.lineage_plan, is_worker=True)
        attempt.watch = self._watch_of(nodes, attempt)
        attempt.watch.adopt(done)
        self._tell_outline(attempt)

    def _tell_outline(self, attempt: Attempt) -> None:
        """Tell what is built, unless the task is a sensor, whose producer has done so."""
        if not self.is_lone(attempt.task_instance):
            shown = self._wanted(attempt).union(*self.watched.values())
            described = columns_at(self.manifest)
            attempt.notes.outline(
                outline_of(self.graph, shown, self.watched, self.project_group),
                {node: columns for node, columns in described.items() if node in shown},
                attempt.memory.tries if attempt.number > 1 else (),
            )

    def _close(self, attempt: Attempt, reason: str) -> None:
        """End the journal of an attempt in which dbt has not come to its end."""
        if attempt.watch is None:
            attempt.watch = self._watch_of(self._wanted(attempt), attempt)
        attempt.close(None, reason)

    def _watch_of(self, nodes: Collection[str], attempt: Attempt) -> BuildWatch:
        return BuildWatch(
            selected_nodes(self.graph, nodes),
            attempt=attempt.number,
            show=lambda line: self.log.info("%s", line),
            writer=attempt.writer,
            redact=redact,
            stale=self._stale(nodes, attempt),
            drift=self._drift(nodes, attempt),
            held=attempt.held,
            warn=lambda line: self.log.warning("%s", line),
            # An isolated node may have been built though a test of it has failed, and a sensor says all of its node itself.
            fail=_say_nothing
            if self._stands_for or self.is_lone(attempt.task_instance)
            else lambda line: self._say_why([line]),
            listener=attempt.lineage,
        )

    def _trigger_arguments(
        self, context: Context, attempt: Attempt, nodes: Collection[str]
    ) -> dict[str, Any]:
        """Return what a `DbtTrigger` needs that goes on with an attempt."""
        limit = self.execution_timeout
        # When a deferral is resumed only to defer once more, there was no build to watch here.
        plan = lineage_plan(self.lineage, context, nodes) if attempt.watch is None else attempt.lineage_plan
        return {
            "nodes": pack(
                selected_nodes(self.graph, nodes),
                self._stale(nodes, attempt),
                self._drift(nodes, attempt),
                attempt.held,
            ),
            "attempt": attempt.number,
            "will_retry": attempt.will_retry,
            "began": attempt.began,
            "deadline": None
            if limit is None
            else context["ti"].start_date.timestamp() + limit.total_seconds(),
            "secrets": self._secrets,
            "lineage": packed_plan(plan),
            "group": self.project_group,
        }

    def _stale(self, nodes: Collection[str], attempt: Attempt) -> StaleSources:
        return StaleSources(readers_of(self.graph, nodes), self.on_stale, attempt.left_to_dbt)

    def _wanted(self, attempt: Attempt) -> frozenset[str]:
        """Return the nodes that are wanted of an attempt: all of the part, unless it was narrowed when it ran."""
        everything = self.selected if self.part is None else self.part.nodes
        return everything if attempt.wanted is None else attempt.wanted

    def _drift(self, nodes: Collection[str], attempt: Attempt) -> Drift:
        all_nodes = self._wanted(attempt).union(*self.watched.values())
        return Drift(tuple(sorted(all_nodes.difference(nodes))), self.on_drift)


def _say_nothing(line: str) -> None:
    del line
