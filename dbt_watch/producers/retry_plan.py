"""
What an attempt of the producer does: build all, build what is not done, or take over a pod that builds it already.

`producers.operator` asks before each attempt but the first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.airflow.compat import AirflowFailException
from dbt_watch.airflow.pod_operator import plain_pod_manager
from dbt_watch.airflow.pods import attempt_of, list_pods
from dbt_watch.airflow.secrets import redact
from dbt_watch.airflow.supervisor import patiently, read_states_now
from dbt_watch.airflow.task_instances import generation_of, key_of
from dbt_watch.core.resume import deaf_tasks, remaining_nodes, selection_of
from dbt_watch.core.task_states import SUCCESS
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.earlier_pods import EarlierPods, await_gone, sort_pods
from dbt_watch.producers.log_reader import PodLogReader, Position, container_end

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context
    from kubernetes.client import V1Pod

    from dbt_watch.core.command import Selection
    from dbt_watch.core.results import NodeResult
    from dbt_watch.producers.attempt import Attempt

log = logging.getLogger(__name__)

# In seconds: the log of a pod that ended badly is read if it can be had.
OLD_LOG_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """
    What an attempt does.

    :param nodes: the nodes that it builds
    :param selection: how dbt is asked for them
    :param pod: the pod of an earlier attempt that builds them already
    :param adopted: what an earlier pod has built, for the journal to tell
    """

    nodes: frozenset[str]
    selection: Selection
    pod: V1Pod | None = None
    adopted: Sequence[NodeResult] = ()


class RetryPlanner:
    """
    Makes the plan of an attempt that is not the first.

    :param operator: the producer
    :param context: of the task that runs
    :param attempt: the attempt
    :param whole: the plan of a first attempt
    """

    def __init__(self, operator: Any, context: Context, attempt: Attempt, whole: AttemptPlan) -> None:
        self._operator = operator
        self._whole = whole
        self._context = context
        self._attempt = attempt
        # Not the operator's own, which reads for the journal.
        self._pods = plain_pod_manager(operator)

    def plan(self, namespace: str) -> AttemptPlan | None:
        """
        Make the plan; whatever must not run beside it has ended then.

        :param namespace: that of the pods
        :returns: None when all is done already
        :raises TimeoutError: when an earlier pod does not end
        :raises AirflowFailException: when sensors have failed that were not cleared with the producer
        """
        operator, ti = self._operator, self._attempt.task_instance
        earlier = self._earlier(namespace)
        self._clear_away(earlier)
        states = patiently(lambda: read_states_now(key_of(ti), operator.watched))
        remaining = remaining_nodes(self._whole.nodes, operator.watched, states)
        built = self._built(remaining)
        plan = self._of(remaining - {result.unique_id for result in built}, earlier, states)
        return plan if plan is None else replace(plan, adopted=(*plan.adopted, *built))

    def stop_all(self, namespace: str) -> None:
        """
        See to it that dbt runs on in no pod of an earlier attempt, where this one has nothing to build.

        :param namespace: that of the pods
        :raises TimeoutError: when one does not end
        """
        earlier = self._earlier(namespace)
        running, ended = ([] if pod is None else [pod] for pod in (earlier.running, earlier.ended))
        self._clear_away(
            EarlierPods(
                unwanted=[*earlier.unwanted, *running],
                leaving=earlier.leaving,
                stale=[*earlier.stale, *ended],
            )
        )

    def _built(self, remaining: frozenset[str]) -> list[NodeResult]:
        """Return what an earlier attempt has built of an isolated node, whose state its own task cannot tell."""
        built = [result for result in self._attempt.memory.built if result.unique_id in remaining]
        return built if len(built) < len(remaining) else []

    def _of(
        self, remaining: frozenset[str], earlier: EarlierPods, states: Mapping[str, str | None]
    ) -> AttemptPlan | None:
        operator = self._operator
        if self._attempt.is_first_since_clear:
            _refuse_deaf(deaf_tasks(remaining, operator.watched, states), operator.task_id)
        if earlier.running is not None:
            log.info(
                "dbt still runs in pod %s of attempt %s: following it, from the beginning of its log",
                earlier.running.metadata.name,
                attempt_of(earlier.running),
            )
            return AttemptPlan(remaining, self._whole.selection, pod=earlier.running)
        if earlier.ended is not None:
            return self._after(earlier.ended, remaining)
        own = self._attempt.task_instance.task_id
        others = [state for task, state in states.items() if task != own]
        is_all_done = bool(others) and all(state == SUCCESS for state in others)
        if is_all_done and self._attempt.memory.is_done:
            log.info(
                "dbt has ended well in an earlier attempt, and all tasks are done: nothing is left to build"
            )
            return None
        return self._build(remaining)

    def _earlier(self, namespace: str) -> EarlierPods:
        operator = self._operator
        pods = list_pods(operator.client, namespace, operator.label_selector(self._context))
        generation = generation_of(self._attempt.task_instance) if operator.reattach_on_restart else ""
        return sort_pods(pods, operator.base_container_name, generation)

    def _clear_away(self, earlier: EarlierPods) -> None:
        """Stop what must not run on, and wait for its end."""
        for pod in earlier.stale:
            self._operator.put_aside(pod)
        for pod in earlier.unwanted:
            log.info(
                "Stopping dbt in pod %s of attempt %s: it has been started before this task was cleared, or is not"
                " to be taken over",
                pod.metadata.name,
                attempt_of(pod),
            )
            self._pods.delete_pod(pod)
        await_gone(
            [*earlier.unwanted, *earlier.leaving],
            self._pods.read_pod,
            self._operator.base_container_name,
            self._attempt.tick,
        )

    def _after(self, pod: V1Pod, remaining: frozenset[str]) -> AttemptPlan:
        """Go on after a pod whose end nobody has looked at."""
        end = container_end(pod, self._operator.base_container_name)
        where = (pod.metadata.name, attempt_of(pod))
        if end is not None and end.exit_code == 0:
            log.info("dbt has ended well in pod %s of attempt %s; reading its log", *where)
            return AttemptPlan(remaining, self._whole.selection, pod=pod)
        log.info("dbt has ended badly in pod %s of attempt %s (%s); reading its log", *where, end)
        adopted = [
            result
            for result in self._read(pod, remaining)
            if result.unique_id in remaining and (result.is_success or result.is_warning)
        ]
        self._operator.put_aside(pod)
        left = remaining - {result.unique_id for result in adopted}
        return replace(self._build(left), adopted=adopted) if left else self._build(remaining)

    def _read(self, pod: V1Pod, nodes: frozenset[str]) -> list[NodeResult]:
        operator = self._operator
        watch = BuildWatch(
            {unique_id: operator.graph.nodes[unique_id] for unique_id in nodes},
            attempt=self._attempt.number,
            show=lambda line: operator.log.info("%s", line),
            redact=redact,
        )
        reader = PodLogReader(
            operator.client,
            self._pods.read_pod,
            pod,
            operator.base_container_name,
            position=Position(),
            on_lines=watch.take_lines,
            on_tick=self._attempt.tick,
            rest_timeout=OLD_LOG_TIMEOUT,
        )
        end = reader.follow()
        watch.end(end.exit_code, end.reason)
        return watch.results

    def _build(self, nodes: frozenset[str]) -> AttemptPlan:
        count = len(self._whole.nodes)
        if nodes == self._whole.nodes:
            log.info("Building all %d nodes", count)
            return self._whole
        selection = selection_of(self._operator.graph, nodes)
        if selection is None:
            log.info("Building all %d nodes: no selection fits what is left", count)
            return self._whole
        log.info("Building the %d of %d nodes that are not done", len(nodes), count)
        return AttemptPlan(nodes, selection)


def _refuse_deaf(tasks: Sequence[str], producer: str) -> None:
    """
    Refuse to build nodes whose tasks would stay red whatever became of them.

    :raises AirflowFailException: naming the tasks, if there are any
    """
    if tasks:
        raise AirflowFailException(
            f"dbt was not started: {named(tasks)} have failed and were not cleared together with {producer}, so they"
            " would stay failed whatever dbt builds. Clear them together: all failed tasks of the run, or the task group"
        )


MAX_NAMES: Final = 20


def named(tasks: Sequence[str]) -> str:
    """Name tasks, the first 20 of them."""
    more = f" and {len(tasks) - MAX_NAMES} more" if len(tasks) > MAX_NAMES else ""
    return f"{len(tasks)} tasks ({', '.join(tasks[:MAX_NAMES])}{more})"
