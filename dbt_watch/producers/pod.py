"""
The task that runs a whole dbt project in one pod.

`DbtPodMixin` goes in front of KubernetesPodOperator or a subclass of it; `producer_class` makes the combination.
The operator's own way of starting, awaiting and cleaning up a pod stays as it is: what is replaced is the reading of
the log, and what is added is the journal.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLoggingStatus, PodManager
from kubernetes.client import models as k8s

from dbt_watch.core.command import Selection, build_arguments
from dbt_watch.core.pages import born_at
from dbt_watch.core.resume import remaining_nodes, selection_of
from dbt_watch.exceptions import ArgumentError, DbtRunFailed, PodLost
from dbt_watch.producers.reader import ContainerEnd, PodLogReader, Position
from dbt_watch.producers.watch import BuildWatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from dbt_watch.core.graph import Graph


class WatchingPodManager(PodManager):
    """
    A pod manager that reads the log of one container for a `BuildWatch`, and all else as usual.

    :param container: the container in which dbt runs
    :param watch: what the lines are for
    :param position: how far they have been read; kept when the manager is made anew with fresh credentials
    """

    def __init__(
        self, *args: Any, container: str, watch: BuildWatch, position: Position, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._container = container
        self._watch = watch
        self._position = position
        self.end: ContainerEnd | None = None

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
        if container_name != self._container:
            return super().fetch_container_logs(
                pod, container_name, follow=follow, since_time=since_time, **kwargs
            )
        reader = PodLogReader(
            self._client,
            self.read_pod,
            pod,
            container_name,
            position=self._position,
            on_lines=self._watch.take_lines,
            on_tick=self._watch.tick,
        )
        self.end = reader.follow()
        # At once: the sensors need not wait until the pod has been cleaned up.
        self._watch.close(self.end.exit_code, self.end.reason)
        return PodLoggingStatus(running=False, last_log_time=None)


class DbtPodMixin:
    """
    Runs `dbt build` in the base container of a KubernetesPodOperator.

    :param build: the options of `dbt_build(...)`, with templates and XComArgs
    :param selection: the nodes to build
    :param graph: the project
    :param selected: the unique_ids of these nodes
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
        self.project_dir = project_dir
        self.profiles_dir = profiles_dir
        self._watch: BuildWatch | None = None
        self._position = Position()

    if TYPE_CHECKING:
        arguments: list[str]
        base_container_name: str
        callbacks: Any
        client: Any
        log: Any

    @cached_property
    def pod_manager(self) -> WatchingPodManager:
        """The pod manager that reads for the journal; made anew when credentials have expired."""
        if self._watch is None:
            raise RuntimeError("the pod manager of a dbt task is there only while the task runs")
        return WatchingPodManager(
            kube_client=self.client,
            callbacks=self.callbacks,
            container=self.base_container_name,
            watch=self._watch,
            position=self._position,
        )

    def build_pod_request_obj(self, context: Context | None = None, **kwargs: Any) -> k8s.V1Pod:
        """Make the pod as usual, and see to it that a SIGTERM reaches dbt as SIGINT."""
        pod: k8s.V1Pod = super().build_pod_request_obj(context, **kwargs)  # type: ignore[misc]
        for container in pod.spec.containers:
            if container.name == self.base_container_name:
                interrupt_before_stop(container)
        return pod

    def execute(self, context: Context) -> Any:
        """
        Run dbt once, and the journal with it.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises PodLost: when the pod went away before dbt was done
        """
        ti = context["ti"]
        nodes, selection = self._what_to_build(ti)
        watch = self._watch = BuildWatch(
            {unique_id: self.graph.nodes[unique_id] for unique_id in nodes},
            attempt=ti.try_number,
            will_retry=ti.try_number <= (ti.max_tries or 0),
            born=born_at(ti.id),
            push=lambda key, value: ti.xcom_push(key=key, value=value),
            show=lambda line: self.log.info("%s", line),
        )
        self.arguments = build_arguments(
            self.build, selection, project_dir=self.project_dir, profiles_dir=self.profiles_dir
        )
        watch.open()
        try:
            return super().execute(context)  # type: ignore[misc]
        except Exception as error:
            end = self._container_end()
            watch.close(None, f"the pod did not run dbt: {error}")
            if end is None or isinstance(error, DbtRunFailed):
                raise
            if end.exit_code is None:
                raise PodLost(f"{end.reason}; {watch.summary()}") from None
            reason = f" ({end.reason})" if end.reason else ""
            raise DbtRunFailed(
                f"dbt ended with exit code {end.exit_code}{reason}; {watch.summary()}"
            ) from None

    def _what_to_build(self, ti: Any) -> tuple[frozenset[str], Selection]:
        """Give the nodes of this attempt and the selection for them: all at first, later what is not done."""
        if ti.try_number <= 1:
            return self.selected, self.selection
        answer = ti.get_task_states(
            dag_id=ti.dag_id,
            run_ids=[ti.run_id],
            task_ids=list(self.watched),
            map_index=None if ti.map_index is None or ti.map_index < 0 else ti.map_index,
        )
        remaining = remaining_nodes(self.selected, self.watched, answer.get(ti.run_id, {}))
        if remaining == self.selected:
            self.log.info("Building all %d nodes", len(remaining))
            return self.selected, self.selection
        selection = selection_of(self.graph, remaining)
        if selection is None:
            self.log.info("Building all %d nodes: no selection fits what is left", len(self.selected))
            return self.selected, self.selection
        self.log.info("Building the %d of %d nodes that are not done", len(remaining), len(self.selected))
        return remaining, selection

    @property
    def watch(self) -> BuildWatch | None:
        """What has been seen of the build; None before it begins."""
        return self._watch

    def _container_end(self) -> ContainerEnd | None:
        # Not through the property: it would make a manager, and need a client, where there was none.
        manager = self.__dict__.get("pod_manager")
        return None if manager is None else manager.end


def interrupt_before_stop(container: k8s.V1Container) -> None:
    """
    Give a container a hook that sends SIGINT to its first process before Kubernetes sends SIGTERM.

    dbt cancels its queries and closes its log on SIGINT only, and as the first process of a container it does not
    even notice a SIGTERM. The hook ends when the process does; where an image has no shell it fails, which Kubernetes
    takes for done.
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
