"""
The task that runs a command of dbt in a pod of its own: a macro, the docs, a clone, whatever is no build of a project.

`DbtCommandMixin` goes in front of KubernetesPodOperator or a subclass of it; `command_class` makes the combination. The pod is
started, awaited, found again and cleaned up as the operator does it; the reading of the log is replaced, as it is for a build
(`producers.pods.operator`).
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout
from kubernetes.client import models as k8s

from dbt_watch.airflow.operator_refusals import refusals_named
from dbt_watch.airflow.pod_operator import (
    InsideExecute,
    KubernetesPodOperator,
    PodOperatorMixin,
    template_fields_of,
)
from dbt_watch.airflow.pod_trigger import serialized
from dbt_watch.airflow.secrets import redact
from dbt_watch.core.other_commands import pod_environment, pod_words
from dbt_watch.core.verbatim import verbatim
from dbt_watch.exceptions import ArgumentError, PodLost
from dbt_watch.producers.command_watch import CommandWatch
from dbt_watch.producers.pods.command_trigger import DbtCommandTrigger
from dbt_watch.producers.pods.container_end import container_end
from dbt_watch.producers.pods.failure_reasons import broken_off, words_of
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.log_reader import PodLogReader
from dbt_watch.producers.pods.pod_manager import WatchingPodManager
from dbt_watch.producers.pods.pod_profile import PodProfile
from dbt_watch.producers.pods.pre_stop import interrupt_before_stop
from dbt_watch.producers.secrets import hide, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from dbt_watch.airflow.pod_operator import PodManager
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.run_notes import Phase
    from dbt_watch.producers.pods.container_end import ContainerEnd
    from dbt_watch.profiles.dbt_profile import DbtProfile


class CommandAttempt:
    """
    One attempt, as the pod manager follows it.

    :ivar end: how the container has ended
    :ivar pod: the pod as it was seen last
    :ivar profile: what the pod has for a profile, where that is made of a connection
    """

    def __init__(self, watch: CommandWatch, profile: PodProfile | None = None) -> None:
        self.watch = watch
        self.profile = profile
        self.end: ContainerEnd | None = None
        self.pod: k8s.V1Pod | None = None

    def tick(self) -> None:
        """Do nothing: there is no journal to write."""

    def tell_phase(self, phase: Phase, text: str) -> None:
        """Do nothing: the page shows builds alone."""

    def close(self, exit_code: int | None, reason: str | None = None) -> None:
        """Take the end of dbt."""
        self.watch.end(exit_code, reason)


class DbtCommandMixin(PodOperatorMixin):
    """
    Runs a command of dbt in the base container of a KubernetesPodOperator.

    :param command: `words`, and `args`, `vars` and `target` where they are given, with templates and XComArgs
    :param leading: words in front of dbt's arguments
    :param project_dir: the directory of `dbt_project.yml` in the image
    :param profiles_dir: the directory of `profiles.yml` in the image
    :param profile: what `profiles.yml` is made of instead
    :param graph: of the project, if there is one
    """

    template_fields_renderers: ClassVar[dict[str, str]] = {
        **getattr(KubernetesPodOperator, "template_fields_renderers", {}),
        "command": "json",
    }
    ui_color = "#ff694a"

    def __init__(
        self,
        *,
        command: Mapping[str, Any],
        leading: Sequence[str] = (),
        project_dir: str | None = None,
        profiles_dir: str | None = None,
        profile: DbtProfile | None = None,
        graph: Graph | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.command = dict(command)
        self.leading = list(leading)
        self.project_dir = project_dir
        self.profiles_dir = profiles_dir
        self.profile = profile
        self.graph = graph
        self._attempt: CommandAttempt | None = None
        self._position = Position()

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render as usual, and have Airflow mask what is secret among what dbt is given."""
        super().render_template_fields(context, jinja_env)  # type: ignore[misc]
        env_vars = {item.name: item.value for item in self.env_vars or () if isinstance(item, k8s.V1EnvVar)}
        given = {name: self.command.get(name) for name in ("args", "vars")}
        hide(secrets_in({**env_vars, **given}))

    # What the operator below calls.

    def make_pod_manager(self) -> PodManager:
        """Return a pod manager that reads dbt's log."""
        if self._attempt is None:
            return super().make_pod_manager()
        return WatchingPodManager(self, attempt=self._attempt, position=self._position)

    def build_pod_request_obj(self, context: Context | None = None, **kwargs: Any) -> k8s.V1Pod:
        """Make the pod as usual, and see to it that a SIGTERM reaches dbt as SIGINT."""
        pod: k8s.V1Pod = super().build_pod_request_obj(context, **kwargs)
        interrupt_before_stop(self._base_container(pod))
        return pod

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Context) -> k8s.V1Pod:
        """Find or make the pod as usual; have one of an earlier attempt own the Secret that it has."""
        pod: k8s.V1Pod = super().get_or_create_pod(pod_request_obj, context)  # type: ignore[misc]
        profile = None if self._attempt is None else self._attempt.profile
        if profile is not None and pod is not pod_request_obj:
            profile.adopt(pod)
        return pod

    def cleanup(self, *args: Any, **kwargs: Any) -> None:
        """Clean up as usual; after a timeout, end a pod that the operator would keep running."""
        if isinstance(sys.exc_info()[1], AirflowTaskTimeout):
            self.kill_pod()
        super().cleanup(*args, **kwargs)  # type: ignore[misc]

    def trigger_around(self, trigger: BaseTrigger) -> BaseTrigger:
        """Return a trigger that goes on only when Airflow is ready for it."""
        return DbtCommandTrigger(inner=serialized(trigger, self))

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """End as dbt has ended, after a deferral."""
        self._begin(context)
        self._hide_profile(context)
        return self._ended(context, functools.partial(super().trigger_reentry, context, event))  # type: ignore[misc]

    def _write_logs(self, *_: Any, **__: Any) -> None:
        """Read the whole log after a deferral, as it is read while dbt runs otherwise."""
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - `trigger_reentry` has made it
        reader = PodLogReader(
            self.client,
            self.pod_manager.read_pod,
            self.pod,
            self.base_container_name,
            position=self._position,
            on_lines=attempt.watch.take_lines,
            on_tick=attempt.tick,
        )
        attempt.end = reader.follow()
        attempt.close(attempt.end.exit_code, attempt.end.reason)

    # One attempt.

    def execute_inside(self, context: Context, execute: Callable[[Context], Any]) -> Any:
        """
        Run dbt, with the cluster within reach.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod did not run dbt, or went away before dbt was done
        """
        request = self.request_pod(context)
        arguments = self._command(request)
        self._begin(context, self._profile_for(request, context))
        self.start_with(request, pod=None, arguments=arguments, deferrable=self.deferrable)
        return self._ended(context, functools.partial(execute, context))

    def _profile_for(self, request: k8s.V1Pod, context: Context) -> PodProfile | None:
        """Have a pod that is to be made show its profile, where that is made of a connection."""
        if self.profile is None:
            return None
        profile = PodProfile(self, context, request.metadata.namespace)
        profile.read(self.command)
        hide(profile.secrets)
        profile.attach(request, self.base_container_name)
        return profile

    def _hide_profile(self, context: Context) -> None:
        """Have Airflow mask what is secret in the profile of a pod, whose log is about to be read."""
        if self.profile is None:
            return
        profile = PodProfile(self, context, "")
        try:
            profile.read(self.command)
        except Exception as error:  # noqa: BLE001 - dbt has ended, and what it wrote is masked by itself
            self.log.warning("The profile of the pod cannot be read again: %s", words_of(error))
        hide(profile.secrets)

    def _begin(self, context: Context, profile: PodProfile | None = None) -> None:
        watch = CommandWatch(
            map(str, self.command["words"]),
            attempt=context["ti"].try_number,
            show=lambda line: self.log.info("%s", line),
            redact=redact,
        )
        self._attempt = CommandAttempt(watch, profile)
        self._position = Position()
        vars(self).pop("pod_manager", None)  # one that was made before reads for nobody

    def _command(self, request: k8s.V1Pod) -> list[str]:
        """Have the base container of a pod call dbt; return dbt's command line."""
        project_name = "" if self.graph is None else self.graph.project_name
        command = pod_words(
            self.command,
            project_dir=self.project_dir,
            profiles_dir=self.profiles_dir,
            profile=None if self.profile is None else self.profile.profile_name(project_name),
        )
        arguments = [verbatim(argument) for argument in [*self.leading, *command]]
        variables = pod_environment(self.command)
        container = self._base_container(request)
        container.args = arguments
        container.env = [
            *(item for item in container.env or () if item.name not in variables),
            *(k8s.V1EnvVar(name, verbatim(value)) for name, value in variables.items()),
        ]
        return arguments

    def _ended(self, context: Context, run: Callable[[], Any]) -> Any:
        """
        Run dbt, and end the task as dbt has ended.

        :param run: runs the pod; a deferral leaves it as an exception that is none of `Exception`
        """
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - `_begin` has made it
        problem: Exception | None = None
        try:
            run()
        except (AirflowSkipException, AirflowTaskTimeout):
            raise
        except Exception as error:  # noqa: BLE001 - what dbt has said comes first
            problem = error
        watch = attempt.watch
        if not watch.is_over:
            pod = attempt.pod or self.pod
            end = None if pod is None else container_end(pod, self.base_container_name)
            if end is not None:
                watch.end(end.exit_code, end.reason)
            elif problem is not None:
                raise PodLost(broken_off(words_of(problem), pod, self.base_container_name)) from problem
            else:
                raise PodLost(f"the `execute` of {type(self).__name__} did not follow a pod")
        if watch.exit_code != 0:
            raise watch.failure(PodLost) from None
        if problem is not None:
            raise problem
        result = watch.result()
        # Whatever `do_xcom_push` says of a sidecar's value.
        context["ti"].xcom_push(key="return_value", value=result)
        return result

    def _base_container(self, pod: k8s.V1Pod) -> k8s.V1Container:
        return next(item for item in pod.spec.containers if item.name == self.base_container_name)


@functools.cache
def command_class(operator_class: type[Any] = KubernetesPodOperator) -> type[Any]:
    """
    Return the class of a task that runs a command of dbt.

    :param operator_class: KubernetesPodOperator or a subclass of it, such as GKEStartPodOperator
    :raises ArgumentError: when it is no subclass of KubernetesPodOperator
    """
    if not (isinstance(operator_class, type) and issubclass(operator_class, KubernetesPodOperator)):
        raise ArgumentError("operator_class", operator_class, "KubernetesPodOperator or a subclass of it")
    bases = () if operator_class is KubernetesPodOperator else (operator_class,)

    class DbtCommand(DbtCommandMixin, *bases, InsideExecute):  # type: ignore[misc] # known at run time only
        """Runs a command of dbt in a pod. Airflow prepares only what a class made of an operator defines itself."""

        template_fields = template_fields_of(operator_class, "command")

        def __init__(self, **kwargs: Any) -> None:
            with refusals_named(operator_class, kwargs):
                super().__init__(**kwargs)

        def execute(self, context: Context) -> Any:
            return super().execute(context)

    DbtCommand.__name__ = DbtCommand.__qualname__ = f"DbtCommandBy{operator_class.__name__}"
    return DbtCommand
