"""
The task that runs a whole dbt project in one pod.

`DbtPodMixin` goes in front of KubernetesPodOperator or a subclass of it; `producer_class` makes the combination.
The operator's own way of starting, awaiting and cleaning up a pod stays as it is: what is replaced is the reading of
the log, and what is added is the journal, and care that dbt never runs twice.
"""

from __future__ import annotations

import sys
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.configuration import conf
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLoggingStatus, PodManager
from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout
from airflow.sdk import get_current_context
from kubernetes.client import models as k8s

from dbt_watch.core.command import Selection, dbt_arguments, environment
from dbt_watch.core.drift import Drift, OnDrift
from dbt_watch.core.freshness import readers_of
from dbt_watch.core.narrowing import narrowed
from dbt_watch.core.resume import remaining_nodes
from dbt_watch.core.stale import OnStale, StaleSources
from dbt_watch.core.verbatim import verbatim
from dbt_watch.exceptions import ArgumentError, DbtWatchError
from dbt_watch.producers.attempt import Attempt, failure_of
from dbt_watch.producers.deferred import END, DbtPodTrigger, pack
from dbt_watch.producers.memory import Memory
from dbt_watch.producers.plan import Plan, Planner, mark
from dbt_watch.producers.reader import PodLogReader, Position, container_end
from dbt_watch.producers.secrets import hide, redact, secrets_in
from dbt_watch.producers.watch import BuildWatch
from dbt_watch.supervisor import key_of, read_states_now, runs_in_dag_test

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from dbt_watch.core.graph import Graph, Node


