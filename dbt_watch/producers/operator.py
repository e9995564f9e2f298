"""
The task that runs a whole dbt project in one pod.

`DbtPodMixin` goes in front of KubernetesPodOperator or a subclass of it; `producer_class` makes the combination.
The operator's own way of starting, awaiting and cleaning up a pod stays as it is: what is replaced is the reading of
the log, and what is added is the journal, and care that dbt never runs twice.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk import get_current_context
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from dbt_watch.airflow.compat import AirflowFailException
from dbt_watch.airflow.operator_refusals import refusals_named
from dbt_watch.airflow.pod_operator import (
    InsideExecute,
    KubernetesPodOperator,
    PodOperatorMixin,
    template_fields_of,
)
from dbt_watch.airflow.pod_trigger import serialized
from dbt_watch.airflow.secrets import redact
from dbt_watch.airflow.supervisor import patiently, read_states_now, runs_in_dag_test
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.command import Selection, dbt_arguments, environment
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.drift import Drift, OnDrift
from dbt_watch.core.log.stale_sources import OnStale, StaleSources
from dbt_watch.core.resume import outdated_tasks, remaining_nodes, selection_of_part
from dbt_watch.core.selection.near import complaint
from dbt_watch.core.selection.run_time import narrowed
from dbt_watch.core.selection.source_freshness import readers_of
from dbt_watch.core.verbatim import verbatim
from dbt_watch.exceptions import ArgumentError, DbtWatchError, ProjectIsBusy
from dbt_watch.producers.attempt import Attempt, failure_of
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.ending import Ending, end_of_node
from dbt_watch.producers.failure_reasons import broken_off, words_of
from dbt_watch.producers.journal_store import stored_journal
from dbt_watch.producers.log_reader import Position, container_end, has_started
from dbt_watch.producers.pod_manager import WatchingPodManager
from dbt_watch.producers.pre_stop import interrupt_before_stop
from dbt_watch.producers.project_pods import ProjectPods
from dbt_watch.producers.retry_plan import AttemptPlan, RetryPlanner, named
from dbt_watch.producers.retry_state import Memory
from dbt_watch.producers.secrets import hide, secrets_in
from dbt_watch.producers.trigger import END, DbtPodTrigger, pack
from dbt_watch.producers.triggerer_capacity import has_place
from dbt_watch.producers.upstreams import held_back_of, raise_if_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from dbt_watch.airflow.pod_operator import PodManager
    from dbt_watch.core.held_back import HeldBack
    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.core.part import Part
    from dbt_watch.core.results import NodeResult


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    What an attempt has been prepared to do.

    :param nodes: the nodes that it builds; none when there is nothing left to do
    :param done: those that it does not: what is known of them, for the journal to tell
    :param request: the pod to make
    :param pod: the pod of an earlier attempt to follow instead
    :param arguments: the command line of dbt
    :param deferrable: whether a trigger follows the pod
    """

    nodes: frozenset[str] = frozenset()
    done: tuple[NodeResult, ...] = ()
    request: k8s.V1Pod | None = None
    pod: k8s.V1Pod | None = None
    arguments: list[str] = field(default_factory=list)
    deferrable: bool = False


