"""
What a person sees of a node's task, and what is called for it: place, name, documentation, owner, pool, callbacks.

`rendering.group` asks for each sensor that it makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.manifest.node_meta import node_settings
from dbt_watch.core.outcome import WARN
from dbt_watch.rendering.callbacks import ON_A_WORKER, for_sensors
from dbt_watch.rendering.node_tasks import OF_THE_NODE_ALONE, NodeTasks
from dbt_watch.rendering.subgroups import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import TaskGroup

    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.rendering.plan import PlannedTask
    from dbt_watch.rendering.subgroups import GroupBy

# In characters: each DAG holds the whole text of each task.
MAX_DOC: Final = 200
# What can end with a warning.
_WARNING_TYPES: Final = frozenset({"test", "source"})


class Looks:
    """
    The looks of the tasks of one group.

    :param graph: the project
    :param group: its task group
    :param group_by: see `Places`
    :param callbacks: Airflow's callbacks for the ends of tasks
    :param on_warning: what is called for a sensor whose node ended with a warning
    :param said: what the author of the DAG says of the tasks of nodes
    """

    def __init__(
        self,
        graph: Graph,
        group: TaskGroup,
        *,
        group_by: GroupBy = "none",
        callbacks: Mapping[str, Sequence[Callable[[Any], Any]]],
        on_warning: Sequence[Callable[[Any], Any]] = (),
        said: NodeTasks | None = None,
    ) -> None:
        self._said = said or NodeTasks(graph)
        self._graph = graph
        self._group = group
        self._places = Places(group, group_by, graph.project_name or "")
        self._callbacks = for_sensors(callbacks)
        self._on_warning = tuple(on_warning)
        self._worker_for = tuple(end for name, end in ON_A_WORKER.items() if callbacks.get(name))

    def of(self, planned: PlannedTask) -> dict[str, Any]:
        """
        Return the arguments of a sensor.

        :raises ArgumentError: when the node's `meta.dbt_watch` is wrong, or what `node_task` returns of it
        """
        home = None if planned.home is None else self._graph.nodes[planned.home]
        types = {self._graph.nodes[unique_id].resource_type for unique_id in planned.unique_ids}
        may_warn = bool(self._on_warning) and bool(types & _WARNING_TYPES)
        arguments: dict[str, Any] = {
            **self._place(planned, home),
            "kind": f"dbt {types.pop().replace('_', ' ')}" if len(types) == 1 else "dbt nodes",
            "worker_for": (*self._worker_for, WARN) if may_warn else self._worker_for,
            "on_warning_callback": self._on_warning if may_warn else (),
            **self._callbacks,
        }
        if home is not None:
            settings = node_settings(home)
            is_its_own = home.unique_id in planned.unique_ids
            owner = settings.owner or self._said.owner(home)
            given = {"pool": settings.pool, "owner": owner, "priority_weight": settings.priority}
            arguments.update({name: value for name, value in given.items() if value is not None})
            arguments["doc_md"] = _doc(home) if is_its_own else None
            said = self._said.arguments(home)
            arguments.update(
                {name: said[name] for name in said if is_its_own or name not in OF_THE_NODE_ALONE}
            )
        return arguments

    def _place(self, planned: PlannedTask, home: Node | None) -> dict[str, Any]:
        group = self._group if home is None else self._places.of(home)
        if group is self._group:
            return {"task_group": group, "task_id": planned.task_id}
        # A group within the project's group puts nothing in front of the ids of its tasks, and hides nothing of them.
        whole_id = self._group.child_id(planned.task_id)
        return {"task_group": group, "task_id": whole_id, "task_display_name": planned.task_id}


def _doc(node: Node) -> str:
    """Describe a node by the beginning of dbt's own documentation and by its file."""
    return "\n\n".join(filter(None, [node.description.strip()[:MAX_DOC], f"`{node.path}`"]))
