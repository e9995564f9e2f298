"""
What is wanted of an attempt: the options of dbt for this run, and the nodes that are left when the run narrows them and some are held back.

`producers.dbt_task` asks when it runs. What earlier attempts have done of it already is for `producers.retry_plan` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbt_watch.core.event_time import EVENT_TIME, RunDates, resolved
from dbt_watch.core.resume import selection_of_part
from dbt_watch.core.selection.near import complaint
from dbt_watch.core.selection.run_time import narrowed
from dbt_watch.producers.retry_plan import AttemptPlan

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from airflow.sdk import Context

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.results import NodeResult
    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.build_scope import BuildScope


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What is wanted of an attempt, before it is looked at what earlier ones have done.

    :param build: the options of dbt
    :param whole: what a first attempt would do; None when there is nothing to build
    :param left_out: what is known of the nodes that are not built, for the journal to tell
    """

    build: Mapping[str, Any]
    whole: AttemptPlan[Any] | None
    left_out: tuple[NodeResult, ...] = ()


def options_now(
    build: Mapping[str, Any], context: Context, attempt: Attempt, log: logging.Logger
) -> Mapping[str, Any]:
    """
    Return the options of dbt for an attempt: of this run of the DAG, and those of its first attempt where it was retried.

    :param build: a rendered `DbtBuild.to_dict()`
    :param context: of the task that runs dbt
    :param attempt: the attempt
    :param log: the task's
    """
    options = _dated(build, context, log)
    return attempt.memory.options_of_first_attempt(options) if context["ti"].max_tries else options


def _dated(build: Mapping[str, Any], context: Context, log: logging.Logger) -> Mapping[str, Any]:
    if EVENT_TIME not in build:
        return build
    dated = resolved(build, RunDates.of(context["dag_run"]))
    start, end = (dated.get(f"event_time_{name}") for name in ("start", "end"))
    if start is None:
        log.info("This run has no data interval: dbt decides which batches to build")
    else:
        log.info("Microbatch models are built from %s to %s", start, end)
    return dated


def wanted_of(
    attempt: Attempt,
    task_instance: Any,
    scope: BuildScope,
    build: Mapping[str, Any],
    *,
    compared: Graph,
    log: logging.Logger,
) -> Wanted:
    """
    Return what is wanted of an attempt, and have it know that.

    :param attempt: the attempt
    :param task_instance: of the task that runs dbt
    :param scope: what the task builds
    :param build: see `options_now`
    :param compared: the project, with what an earlier run knew of it where the options ask
    :param log: the task's
    """
    narrow = narrowed(
        compared,
        scope.selected,
        scope.selection,
        build,
        attempt=attempt.number,
        on_unmatched=lambda found: log.warning("%s", complaint(scope.graph, found)),
    )
    if not narrow.nodes:
        log.info("There is nothing to build: %s", narrow.left_out[0].message if narrow.left_out else "")
        attempt.wanted = frozenset()
        return Wanted(build, None, tuple(entry for entry in narrow.left_out if entry.unique_id in scope.own))
    attempt.left_to_dbt = narrow.left_to_dbt
    whole: AttemptPlan[Any] = AttemptPlan(narrow.nodes, narrow.selection)
    left_out = narrow.left_out
    if scope.part is not None:
        nodes = narrow.nodes & scope.part.nodes
        attempt.held = scope.held_back(task_instance, scope.part, nodes)
        ours = [entry for entry in left_out if entry.unique_id in scope.part.nodes]
        left_out = (*ours, *attempt.held.entries)
        nodes -= attempt.held.nodes
        if nodes.isdisjoint({node for task_nodes in scope.watched.values() for node in task_nodes}):
            attempt.wanted = frozenset()
            return Wanted(build, None, left_out)
        whole = AttemptPlan(nodes, selection_of_part(scope.graph, scope.selection, scope.selected, nodes))
    attempt.wanted = whole.nodes
    return Wanted(build, whole, left_out)