class DbtPodMixin(PodOperatorMixin):
    """
    Runs `dbt build`, `dbt source freshness`, or both in the base container of a KubernetesPodOperator.

    :param build: the options of `dbt_build(...)`, with templates and XComArgs
    :param selection: the nodes to build, and the sources to check
    :param graph: the project
    :param selected: the unique_ids of both
    :param on_stale: what becomes of nodes that read from a stale source
    :param on_drift: what becomes of an attempt in which dbt ran another project than the manifest's
    :param watched: the unique_ids that each sensor stands for, by its task id
    :param sensors_told: what the log says of how the sensors start
    :param on_warning: called with the context when the isolated node that it builds ended with a warning
    :param project_dir: the directory of `dbt_project.yml` in the image
    :param profiles_dir: the directory of `profiles.yml` in the image

    What `rendering.pod_tasks` sets as well, since it may change while a DAG file is parsed:

    :ivar part: what it builds of a project that is split; None where it builds all of it
    :ivar needs: the ids of the tasks whose values dbt is called with, and which must have ended well
    :ivar check: raises when the project would be split in another way now that the whole DAG file has been read
    """

    shallow_copy_attrs = ("check", "graph", "part")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **getattr(KubernetesPodOperator, "template_fields_renderers", {}),
        "build": "json",
    }
    ui_color = "#ff694a"

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
        profiles_dir: str | None = None,
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
        self.profiles_dir = profiles_dir
        self.part: Part | None = None
        self.needs: frozenset[str] = frozenset()
        self.check: Callable[[], None] | None = None
        self._attempt: Attempt | None = None
        self._position = Position()
        self._secrets: list[str] = []

    @property
    def watch(self) -> BuildWatch | None:
        """What has been seen of the build; None before it begins."""
        return None if self._attempt is None else self._attempt.watch

    # What the operator below calls.

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render as usual, and have Airflow mask what is secret among the variables of dbt and of the container."""
        super().render_template_fields(context, jinja_env)  # type: ignore[misc]
        env_vars = {item.name: item.value for item in self.env_vars or () if isinstance(item, k8s.V1EnvVar)}
        self._secrets = secrets_in({**env_vars, "vars": self.build.get("vars")})
        hide(self._secrets)

    def make_pod_manager(self) -> PodManager:
        """Return a pod manager that reads for the journal while dbt runs."""
        if self._attempt is None:
            return super().make_pod_manager()
        return WatchingPodManager(self, attempt=self._attempt, position=self._position)

    def build_pod_request_obj(self, context: Context | None = None, **kwargs: Any) -> k8s.V1Pod:
        """Make the pod as usual, and see to it that a SIGTERM reaches dbt as SIGINT."""
        pod: k8s.V1Pod = super().build_pod_request_obj(context, **kwargs)
        interrupt_before_stop(self._base_container(pod))
        if context is not None:
            ProjectPods(self, context["ti"]).mark(pod)
        return pod

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        """
        Make the pod as usual; for a sensor, find out once more whether dbt runs elsewhere.

        :raises ProjectIsBusy: if so; the pod is deleted
        """
        pod: k8s.V1Pod = super().get_or_create_pod(pod_request_obj, context)  # type: ignore[misc]
        project = ProjectPods(self, context["ti"])
        if project.is_lone:
            project.give_way(pod)
        return pod

    def cleanup(self, *args: Any, **kwargs: Any) -> None:
        """Clean up as usual, unless the pod is another's now, which learns from it how dbt has ended."""
        attempt = self._attempt
        error = sys.exc_info()[1]
        if attempt is not None and (attempt.is_orphaned or attempt.may_be_superseded):
            self.leave_pod()
        elif isinstance(error, AirflowTaskTimeout):
            # The operator would leave a pod running that it is to keep.
            self.kill_pod()
        try:
            super().cleanup(*args, **kwargs)  # type: ignore[misc]
        except AirflowSkipException:
            raise
        except AirflowException:
            # That the pod has failed, which follows from what went wrong before.
            if error is None:
                raise

    def on_kill(self) -> None:
        """Stop dbt, unless it is only this worker that has to go, and another attempt takes over."""
        attempt = self._attempt
        is_timeout = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
        if attempt is None or is_timeout or not (self.reattach_on_restart and attempt.will_retry):
            self.kill_pod()
        else:
            attempt.signal.receive()

    def defer(
        self,
        *,
        trigger: BaseTrigger,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: Any = None,
    ) -> None:
        """Defer to a trigger that follows the log, with the operator's own inside."""
        context = get_current_context()
        ti = context["ti"]
        attempt = self._attempt or Attempt(context, self.kill_pod)
        if self._attempt is not None:
            attempt.hand_over()
        # When a deferral is resumed only to defer once more, what this attempt builds is not known here any more.
        if self._attempt is None and self.part is not None:
            attempt.held = self._held_back(ti, self.part, self.part.nodes)
        nodes = attempt.nodes or remaining_nodes(
            self._wanted(attempt), self.watched, read_states_now(key_of(ti), self.watched)
        )
        limit = self.execution_timeout
        ours = DbtPodTrigger(
            inner=serialized(trigger, self),
            nodes=pack(self._nodes(nodes), self._stale(nodes), self._drift(nodes, attempt), attempt.held),
            attempt=attempt.number,
            will_retry=attempt.will_retry,
            began=attempt.began,
            deadline=None if limit is None else ti.start_date.timestamp() + limit.total_seconds(),
            secrets=self._secrets,
        )
        super().defer(trigger=ours, method_name=method_name, kwargs=kwargs, timeout=timeout)  # type: ignore[misc]

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """
        End as the trigger has found, after a deferral.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod did not run dbt, or went away before dbt was done
        """
        told = event.get(END)
        if told is not None:
            Memory(context).remember_end(well=told["exit_code"] == 0)
        try:
            result = super().trigger_reentry(context, event)  # type: ignore[misc]
        except AirflowSkipException:
            raise
        except Exception:
            if told is None or told["exit_code"] == 0:
                raise
            result = None
        ti = context["ti"]
        if told is None:
            return result
        closed = Closed(told["exit_code"], told["reason"])
        is_asked = bool(self._stands_for) or (closed.exit_code == 0 and ti.try_number > 1)
        ending = Ending(
            closed=closed,
            error=failure_of(closed.exit_code, closed.reason, told["summary"]),
            entries=patiently(lambda: stored_journal(key_of(ti))).entries if is_asked else {},
            was_held_back=told.get("was_held_back", False),
        )
        return self._end(context, ending, result)

    # One attempt.

    def execute(self, context: Context) -> Any:
        """
        Run dbt once, and the journal with it.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod did not run dbt, or went away before dbt was done
        """
        attempt = self._attempt = Attempt(context, self.kill_pod)
        # Before anything that takes time: readers look for it.
        attempt.open()
        try:
            if self.check is not None:
                self.check()
            raise_if_missing(context["ti"], self.needs)
            result = super().execute(context)  # type: ignore[misc]
        except (AirflowSkipException, ProjectIsBusy):
            raise
        except Exception as error:
            if attempt.closed is None:  # the operator did not come to `execute_inside`
                self._close(attempt, broken_off(words_of(error), None, self.base_container_name))
            raise
        if attempt.watch is None:
            why = "the `execute` of the operator has ended without KubernetesPodOperator's"
            self._close(attempt, why)
            raise DbtWatchError(why)
        return result

    def execute_inside(self, context: Context, execute: Callable[[Context], Any]) -> Any:
        """Run dbt, with the cluster within reach; see `execute`."""
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - `execute` has made it
        result = None
        try:
            prepared = self._prepare(context, attempt)
            self._begin(prepared, attempt)
            if prepared.request is None:
                attempt.close(0)
            else:
                result = execute(context)
        except AirflowTaskTimeout:
            self.kill_pod()
            self._close(
                attempt, f"the task took longer than its execution_timeout of {self.execution_timeout}"
            )
            raise
        except (AirflowSkipException, ProjectIsBusy):
            raise
        except Exception as error:
            seen = attempt.pod, self.base_container_name, self._events(attempt)
            self._close(attempt, broken_off(words_of(error), *seen))
            if not self._is_told_by(attempt, error):
                raise
        if attempt.closed is None or attempt.watch is None:
            return result  # deferred, or in a pod that is left to another attempt
        ending = Ending(
            closed=attempt.closed,
            error=attempt.failure(),
            entries={entry.unique_id: entry for entry in attempt.watch.results},
            was_held_back=attempt.watch.was_held_back,
        )
        return self._end(context, ending, result)

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

    def _events(self, attempt: Attempt) -> Sequence[k8s.CoreV1Event]:
        """Return what happened to a pod, for one that has not run dbt; nothing where that cannot be read."""
        if attempt.pod is None or has_started(attempt.pod, self.base_container_name):
            return ()
        try:
            return self.pod_manager.read_pod_events(attempt.pod).items or ()
        except Exception as error:  # noqa: BLE001 - the pod's own status may say enough
            self.log.info("The events of the pod cannot be read: %s", words_of(error))
            return ()

    @staticmethod
    def _is_told_by(attempt: Attempt, error: Exception) -> bool:
        """Whether the end of the attempt says all that an error does: one of the operator, or of the cluster's answer."""
        closed = attempt.closed
        if isinstance(error, (DbtWatchError, AirflowFailException)) or (closed and closed.exit_code == 0):
            return False
        return attempt.end is not None or isinstance(error, (AirflowException, ApiException, HTTPError))

    def _prepare(self, context: Context, attempt: Attempt) -> Prepared:
        """Decide what is to be built, and in which pod."""
        ti = context["ti"]
        project = ProjectPods(self, ti)
        # A sensor that was cleared alone waits for its own pod itself, as everything does in `dag.test()`.
        stays = project.is_lone or runs_in_dag_test()
        if self.sensors_told and not stays:
            self.log.info("%s", self.sensors_told)
        deferrable = self.deferrable and not stays and has_place(ti, len(self.watched), self.log)
        request = self.request_pod(context)
        build = attempt.memory.options_of_first_attempt(self.build) if ti.max_tries else self.build
        narrow = narrowed(
            self.graph,
            self.selected,
            self.selection,
            build,
            attempt=attempt.number,
            on_unmatched=lambda found: self.log.warning("%s", complaint(self.graph, found)),
        )
        whole, left_out = AttemptPlan(narrow.nodes, narrow.selection), narrow.left_out
        if self.part is not None:
            attempt.held = self._held_back(ti, self.part, narrow.nodes & self.part.nodes)
            ours = [entry for entry in left_out if entry.unique_id in self.part.nodes]
            left_out = (*ours, *attempt.held.entries)
            nodes = (narrow.nodes & self.part.nodes) - attempt.held.nodes
            if nodes.isdisjoint({node for task_nodes in self.watched.values() for node in task_nodes}):
                attempt.wanted = frozenset()
                if ti.try_number > 1:
                    RetryPlanner(self, context, attempt, whole).stop_all(request.metadata.namespace)
                return Prepared(done=left_out)
            whole = AttemptPlan(nodes, selection_of_part(self.graph, self.selection, self.selected, nodes))
        attempt.wanted = whole.nodes
        project.await_others(request.metadata.namespace, attempt.tick)
        plan: AttemptPlan | None = whole
        if ti.try_number > 1 or project.is_lone:
            plan = RetryPlanner(self, context, attempt, whole).plan(request.metadata.namespace)
        if self.has_left_pod:
            raise DbtWatchError("the task was stopped before there was a pod")
        if plan is None:
            return Prepared(done=left_out)
        # Of a pod in which dbt has ended there is a log to be read, but nothing to wait for.
        has_ended = plan.pod is not None and container_end(plan.pod, self.base_container_name) is not None
        return Prepared(
            nodes=plan.nodes,
            done=(*left_out, *plan.adopted),
            request=request,
            pod=plan.pod,
            arguments=self._command(request, build, plan.selection),
            deferrable=deferrable and not has_ended,
        )

    def _held_back(self, task_instance: Any, part: Part, nodes: Collection[str]) -> HeldBack:
        return held_back_of(task_instance, part, nodes, self.graph, on_stale=self.on_stale)

    def _command(self, request: k8s.V1Pod, build: Mapping[str, Any], selection: Selection) -> list[str]:
        """Have the base container of a pod call dbt; return dbt's command line."""
        command = dbt_arguments(
            build, selection, project_dir=self.project_dir, profiles_dir=self.profiles_dir
        )
        arguments = [verbatim(argument) for argument in command]
        variables = environment(build)
        container = self._base_container(request)
        container.args = arguments
        container.env = [
            *(item for item in container.env or () if item.name not in variables),
            *(k8s.V1EnvVar(name, verbatim(value)) for name, value in variables.items()),
        ]
        return arguments

    def _begin(self, prepared: Prepared, attempt: Attempt) -> None:
        """Let the operator, and those who watch it, do what has been prepared."""
        attempt.nodes = prepared.nodes
        attempt.watch = self._watch_of(prepared.nodes, attempt)
        attempt.watch.adopt(prepared.done)
        if prepared.request is None:
            return
        self.start_with(
            prepared.request,
            pod=prepared.pod,
            arguments=prepared.arguments,
            deferrable=prepared.deferrable,
        )

    def _close(self, attempt: Attempt, reason: str) -> None:
        """End the journal of an attempt in which dbt has not come to its end."""
        if attempt.watch is None:
            attempt.watch = self._watch_of(self._wanted(attempt), attempt)
        attempt.close(None, reason)

    def _watch_of(self, nodes: Collection[str], attempt: Attempt) -> BuildWatch:
        return BuildWatch(
            self._nodes(nodes),
            attempt=attempt.number,
            show=lambda line: self.log.info("%s", line),
            writer=attempt.writer,
            redact=redact,
            stale=self._stale(nodes),
            drift=self._drift(nodes, attempt),
            held=attempt.held,
            warn=lambda line: self.log.warning("%s", line),
        )

    def _nodes(self, nodes: Iterable[str]) -> dict[str, Node]:
        return {unique_id: self.graph.nodes[unique_id] for unique_id in nodes}

    def _stale(self, nodes: Collection[str]) -> StaleSources:
        return StaleSources(readers_of(self.graph, nodes), self.on_stale)

    def _wanted(self, attempt: Attempt) -> frozenset[str]:
        """Return the nodes that are wanted of an attempt: all of the part, unless it was narrowed when it ran."""
        everything = self.selected if self.part is None else self.part.nodes
        return everything if attempt.wanted is None else attempt.wanted

    def _drift(self, nodes: Collection[str], attempt: Attempt) -> Drift:
        all_nodes = self._wanted(attempt).union(*self.watched.values())
        return Drift(tuple(sorted(all_nodes.difference(nodes))), self.on_drift)

    def _base_container(self, pod: k8s.V1Pod) -> k8s.V1Container:
        return next(item for item in pod.spec.containers if item.name == self.base_container_name)


