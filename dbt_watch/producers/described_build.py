"""
How a build is described to those who follow it: to the watch on a worker, to a trigger that goes on with it, and to the page.

`producers.dbt_task` asks once it is known what an attempt builds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbt_watch.airflow.secrets import redact
from dbt_watch.core.manifest.columns import columns_at
from dbt_watch.core.run_notes import outline_of
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.dbt_trigger import pack
from dbt_watch.producers.lineage import packed_plan

if TYPE_CHECKING:
    import logging
    from collections.abc import Collection
    from datetime import timedelta

    from dbt_watch.lineage.plan import LineagePlan
    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.build_scope import BuildScope


def watch_of(
    attempt: Attempt, scope: BuildScope, nodes: Collection[str], log: logging.Logger, *, tells_failures: bool
) -> BuildWatch:
    """
    Return what follows an attempt on its worker.

    :param attempt: the attempt
    :param scope: what its task builds
    :param nodes: the unique_ids of what the attempt builds
    :param log: the task's
    :param tells_failures: whether the log says at once why dbt has failed
    """
    return BuildWatch(
        scope.nodes(nodes),
        attempt=attempt.number,
        show=lambda line: log.info("%s", line),
        writer=attempt.writer,
        redact=redact,
        stale=scope.stale(nodes, attempt),
        drift=scope.drift(nodes, attempt),
        held=attempt.held,
        warn=lambda line: log.warning("%s", line),
        fail=(lambda line: log.error("%s", line)) if tells_failures else _say_nothing,
        listener=attempt.lineage,
    )


def _say_nothing(line: str) -> None:
    del line


def trigger_arguments(
    attempt: Attempt,
    scope: BuildScope,
    nodes: Collection[str],
    *,
    lineage: LineagePlan | None,
    limit: timedelta | None,
) -> dict[str, Any]:
    """
    Return what a `DbtTrigger` needs to know of an attempt, to go on with it.

    :param attempt: the attempt
    :param scope: what its task builds
    :param nodes: the unique_ids of what the attempt builds
    :param lineage: what its OpenLineage events are made of; None where there are none
    :param limit: how long the task may take; None where it may take as long as it likes
    """
    deadline = None
    if limit is not None:
        deadline = attempt.task_instance.start_date.timestamp() + limit.total_seconds()
    return {
        "nodes": pack(
            scope.nodes(nodes), scope.stale(nodes, attempt), scope.drift(nodes, attempt), attempt.held
        ),
        "attempt": attempt.number,
        "will_retry": attempt.will_retry,
        "began": attempt.began,
        "deadline": deadline,
        "lineage": packed_plan(lineage),
    }


def tell_outline(attempt: Attempt, scope: BuildScope, *, manifest: str, group: str) -> None:
    """
    Tell the page what is built.

    :param attempt: the attempt
    :param scope: what its task builds
    :param manifest: where the manifest is that the DAG was made of
    :param group: the id of the project's task group
    """
    shown = scope.shown(attempt)
    described = columns_at(manifest)
    attempt.notes.outline(
        outline_of(scope.graph, shown, scope.watched, group),
        {node: columns for node, columns in described.items() if node in shown},
        attempt.memory.tries if attempt.number > 1 else (),
    )
