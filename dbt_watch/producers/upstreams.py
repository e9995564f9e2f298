"""
What came before a part of a project: how those tasks have ended, and which nodes they hold back.

`producers.dbt_task` and `producers.build_scope` ask when a part is about to run, on its worker.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.airflow.supervisor import patiently, read_all_states_now, read_states_now, read_xcom_now
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.held_back import HeldBack, UpstreamEnd, held_back
from dbt_watch.core.task_states import FAILED, NEVER_RUNS, RED, SKIPPED, SUCCESS
from dbt_watch.core.xcom_values import results_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from dbt_watch.core.log.stale_sources import OnStale
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.part import Part, Upstream


def raise_if_missing(task_instance: Any, task_ids: Iterable[str]) -> None:
    """
    See to it that the tasks whose values dbt is called with have ended well.

    Airflow's own rule for that is not theirs to keep where other tasks before the part may fail.

    :raises AirflowFailException: when one of them has failed
    :raises AirflowSkipException: when one of them was skipped
    """
    states = _worst_states(task_instance, task_ids)
    for wanted, error, word in (
        (RED, AirflowFailException, "failed"),
        ({SKIPPED}, AirflowSkipException, "was skipped"),
    ):
        names = ", ".join(sorted(task_id for task_id, state in states.items() if state in wanted))
        if names:
            raise error(f"dbt was not started: {names} {word}")


def held_back_of(
    task_instance: Any, part: Part, nodes: Collection[str], graph: Graph, *, on_stale: OnStale
) -> HeldBack:
    """
    Return which nodes of a part are held back now.

    :param task_instance: of the task that runs dbt
    :param part: the part
    :param nodes: the unique_ids that it would build
    :param graph: the project
    :param on_stale: what becomes of nodes behind a stale source
    """
    key = key_of(task_instance)
    ours = [upstream.task_id for upstream in part.upstreams if upstream.node is not None]
    others = [upstream.task_id for upstream in part.upstreams if upstream.node is None]
    states = patiently(lambda: read_states_now(key, ours)) if ours else {}
    states |= _worst_states(task_instance, others)
    ends = {
        upstream.task_id: _end(task_instance, upstream, states[upstream.task_id])
        for upstream in part.upstreams
    }
    return held_back(graph, nodes, part.upstreams, ends, on_stale=on_stale, attempt=task_instance.try_number)


def _end(task_instance: Any, upstream: Upstream, state: str | None) -> UpstreamEnd:
    if state == SUCCESS or upstream.node is None:
        return UpstreamEnd(state)
    value = patiently(
        functools.partial(read_xcom_now, key_of(task_instance, upstream.task_id), "return_value")
    )
    return UpstreamEnd(state, tuple(results_in(value)))


def _worst_states(task_instance: Any, task_ids: Iterable[str]) -> dict[str, str | None]:
    """Return the state of each of some tasks; of a mapped one, the worst that one of its instances has."""
    wanted = list(task_ids)
    if not wanted:
        return {}
    key = key_of(task_instance)
    found: Mapping[str, list[str | None]] = patiently(lambda: read_all_states_now(key, wanted))
    return {task_id: _worst(states) for task_id, states in found.items()}


def _worst(states: Collection[str | None]) -> str | None:
    if not states:
        return None
    if any(state in RED for state in states):
        return FAILED
    # Of a mapped task that has fewer instances now than before, those that are left over are "removed".
    return SKIPPED if all(state in NEVER_RUNS for state in states) else SUCCESS
