"""How the tasks that run dbt are created from the decorator's arguments: their class and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.authoring.api_arguments import api_class
from dbt_watch.authoring.container import container_command, profiles_dir_of
from dbt_watch.authoring.isolation import asked_by
from dbt_watch.authoring.pod_arguments import watching_class
from dbt_watch.lineage.settings import DbtLineage, LineageSource
from dbt_watch.rendering.callbacks import for_producer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbt_watch.authoring.container import ContainerCommand
    from dbt_watch.authoring.isolation import Isolation
    from dbt_watch.authoring.settings import Chosen, ProjectSettings
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.rendering.group import GroupTasks


class ProjectOperators:
    """
    What the operators of a project have in common, wherever dbt runs: the `Operators` that `rendering.pod_tasks` uses.

    :param settings: the arguments of the decorator
    :param graph: the project
    :param wanted: what it builds and checks
    :param isolated: what is different for isolated nodes
    :param callbacks: Airflow's callbacks for the ends of tasks
    :param manifest: where the manifest is
    """

    def __init__(
        self,
        settings: ProjectSettings,
        graph: Graph,
        wanted: Chosen,
        isolated: Isolation,
        callbacks: Mapping[str, Sequence[Callable[[Any], Any]]],
        *,
        manifest: str,
    ) -> None:
        self._settings = settings
        self._graph = graph
        self._wanted = wanted
        self._isolated = isolated
        self._callbacks = callbacks
        self._manifest = manifest
        self.tasks: GroupTasks | None = None
        """The tasks of the group, once they are known."""

    def operator_class(self) -> type[Any]:
        """Return their class."""
        raise NotImplementedError

    def arguments(self, home: str | None) -> dict[str, Any]:
        """Return their arguments, those of an isolated node or those of a producer."""
        options = self._settings.options
        callbacks = {}
        if home is None and self.tasks is not None:
            callbacks = for_producer(self._callbacks, self.tasks)
        return {
            **callbacks,
            "selection": self._wanted.selection,
            "graph": self._graph,
            "selected": self._wanted.nodes,
            "on_stale": options["on_stale"],
            "on_drift": options["on_drift"],
            "project_dir": options["project_dir"],
            "lineage": self._lineage,
            "artifacts": options["artifacts"],
        }

    @property
    def _lineage(self) -> LineageSource | None:
        given = self._settings.options["lineage"]
        if given is False:
            return None
        return LineageSource(self._manifest, given if isinstance(given, DbtLineage) else DbtLineage())

    def leading(self, home: str | None) -> list[str]:
        """Return the words before dbt's arguments."""
        del home
        return []

    def asked_by(self, home: str) -> list[str]:
        """Return why an isolated node has a pod of its own, as written."""
        return self._asked_by.get(home, [])

    @cached_property
    def _asked_by(self) -> dict[str, list[str]]:
        return {} if self.tasks is None else asked_by(self._graph, self.tasks.plan, self._settings)


class PodOperators(ProjectOperators):
    """The operators of a project whose dbt runs in pods."""

    def operator_class(self) -> type[Any]:
        """Return their class; this imports Kubernetes."""
        cls: type[Any] = watching_class(self._settings.options["operator_class"])
        return cls

    def arguments(self, home: str | None) -> dict[str, Any]:
        """Return their arguments."""
        return {
            "startup_check_interval_seconds": 1,
            "log_pod_spec_on_failure": False,  # it would print every environment variable of the pod
            **with_models(self._settings_of(home).pod),
            **super().arguments(home),
            "cmds": self._command(home).cmds,
            "profiles_dir": profiles_dir_of(self._settings.options),
            "profile": self._settings.options["profile"],
            "state": self._settings.options["state"],
            "manifest": str(self._settings.manifest),
        }

    def leading(self, home: str | None) -> list[str]:
        """Return the words before dbt's arguments."""
        return self._command(home).leading

    def _settings_of(self, home: str | None) -> ProjectSettings:
        if home is None:
            return self._settings
        pod = {**self._settings.pod, **self._isolated[home]}
        return msgspec.structs.replace(self._settings, pod=pod)

    def _command(self, home: str | None) -> ContainerCommand:
        return container_command(self._settings_of(home))


class ApiOperators(ProjectOperators):
    """The operators of a project that a server runs."""

    def operator_class(self) -> type[Any]:
        """Return their class."""
        return api_class()

    def arguments(self, home: str | None) -> dict[str, Any]:
        """Return their arguments."""
        return {**self._settings.pod, **super().arguments(home)}


def with_models(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operator's arguments with the one Kubernetes model that it accepts in no other form."""
    resources = pod.get("container_resources")
    if not isinstance(resources, Mapping):
        return dict(pod)
    from kubernetes.client import models as k8s  # noqa: PLC0415 - not for a worker that runs a sensor

    return {**pod, "container_resources": k8s.V1ResourceRequirements(**resources)}