class WatchingPodManager(PodManager):
    """
    A pod manager that reads the log of one container for an attempt, and all else as usual.

    :param container: the container in which dbt runs
    :param attempt: what the lines are for
    :param position: how far they have been read; kept when the manager is made anew with fresh credentials
    """

    def __init__(
        self, *args: Any, container: str, attempt: Attempt, position: Position, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._container = container
        self._attempt = attempt
        self._position = position

    def read_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Read the pod afresh. This happens often while it starts, when there is no log to be read yet."""
        self._attempt.tick()
        return super().read_pod(pod)

    def fetch_requested_container_logs(
        self, pod: k8s.V1Pod, containers: Any, follow_logs: Any = False, *args: Any, **kwargs: Any
    ) -> list[PodLoggingStatus]:
        """Follow the log of dbt first, and of the others read what there is: one that runs for ever has no end of log."""
        fetch = super().fetch_requested_container_logs
        statuses = fetch(pod, self._container, follow_logs, *args, **kwargs)
        names = self.get_container_names(pod) if containers is True else containers
        others = [
            name for name in ([names] if isinstance(names, str) else names or ()) if name != self._container
        ]
        return [*statuses, *(fetch(pod, others, False, *args, **kwargs) if others else ())]

    def fetch_container_logs(
        self,
        pod: k8s.V1Pod,
        container_name: str,
        *,
        follow: bool = False,
        since_time: Any = None,
        **kwargs: Any,
    ) -> PodLoggingStatus:
        """Follow the log until the container has ended, and close the journal with what it ended as."""
        attempt = self._attempt
        if container_name != self._container or attempt.watch is None:
            return super().fetch_container_logs(
                pod, container_name, follow=follow, since_time=since_time, **kwargs
            )
        reader = PodLogReader(
            self._client,
            super().read_pod,
            pod,
            container_name,
            position=self._position,
            on_lines=attempt.watch.take_lines,
            on_tick=attempt.tick,
        )
        attempt.end = reader.follow()
        # At once: the sensors need not wait until the pod has been cleaned up.
        attempt.close(attempt.end.exit_code, attempt.end.reason)
        return PodLoggingStatus(running=False, last_log_time=None)


class DbtPodMixin:
    """
    Runs `dbt build`, `dbt source freshness`, or both in the base container of a KubernetesPodOperator.

    :param build: the options of `dbt_build(...)`, with templates and XComArgs
    :param selection: the nodes to build, and the sources to check
    :param graph: the project
    :param selected: the unique_ids of both
    :param on_stale: what becomes of nodes that read from a stale source
    :param on_drift: what becomes of an attempt in which dbt ran another project than the manifest's
    :param watched: the unique_ids that each sensor stands for, by its task id
    :param project_dir: the directory of `dbt_project.yml` in the image
    :param profiles_dir: the directory of `profiles.yml` in the image
    """

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
        on_stale: OnStale = "fail",
        on_drift: OnDrift = "warn",
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
        self.on_stale = on_stale
        self.on_drift = on_drift
        self.project_dir = project_dir
        self.profiles_dir = profiles_dir
        self._attempt: Attempt | None = None
        self._position = Position()
        self._secrets: list[str] = []

    if TYPE_CHECKING:
        arguments: list[str]
        base_container_name: str
        callbacks: Any
        client: Any
        deferrable: bool
        env_vars: Any
        execution_timeout: timedelta | None
        log: Any
        name: str
        patch_already_checked: Any
        pod: k8s.V1Pod | None
        pod_request_obj: k8s.V1Pod
        process_pod_deletion: Any
        reattach_on_restart: bool
        task_id: str
        termination_grace_period: int | None
        _build_find_pod_label_selector: Any
        _killed: bool
        _set_name: Any

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

    @cached_property
    def pod_manager(self) -> PodManager:
        """The pod manager, which reads for the journal while dbt runs; made anew when credentials have expired."""
        if self._attempt is None:
            return PodManager(kube_client=self.client, callbacks=self.callbacks)
        return WatchingPodManager(
            kube_client=self.client,
            callbacks=self.callbacks,
            container=self.base_container_name,
            attempt=self._attempt,
            position=self._position,
        )

    def build_pod_request_obj(self, context: Context | None = None, **kwargs: Any) -> k8s.V1Pod:
        """Make the pod as usual, and see to it that a SIGTERM reaches dbt as SIGINT."""
        pod: k8s.V1Pod = super().build_pod_request_obj(context, **kwargs)  # type: ignore[misc]
        interrupt_before_stop(self._base_container(pod))
        if context is not None:
            mark(pod, context["ti"])
        return pod

    def is_istio_enabled(self, _: k8s.V1Pod) -> bool:
        """
        Have the task end with the base container, and be judged by it: whatever runs beside it may run for ever.

        The operator does so itself for the one sidecar that it knows, Istio's; only its name for it is so narrow.
        """
        return True

    def cleanup(self, *args: Any, **kwargs: Any) -> None:
        """Clean up as usual, unless the pod is another's now, which learns from it how dbt has ended."""
        attempt = self._attempt
        if attempt is not None and (attempt.is_orphaned or attempt.may_be_superseded):
            self._killed = True
        elif isinstance(sys.exc_info()[1], AirflowTaskTimeout):
            # The operator would leave a pod running that it is to keep.
            self._kill_pod()
        super().cleanup(*args, **kwargs)  # type: ignore[misc]

    def on_kill(self) -> None:
        """Stop dbt, unless it is only this worker that has to go, and another attempt takes over."""
        attempt = self._attempt
        is_timeout = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
        if attempt is None or is_timeout or not (self.reattach_on_restart and attempt.will_retry):
            self._kill_pod()
        else:
            attempt.signal.receive()

    def _kill_pod(self) -> None:
        if not self._killed:
            super().on_kill()  # type: ignore[misc]

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
        attempt = self._attempt or Attempt(context, self._kill_pod)
        # When a deferral is resumed only to defer once more, what this attempt builds is not known here any more.
        nodes = attempt.nodes or remaining_nodes(
            self.selected, self.watched, read_states_now(key_of(ti), self.watched)
        )
        limit = self.execution_timeout
        ours = DbtPodTrigger(
            inner=trigger.serialize(),
            nodes=pack(self._nodes(nodes), self._stale(nodes), self._drift(nodes)),
            attempt=attempt.number,
            will_retry=attempt.will_retry,
            born=attempt.born,
            deadline=None if limit is None else ti.start_date.timestamp() + limit.total_seconds(),
            secrets=self._secrets,
        )
        super().defer(trigger=ours, method_name=method_name, kwargs=kwargs, timeout=timeout)  # type: ignore[misc]

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """
        End as the trigger has found, after a deferral.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod went away before dbt was done
        """
        told = event.get(END)
        if told is not None and told["exit_code"] == 0:
            Memory(context).remember_end()
        try:
            result = super().trigger_reentry(context, event)  # type: ignore[misc]
        except AirflowSkipException:
            raise
        except Exception:
            if told is None:
                raise
            raise failure_of(**told) from None
        if told is not None and told["exit_code"] != 0:
            raise failure_of(**told)
        return result

    def _write_logs(self, *_: Any, **__: Any) -> None:
        """Leave out what the operator does after a deferral: the trigger has written the log."""

    # One attempt.

    def execute(self, context: Context) -> Any:
        """
        Run dbt once, and the journal with it.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod went away before dbt was done
        """
        attempt = self._attempt = Attempt(context, self._kill_pod)
        # Before anything that takes time: readers look for it.
        attempt.open()
        try:
            if not self._prepare(context, attempt):
                return None
            result = super().execute(context)  # type: ignore[misc]
        except AirflowTaskTimeout:
            self._kill_pod()
            self._close(
                attempt, f"the task took longer than its execution_timeout of {self.execution_timeout}"
            )
            raise
        except AirflowSkipException:
            raise
        except Exception as error:
            self._close(attempt, f"the pod did not run dbt: {error}")
            if attempt.end is None:
                raise
            raise attempt.failure() from None
        if attempt.closed is not None and attempt.closed.exit_code != 0:
            raise attempt.failure()  # a source is stale, or the pod was left to another attempt
        return result

    def _prepare(self, context: Context, attempt: Attempt) -> bool:
        """Decide what is to be built, and in which pod; False when there is nothing left to do."""
        ti = context["ti"]
        # A sensor that was cleared alone waits for its own pod itself, as everything does in `dag.test()`.
        stays = ti.task_id != self.task_id or runs_in_dag_test()
        self.deferrable = self.deferrable and not stays and self._has_place()
        self.name = self._set_name(self.name)
        self.pod_request_obj = self.build_pod_request_obj(context)
        if ti.max_tries:
            self.build = attempt.memory.options_of_first_attempt(self.build)
        narrow = narrowed(self.graph, self.selected, self.selection, self.build, attempt=attempt.number)
        self.selected, self.selection = narrow.nodes, narrow.selection
        plan: Plan | None = Plan(self.selected, self.selection)
        if ti.try_number > 1:
            plan = Planner(self, context, attempt).plan(self.pod_request_obj.metadata.namespace)
        if self._killed:
            raise DbtWatchError("the task was stopped before there was a pod")
        if plan is None:
            attempt.watch = self._watch_of((), attempt)
            attempt.close(0)
            return False
        attempt.nodes = plan.nodes
        attempt.watch = self._watch_of(plan.nodes, attempt)
        attempt.watch.adopt([*narrow.left_out, *plan.adopted])
        arguments = dbt_arguments(
            self.build, plan.selection, project_dir=self.project_dir, profiles_dir=self.profiles_dir
        )
        self.arguments = [verbatim(argument) for argument in arguments]
        variables = environment(self.build)
        container = self._base_container(self.pod_request_obj)
        container.args = self.arguments
        container.env = [
            *(item for item in container.env or () if item.name not in variables),
            *(k8s.V1EnvVar(name, verbatim(value)) for name, value in variables.items()),
        ]
        self.pod = plan.pod
        if plan.pod is not None and container_end(plan.pod, self.base_container_name) is not None:
            self.deferrable = False  # there is a log to be read, but nothing to wait for
        return True

    def _has_place(self) -> bool:
        """Tell whether a triggerer has a place left for this task when all its sensors, which wait for it, have theirs."""
        places = conf.getint("triggerer", "capacity")
        if len(self.watched) < places:
            return True
        self.log.warning(
            "Not deferred: the %d sensors of this project could take all %d places of a triggerer ([triggerer] capacity)"
            " and wait there for a producer that finds none. The worker follows dbt.",
            len(self.watched),
            places,
        )
        return False

    def _close(self, attempt: Attempt, reason: str) -> None:
        """End the journal of an attempt in which dbt has not come to its end."""
        if attempt.watch is None:
            attempt.watch = self._watch_of(self.selected, attempt)
        attempt.close(None, reason)

    def _watch_of(self, nodes: Collection[str], attempt: Attempt) -> BuildWatch:
        return BuildWatch(
            self._nodes(nodes),
            attempt=attempt.number,
            show=lambda line: self.log.info("%s", line),
            writer=attempt.writer,
            redact=redact,
            stale=self._stale(nodes),
            drift=self._drift(nodes),
            warn=lambda line: self.log.warning("%s", line),
        )

    def _nodes(self, nodes: Iterable[str]) -> dict[str, Node]:
        return {unique_id: self.graph.nodes[unique_id] for unique_id in nodes}

    def _stale(self, nodes: Collection[str]) -> StaleSources:
        return StaleSources(readers_of(self.graph, nodes), self.on_stale)

    def _drift(self, nodes: Collection[str]) -> Drift:
        all_nodes = self.selected.union(*self.watched.values())
        return Drift(tuple(sorted(all_nodes.difference(nodes))), self.on_drift)

    def _base_container(self, pod: k8s.V1Pod) -> k8s.V1Container:
        return next(item for item in pod.spec.containers if item.name == self.base_container_name)


def interrupt_before_stop(container: k8s.V1Container) -> None:
    """
    Give a container a hook that sends SIGINT to its first process before Kubernetes sends SIGTERM.

    dbt cancels its queries and closes its log on SIGINT only, and as the first process of a container it does not
    even notice a SIGTERM. The hook ends when the process does; where an image has no shell it fails, which Kubernetes
    takes for done, and the image's own STOPSIGNAL follows.
    """
    if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
        return
    script = "kill -INT 1; while kill -0 1 2>/dev/null; do sleep 0.2; done"
    hook = k8s.V1LifecycleHandler(_exec=k8s.V1ExecAction(command=["/bin/sh", "-c", script]))
    post_start = None if container.lifecycle is None else container.lifecycle.post_start
    container.lifecycle = k8s.V1Lifecycle(pre_stop=hook, post_start=post_start)


@cache
def producer_class(operator_class: type[Any] = KubernetesPodOperator) -> type[Any]:
    """
    Give the class of the task that runs dbt.

    :param operator_class: KubernetesPodOperator or a subclass of it, such as GKEStartPodOperator
    :raises ArgumentError: when it is no subclass of KubernetesPodOperator
    """
    if not (isinstance(operator_class, type) and issubclass(operator_class, KubernetesPodOperator)):
        raise ArgumentError("operator_class", operator_class, "KubernetesPodOperator or a subclass of it")

    class DbtProducer(DbtPodMixin, operator_class):  # type: ignore[misc] # known at run time only
        """Runs a dbt project in a pod. Airflow prepares only what a class made of an operator defines itself."""

        template_fields = tuple(dict.fromkeys([*operator_class.template_fields, "build"]))

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)

        def execute(self, context: Context) -> Any:
            return super().execute(context)

    DbtProducer.__name__ = DbtProducer.__qualname__ = f"Dbt{operator_class.__name__}"
    return DbtProducer
