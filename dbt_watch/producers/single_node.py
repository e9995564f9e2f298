"""
Builds some nodes of a project in a pod of their own, for a sensor that was cleared alone.

It is the producer once more, with its image, its flags and its variables, but another selection. `rendering.rebuild`
calls it on the sensor's worker; labels, templates and XComs are the sensor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubernetes.client import models as k8s

from dbt_watch.airflow.execution import executing
from dbt_watch.core.manifest.node_meta import node_settings
from dbt_watch.core.resume import selection_of
from dbt_watch.exceptions import ProjectIsBusy, SelectionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.manifest.node_meta import NodeSettings
    from dbt_watch.core.results import NodeResult


class RebuildPod:
    """
    One such build.

    :param producer: the task that runs the whole project; it is left as it is
    :param unique_ids: the nodes to build
    :raises SelectionError: when dbt cannot be asked for just these nodes
    """

    def __init__(self, producer: Any, unique_ids: Iterable[str]) -> None:
        nodes = frozenset(unique_ids)
        selection = selection_of(producer.graph, nodes)
        if selection is None:
            raise SelectionError("select", ", ".join(sorted(nodes)), "nodes that dbt can be asked for alone")
        self._operator = producer.prepare_for_execution()
        self._operator.selected = nodes
        self._operator.selection = selection
        self._operator.watched = {}
        self._operator.part = None
        self._operator.check = None
        self._operator.needs = frozenset()
        # A person wants this one, whatever the run was narrowed to.
        self._operator.build = {
            name: value for name, value in self._operator.build.items() if name not in {"select", "exclude"}
        }

        self._settle([node_settings(producer.graph.nodes[unique_id]) for unique_id in sorted(nodes)])

    def _settle(self, settings: Iterable[NodeSettings]) -> None:
        """Let the pod be as the nodes want it; of several that want something, the first by its unique_id decides."""
        image = next((each.image for each in settings if each.image), None)
        resources = next((each.resources for each in settings if each.resources), None)
        if image is not None:
            self._operator.image = image
        if resources is not None:
            amounts = {kind: dict(amount) for kind, amount in resources.items()}
            self._operator.container_resources = k8s.V1ResourceRequirements(**amounts)

    def run(self, context: Context) -> tuple[list[NodeResult], Closed]:
        """
        Run dbt in a pod, and wait for its end.

        :param context: the sensor's
        :returns: what became of the nodes, and how dbt ended
        :raises ProjectIsBusy: when dbt runs for the project elsewhere
        :raises Exception: whatever kept the pod from being made
        """
        operator = self._operator
        operator.render_template_fields(context)
        try:
            with executing(operator):
                operator.execute(context)
        except ProjectIsBusy:
            raise
        except Exception as error:
            if operator.watch is None or operator.watch.closed is None:
                raise
            operator.log.info("The pod did not end well: %s", error)
        return operator.watch.results, operator.watch.closed

    def kill(self) -> None:
        """End the build, as the producer would be."""
        self._operator.on_kill()
