"""
Builds some nodes of a project alone, for a sensor that was cleared alone.

It is the producer once more, with its flags and its variables, in a pod or by a server as that is, but with another selection.
`rendering.rebuild` calls it on the sensor's worker; templates and XComs are the sensor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbt_watch.airflow.execution import executing
from dbt_watch.core.manifest.node_meta import node_settings
from dbt_watch.core.resume import selection_of
from dbt_watch.exceptions import ProjectIsBusy, SelectionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult


class LoneBuild:
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
            raise SelectionError(
                "select",
                ", ".join(sorted(nodes)),
                "nodes that one dbt command can select by name: some names are ambiguous, or the list is too long",
            )
        self._operator = producer.prepare_for_execution()
        self._operator.selected = nodes
        self._operator.selection = selection
        self._operator.siblings = tuple(producer.watched)
        self._operator.watched = {}
        self._operator.part = None
        self._operator.check = None
        self._operator.needs = frozenset()
        # A person wants this one, whatever the run was narrowed to.
        self._operator.build = {
            name: value for name, value in self._operator.build.items() if name not in {"select", "exclude"}
        }
        self._operator.suit([node_settings(producer.graph.nodes[unique_id]) for unique_id in sorted(nodes)])

    def run(self, context: Context) -> tuple[list[NodeResult], Closed]:
        """
        Run dbt, and wait for its end.

        :param context: the sensor's
        :returns: what became of the nodes, and how dbt ended
        :raises ProjectIsBusy: when dbt runs for the project elsewhere
        :raises Exception: whatever kept dbt from being started
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
            operator.log.info("dbt failed: %s", error)
        return operator.watch.results, operator.watch.closed

    def kill(self) -> None:
        """End the build, as the producer would be."""
        self._operator.on_kill()
