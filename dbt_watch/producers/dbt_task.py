"""
What any task does that runs dbt, wherever dbt runs: one attempt, from its journal's first word to the end of the task.

`DbtTaskMixin` goes in front of an operator. `producers.pods.operator` and `producers.api.operator` say how dbt is reached: in a pod,
and by a server. It knows neither Kubernetes nor HTTP. `producers.wanted` knows what there is to build, `producers.described_build` how
whoever follows dbt is told of it, and `producers.task_end` how the task ends.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout

from dbt_watch.airflow.supervisor import runs_in_dag_test
from dbt_watch.core.journal.format import Closed
from dbt_watch.exceptions import ProjectIsBusy
from dbt_watch.producers.build_scope import BuildScope
from dbt_watch.producers.described_build import tell_outline, trigger_arguments, watch_of
from dbt_watch.producers.kept_files import KeptFilesMixin
from dbt_watch.producers.lineage import BuildLineage, lineage_plan
from dbt_watch.producers.secrets import hide, secrets_in
from dbt_watch.producers.task_end import TaskEnd
from dbt_watch.producers.triggerer_capacity import has_place
from dbt_watch.producers.upstreams import raise_if_missing
from dbt_watch.producers.wanted import options_now, wanted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from dbt_watch.core.artifacts import Artifacts
    from dbt_watch.core.assets import TrackedAssets
    from dbt_watch.core.command import Selection
    from dbt_watch.core.log.drift import OnDrift
    from dbt_watch.core.log.enclosed_files import EnclosedFiles
    from dbt_watch.core.log.stale_sources import OnStale
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.manifest.node_meta import NodeSettings
    from dbt_watch.core.part import Part
    from dbt_watch.core.results import NodeResult
    from dbt_watch.lineage.settings import LineageSource
    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.build_watch import BuildWatch
    from dbt_watch.producers.wanted import Wanted


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
            if attempt.watch is not None:
                self._task_end(context).after_failure(attempt, attempt.watch, error)
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
            self._keep_files(context, attempt.closed, attempt.watch.files)
        return self._task_end(context).as_seen(attempt, attempt.watch, result)

    def _ended_as_told(
        self, context: Context, told: Mapping[str, Any], result: Any, files: EnclosedFiles | None = None
    ) -> Any:
        """
        End the task as a trigger has found.

        :param told: what the event holds under the key `END`
        :param result: what the operator itself returns
        :param files: what the container has put into its log
        """
        if files is not None:
            self._keep_files(context, Closed(told["exit_code"], told["reason"]), files)
        return self._task_end(context).as_told(told, result, self.attempt_class.lost)

    def _task_end(self, context: Context) -> TaskEnd:
        """Return how the task ends that runs here."""
        # A sensor that has built its nodes alone tells of them itself.
        tells = self.assets is not None and not self.is_lone(context["ti"])
        return TaskEnd(
            context,
            self._scope,
            producer=self.task_id,
            log=self.log,
            on_warning=self.on_warning,
            assets=self.assets if tells else None,
        )

    # What there is to build, and what is known of it.

    @property
    def _scope(self) -> BuildScope:
        """What it builds, as that stands now."""
        return BuildScope(
            graph=self.graph,
            selection=self.selection,
            selected=self.selected,
            watched=self.watched,
            part=self.part,
            on_stale=self.on_stale,
            on_drift=self.on_drift,
        )

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
        build = options_now(self.build, context, attempt, self.log)
        compared = self._compared(ti, build)
        return wanted_of(attempt, ti, self._scope, build, compared=compared, log=self.log)

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
            tell_outline(attempt, self._scope, manifest=self.manifest, group=self.project_group)

    def _close(self, attempt: Attempt, reason: str) -> None:
        """End the journal of an attempt in which dbt has not come to its end."""
        if attempt.watch is None:
            attempt.watch = self._watch_of(self._scope.wanted(attempt), attempt)
        attempt.close(None, reason)

    def _watch_of(self, nodes: Collection[str], attempt: Attempt) -> BuildWatch:
        # An isolated node may have been built though a test of it has failed, and a sensor says all of its node itself.
        is_silent = bool(self._scope.stands_for) or self.is_lone(attempt.task_instance)
        return watch_of(attempt, self._scope, nodes, self.log, tells_failures=not is_silent)

    def _trigger_arguments(
        self, context: Context, attempt: Attempt, nodes: Collection[str]
    ) -> dict[str, Any]:
        """Return what a `DbtTrigger` needs that goes on with an attempt."""
        # When a deferral is resumed only to defer once more, there was no build to watch here.
        plan = lineage_plan(self.lineage, context, nodes) if attempt.watch is None else attempt.lineage_plan
        return {
            **trigger_arguments(attempt, self._scope, nodes, lineage=plan, limit=self.execution_timeout),
            "secrets": self._secrets,
            "group": self.project_group,
        }