@cache
def producer_class(operator_class: type[Any] = KubernetesPodOperator) -> type[Any]:
    """
    Return the class of the task that runs dbt.

    :param operator_class: KubernetesPodOperator or a subclass of it, such as GKEStartPodOperator
    :raises ArgumentError: when it is no subclass of KubernetesPodOperator
    """
    if not (isinstance(operator_class, type) and issubclass(operator_class, KubernetesPodOperator)):
        raise ArgumentError("operator_class", operator_class, "KubernetesPodOperator or a subclass of it")

    # Behind a subclass stands what its `execute` comes to; KubernetesPodOperator itself has nothing to do before.
    bases = () if operator_class is KubernetesPodOperator else (operator_class,)

    class DbtProducer(DbtPodMixin, *bases, InsideExecute):  # type: ignore[misc] # known at run time only
        """Runs a dbt project in a pod. Airflow prepares only what a class made of an operator defines itself."""

        template_fields = template_fields_of(operator_class, "build")

        def __init__(self, **kwargs: Any) -> None:
            with refusals_named(operator_class, kwargs):
                super().__init__(**kwargs)

        def execute(self, context: Context) -> Any:
            return super().execute(context)

    DbtProducer.__name__ = DbtProducer.__qualname__ = f"Dbt{operator_class.__name__}"
    return DbtProducer
