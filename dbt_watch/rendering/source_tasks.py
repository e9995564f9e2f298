"""
Tasks for the sources that nodes read and that nothing checks, `sources="all"`: they show where the data comes from, and run nothing.

`authoring.project_factory` calls it when the tasks of nodes are there. No worker makes them: the scheduler ends an empty task by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from airflow.providers.standard.operators.empty import EmptyOperator

from dbt_watch.airflow.dag_authoring import connect
from dbt_watch.core.selection.source_freshness import SOURCE
from dbt_watch.rendering.node_display import MAX_DOC
from dbt_watch.rendering.pod_tasks import wanted_task
from dbt_watch.rendering.task_ids import node_task_id

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.rendering.group import GroupTasks
    from dbt_watch.rendering.node_tasks import NodeTasks

Sources = Literal["checked", "all"]
"""Which sources have a task: those that are checked for freshness, or all that are read."""

KIND: Final = "dbt source"


def add_sources(tasks: GroupTasks, said: NodeTasks) -> None:
    """
    Make a task for each source that a node reads and that has none, in front of the nodes that read it.

    :param tasks: the tasks of nodes
    :param said: what is said of their looks
    """
    if wanted_task() is not None:
        return
    graph, plan, group = tasks.graph, tasks.plan, tasks.group
    for unique_id, readers in sorted(_read_by(graph, tasks).items()):
        node = graph.nodes[unique_id]
        looks = {"owner": said.owner(node), "doc_md": node.description.strip()[:MAX_DOC] or None}
        task = EmptyOperator(
            task_id=node_task_id(node, graph.project_name),
            task_group=group,
            dag=group.dag,
            # With one, a worker would have to run it.
            on_execute_callback=None,
            on_success_callback=None,
            **{name: value for name, value in {**looks, **said.arguments(node)}.items() if value is not None},
        )
        task.custom_operator_name = KIND
        for reader in readers:
            connect(task, tasks.task(plan.node_tasks[reader]))


def _read_by(graph: Graph, tasks: GroupTasks) -> dict[str, list[str]]:
    """Return the sources without a task that nodes read, themselves or through ephemeral models, each with its readers."""
    found: dict[str, list[str]] = {}
    for unique_id in tasks.plan.node_tasks:
        waiting, seen = [unique_id], {unique_id}
        while waiting:
            for parent in graph.parents(waiting.pop()):
                if parent in seen or parent in tasks.plan.node_tasks:
                    continue
                seen.add(parent)
                node = graph.nodes[parent]
                if node.resource_type == SOURCE:
                    found.setdefault(parent, []).append(unique_id)
                elif node.materialized == "ephemeral":
                    waiting.append(parent)
    return found
