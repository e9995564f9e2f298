"""
The task that runs a whole dbt project in one pod.

`DbtPodMixin` goes in front of KubernetesPodOperator or a subclass of it; `producer_class` makes the combination.
The operator's own way of starting, awaiting and cleaning up a pod stays as it is: what is replaced is the reading of
the log, and what is added is the journal, and care that dbt never runs twice.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

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
from dbt_watch.airflow.supervisor import read_states_now
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.command import dbt_arguments, environment
from dbt_watch.core.log.enclosed_files import EnclosedFiles
from dbt_watch.core.resume import remaining_nodes
from dbt_watch.core.selection.left_to_dbt import is_left_to_dbt
from dbt_watch.core.verbatim import verbatim
from dbt_watch.exceptions import ArgumentError, DbtWatchError
from dbt_watch.producers.dbt_task import DbtTaskMixin
from dbt_watch.producers.dbt_trigger import END
from dbt_watch.producers.pods.attempt import PodAttempt
from dbt_watch.producers.pods.container_end import container_end, has_started
from dbt_watch.producers.pods.earlier_pods import PodsOfAttempts
from dbt_watch.producers.pods.failure_reasons import broken_off, words_of
from dbt_watch.producers.pods.files_again import FILE_TAIL, MAX_TAIL, read_files
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.pod_manager import WatchingPodManager
from dbt_watch.producers.pods.pod_profile import PodProfile
from dbt_watch.producers.pods.pre_stop import interrupt_before_stop
from dbt_watch.producers.pods.project_pods import ProjectPods
from dbt_watch.producers.pods.trigger import DbtPodTrigger
from dbt_watch.producers.retry_plan import RetryPlanner
from dbt_watch.producers.retry_state import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from dbt_watch.airflow.pod_operator import PodManager
    from dbt_watch.core.command import Selection
    from dbt_watch.core.manifest.node_meta import NodeSettings
    from dbt_watch.core.results import NodeResult
    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.retry_plan import AttemptPlan
    from dbt_watch.profiles.dbt_profile import DbtProfile


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


_DEFER: Final = "--defer"


class DbtPodMixin(DbtTaskMixin, PodOperatorMixin):
    """
    Runs dbt in the base container of a KubernetesPodOperator; see `DbtTaskMixin`.

    :param profiles_dir: the directory of `profiles.yml` in the image
    :param profile: what `profiles.yml` is made of instead
    """

    template_fields_renderers: ClassVar[dict[str, str]] = {
        **getattr(KubernetesPodOperator, "template_fields_renderers", {}),
        "build": "json",
    }
    attempt_class = PodAttempt

    if TYPE_CHECKING:
        deferrable: bool

    def __init__(
        self, *, profiles_dir: str | None = None, profile: DbtProfile | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.profiles_dir = profiles_dir
        self.profile = profile
        self._position = Position()
        self._files: EnclosedFiles | None = None
        self._tail = 0

    # What `DbtTaskMixin` asks.

    def stop_dbt(self) -> None:
        """Do with the pod what `on_kill_action` says."""
        self.kill_pod()

    @property
    def takes_over(self) -> bool:
        """Whether another attempt may follow the pod that this one leaves."""
        return self.reattach_on_restart

    def values_by_name(self) -> dict[str, Any]:
        """Return the variables of the container and of dbt."""
        env_vars = {item.name: item.value for item in self.env_vars or () if isinstance(item, k8s.V1EnvVar)}
        return {**env_vars, **super().values_by_name()}

    def suit(self, settings: Iterable[NodeSettings]) -> None:
        """Let the pod be as some nodes want it."""
        wanted = list(settings)
        image = next((each.image for each in wanted if each.image), None)
        resources = next((each.resources for each in wanted if each.resources), None)
        if image is not None:
            self.image = image
        if resources is not None:
            amounts = {kind: dict(amount) for kind, amount in resources.items()}
            self.container_resources = k8s.V1ResourceRequirements(**amounts)

    # What the operator below calls.

    def make_pod_manager(self) -> PodManager:
        """Return a pod manager that reads for the journal while dbt runs."""
        if self._attempt is None:
            return super().make_pod_manager()
        return WatchingPodManager(self, attempt=cast("PodAttempt", self._attempt), position=self._position)

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

    def trigger_around(self, trigger: BaseTrigger) -> BaseTrigger:
        """Return a trigger that follows the log."""
        context = get_current_context()
        ti = context["ti"]
        attempt = self._attempt or PodAttempt(context, self.kill_pod)
        if self._attempt is not None:
            attempt.hand_over()
        elif self.profile is not None:
            self._hide_profile(PodProfile(self, context, ""), self.build)
        # When a deferral is resumed only to defer once more, what this attempt builds is not known here any more.
        if self._attempt is None and self.part is not None:
            attempt.held = self._scope.held_back(ti, self.part, self.part.nodes)
        nodes = attempt.nodes or remaining_nodes(
            self._scope.wanted(attempt), self.watched, read_states_now(key_of(ti), self.watched)
        )
        return DbtPodTrigger(
            inner=serialized(trigger, self), **self._trigger_arguments(context, attempt, nodes)
        )

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """
        End as the trigger has found, after a deferral.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod did not run dbt, or went away before dbt was done
        """
        told = event.get(END)
        if told is not None:
            self._tail = told.get(FILE_TAIL, MAX_TAIL)
            self._files = EnclosedFiles()
            Memory(context).remember_end(well=told["exit_code"] == 0)
            self._task_end(context).say_at_once(told)
        try:
            result = super().trigger_reentry(context, event)  # type: ignore[misc]
        except AirflowSkipException:
            raise
        except Exception:
            if told is None or told["exit_code"] == 0:
                raise
            result = None
        return result if told is None else self._ended_as_told(context, told, result, self._files)

    def after_deferral(self, pod: k8s.V1Pod) -> None:
        """Read the files at the end of the log once more, which the trigger has only counted."""
        if self.artifacts is not None and self._tail:
            self._files = read_files(self.client, pod, self.base_container_name, self._tail)

    # One attempt.

    def execute(self, context: Context) -> Any:
        """
        Run dbt once, and the journal with it.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod did not run dbt, or went away before dbt was done
        """
        attempt = self._attempt = self.attempt_class(context, self.kill_pod)
        run = functools.partial(super().execute, context)  # type: ignore[misc]
        result = self._attempted(context, attempt, run)
        if attempt.watch is None:
            name = type(self).__name__
            why = f"the `execute` of {name} did not call the execute of KubernetesPodOperator"
            self._close(attempt, why)
            raise DbtWatchError(why)
        return result

    def execute_inside(self, context: Context, execute: Callable[[Context], Any]) -> Any:
        """Run dbt, with the cluster within reach; see `execute`."""
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - `execute` has made it

        def run() -> Any:
            prepared = self._prepare(context, attempt)
            self._begin(prepared, attempt)
            if prepared.request is None:
                attempt.close(0)
                return None
            return execute(context)

        return self._built(context, attempt, run)

    def _explain(self, attempt: Attempt, error: Exception) -> str:
        """Return in one line what kept the pod from running dbt to its end."""
        pod = cast("PodAttempt", attempt).pod
        return broken_off(words_of(error), pod, self.base_container_name, self._events(pod))

    def _events(self, pod: k8s.V1Pod | None) -> Sequence[k8s.CoreV1Event]:
        """Return what happened to a pod, for one that has not run dbt; nothing where that cannot be read."""
        if pod is None or has_started(pod, self.base_container_name):
            return ()
        try:
            return self.pod_manager.read_pod_events(pod).items or ()
        except Exception as error:  # noqa: BLE001 - the pod's own status may say enough
            self.log.info("The events of the pod cannot be read: %s", words_of(error))
            return ()

    def _is_told_by(self, attempt: Attempt, error: Exception) -> bool:
        """Whether the end of the attempt says all that an error does: one of the operator, or of the cluster's answer."""
        closed = attempt.closed
        if isinstance(error, (DbtWatchError, AirflowFailException)) or (closed and closed.exit_code == 0):
            return False
        has_ended = cast("PodAttempt", attempt).end is not None
        return has_ended or isinstance(error, (AirflowException, ApiException, HTTPError))

    def _prepare(self, context: Context, attempt: Attempt) -> Prepared:
        """Decide what is to be built, and in which pod."""
        ti = context["ti"]
        project = ProjectPods(self, ti)
        deferrable = self._may_defer(ti)
        request = self.request_pod(context)
        wanted = self._wanted_now(context, attempt)
        namespace = request.metadata.namespace
        profile = None if self.profile is None else PodProfile(self, context, namespace)
        if wanted.whole is None:
            if ti.try_number > 1:
                PodsOfAttempts(self, context, attempt, namespace).clear_away(everything=True)
                if profile is not None:
                    profile.discard()
            return Prepared(done=wanted.left_out)
        project.await_others(namespace, attempt.tick)
        plan: AttemptPlan[k8s.V1Pod] | None = wanted.whole
        if ti.try_number > 1 or project.is_lone:
            if profile is not None:
                self._hide_profile(profile, wanted.build)  # the log of an earlier pod may be read
            earlier = PodsOfAttempts(self, context, attempt, namespace)
            plan = RetryPlanner(self, attempt, wanted.whole, earlier).plan()
        if self.has_left_pod:
            raise DbtWatchError("the task was stopped before its pod was created")
        if plan is None:
            if profile is not None:
                profile.discard()
            return Prepared(done=wanted.left_out)
        if profile is not None:
            self._prepare_profile(profile, wanted.build, request, plan.follows, attempt)
        # Of a pod in which dbt has ended there is a log to be read, but nothing to wait for.
        has_ended = (
            plan.follows is not None and container_end(plan.follows, self.base_container_name) is not None
        )
        return Prepared(
            nodes=plan.nodes,
            done=(*wanted.left_out, *plan.adopted),
            request=request,
            pod=plan.follows,
            arguments=self._command(request, wanted.build, plan.selection, ti),
            deferrable=deferrable and not has_ended,
        )

    def _prepare_profile(
        self,
        profile: PodProfile,
        build: Mapping[str, Any],
        request: k8s.V1Pod,
        follows: k8s.V1Pod | None,
        attempt: Attempt,
    ) -> None:
        """Have a pod that is to be made show its profile, or one that is followed own the Secret that it has."""
        if follows is not None:
            profile.adopt(follows)
            return
        profile.read(build)
        self._hide(profile.secrets)
        profile.attach(request, self.base_container_name)
        cast("PodAttempt", attempt).profile = profile

    def _hide_profile(self, profile: PodProfile, build: Mapping[str, Any]) -> None:
        """Have Airflow mask what is secret in the profile of a pod that is there already."""
        try:
            profile.read(build)
        except Exception as error:  # noqa: BLE001 - dbt runs, and what it writes is masked by itself
            self.log.warning("The profile of the pod cannot be read again: %s", words_of(error))
        self._hide(profile.secrets)

    def _command(
        self, request: k8s.V1Pod, build: Mapping[str, Any], selection: Selection, task_instance: Any = None
    ) -> list[str]:
        """Have the base container of a pod call dbt; return dbt's command line."""
        command = dbt_arguments(
            build,
            selection,
            project_dir=self.project_dir,
            profiles_dir=self.profiles_dir,
            profile=None if self.profile is None else self.profile.profile_name(self.graph.project_name),
            docs=self.artifacts is not None and self.artifacts.catalog,
        )
        variables = environment(build)
        defers, compares_sources = _DEFER in command, is_left_to_dbt(selection)
        if self.state is not None and (defers or compares_sources):
            state = self._earlier_state(task_instance)
            if state is None:
                self.log.warning("There is no state yet, so nothing is deferred")
                command = [word for word in command if word != _DEFER]
            else:
                more = state.variables(defers=defers, compares_sources=compares_sources)
                variables = {**variables, **more}
        arguments = [verbatim(argument) for argument in command]
        container = self._base_container(request)
        container.args = arguments
        container.env = [
            *(item for item in container.env or () if item.name not in variables),
            *(k8s.V1EnvVar(name, verbatim(value)) for name, value in variables.items()),
        ]
        return arguments

    def _begin(self, prepared: Prepared, attempt: Attempt) -> None:
        """Let the operator, and those who watch it, do what has been prepared."""
        self._watch_build(attempt, prepared.nodes, prepared.done)
        if prepared.request is None:
            return
        self.start_with(
            prepared.request,
            pod=prepared.pod,
            arguments=prepared.arguments,
            deferrable=prepared.deferrable,
        )

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
