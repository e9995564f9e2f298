"""
The pods that earlier attempts of a task have left, and what is to become of them.

`producers.pods.operator` hands them to the `RetryPlanner` before each attempt but the first. Two pods of one project never run dbt
at the same time: one is taken over, or stopped and waited for, before there is another.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.airflow.pod_operator import plain_pod_manager
from dbt_watch.airflow.pods import attempt_of, is_checked, list_pods
from dbt_watch.airflow.task_instances import generation_of
from dbt_watch.producers.pods.api_errors import HTTP_NOT_FOUND, status_of
from dbt_watch.producers.pods.container_end import container_end
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.log_reader import PodLogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow.sdk import Context
    from kubernetes.client import V1Pod

    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.build_watch import BuildWatch

log = logging.getLogger(__name__)

# An annotation of a pod: between which clears the attempt was made that made it; see `generation_of`.
GENERATION: Final = "dbt-watch/max-tries"

# All in seconds.
POLL: Final = 1.0
GONE_WITHIN: Final = 120.0  # beyond a pod's own grace period
DEFAULT_GRACE: Final = 30.0
OLD_LOG_TIMEOUT: Final = 10.0  # the log of a pod that ended badly is read if it can be had


@dataclass(frozen=True, slots=True)
class EarlierPods:
    """
    What there is.

    :param running: the pod of an earlier attempt in which dbt runs, or is about to
    :param ended: the one in which it has ended, when nobody has looked at its end
    :param unwanted: those that run, and must not: what they belong to has been cleared or given up since
    :param leaving: those that are being deleted
    :param stale: those that have ended, and concern nobody any more
    """

    running: V1Pod | None = None
    ended: V1Pod | None = None
    unwanted: Sequence[V1Pod] = ()
    leaving: Sequence[V1Pod] = ()
    stale: Sequence[V1Pod] = ()


class PodsOfAttempts:
    """
    The pods of a task's earlier attempts: the `EarlierRuns` of a producer in pods.

    :param operator: the producer
    :param context: of the task that runs
    :param attempt: the attempt that comes after them
    :param namespace: that of the pods
    """

    def __init__(self, operator: Any, context: Context, attempt: Attempt, namespace: str) -> None:
        self._operator = operator
        self._attempt = attempt
        self._container: str = operator.base_container_name
        # Not the operator's own, which reads for the journal.
        self._manager = plain_pod_manager(operator)
        pods = list_pods(operator.client, namespace, operator.label_selector(context))
        generation = generation_of(attempt.task_instance) if operator.reattach_on_restart else ""
        self._found = sort_pods(pods, self._container, generation)
        self.running = self._found.running
        self.ended = self._found.ended

    def clear_away(self, *, everything: bool = False) -> None:
        """
        Stop what must not run on, and wait for its end.

        :param everything: what could be followed as well
        :raises TimeoutError: when a pod that is being deleted does not end
        """
        running, ended = ([pod] if everything and pod else [] for pod in (self.running, self.ended))
        unwanted = [*self._found.unwanted, *running]
        for pod in (*self._found.stale, *ended):
            self.put_aside(pod)
        for pod in unwanted:
            log.info(
                "Stopping dbt in pod %s of attempt %s: it was started before this task was cleared, or must not be taken over",
                pod.metadata.name,
                attempt_of(pod),
            )
            self._manager.delete_pod(pod)
        await_gone(
            [*unwanted, *self._found.leaving],
            self._manager.read_pod,
            self._container,
            self._attempt.tick,
        )

    def words(self, run: V1Pod) -> str:
        """Return what to call a pod."""
        return f"pod {run.metadata.name} of attempt {attempt_of(run)}"

    def exit_code(self, run: V1Pod) -> int | None:
        """Return dbt's exit code in a pod; None when it is not known."""
        end = container_end(run, self._container)
        return None if end is None else end.exit_code

    def end_words(self, run: V1Pod) -> str:
        """Return how dbt has ended in a pod."""
        return str(container_end(run, self._container))

    def read(self, run: V1Pod, watch: BuildWatch) -> None:
        """Read the log of a pod in which dbt has ended."""
        reader = PodLogReader(
            self._operator.client,
            self._manager.read_pod,
            run,
            self._container,
            position=Position(),
            on_lines=watch.take_lines,
            on_tick=self._attempt.tick,
            rest_timeout=OLD_LOG_TIMEOUT,
        )
        end = reader.follow()
        watch.end(end.exit_code, end.reason)

    def put_aside(self, run: V1Pod) -> None:
        """Do with a pod that has ended what the operator does after it, so that it is not found again."""
        self._operator.put_aside(run)


def sort_pods(pods: Iterable[V1Pod], container: str, generation: str) -> EarlierPods:
    """
    Say what each pod of a task is.

    :param pods: the pods with the labels of the task
    :param container: the one in which dbt runs
    :param generation: what the annotation `GENERATION` of a pod says that this attempt may take over
    """
    leaving: list[V1Pod] = []
    unwanted: list[V1Pod] = []
    stale: list[V1Pod] = []
    running: list[V1Pod] = []
    ended: list[V1Pod] = []
    for pod in sorted(pods, key=lambda pod: pod.metadata.creation_timestamp, reverse=True):
        is_ours = (pod.metadata.annotations or {}).get(GENERATION) == generation and not is_checked(pod)
        if container_end(pod, container) is not None:
            if not is_checked(pod):
                (ended if is_ours else stale).append(pod)
        elif pod.metadata.deletion_timestamp is not None:
            leaving.append(pod)
        else:
            (running if is_ours else unwanted).append(pod)
    # The newest counts; of one that runs beside another one nothing good can come.
    return EarlierPods(
        running=running[0] if running else None,
        ended=ended[0] if ended and not running else None,
        unwanted=unwanted + running[1:],
        leaving=leaving,
        stale=stale + (ended if running else ended[1:]),
    )


def await_gone(
    pods: Iterable[V1Pod], read: Callable[[V1Pod], V1Pod], container: str, on_tick: Callable[[], None]
) -> None:
    """
    Wait until dbt does not run any more in any of these pods, which are being deleted.

    :param pods: the pods
    :param read: reads one afresh; may raise
    :param container: the one in which dbt runs
    :param on_tick: called often
    :raises TimeoutError: when one runs on long after its grace period
    """
    for pod in pods:
        grace = pod.metadata.deletion_grace_period_seconds or pod.spec.termination_grace_period_seconds
        deadline = time.monotonic() + (grace or DEFAULT_GRACE) + GONE_WITHIN
        log.info("Waiting until dbt has ended in pod %s, which is being deleted", pod.metadata.name)
        while not _has_ended(pod, read, container):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"pod {pod.metadata.name} is being deleted but still exists, and dbt must not run twice"
                )
            on_tick()
            time.sleep(POLL)


def _has_ended(pod: V1Pod, read: Callable[[V1Pod], V1Pod], container: str) -> bool:
    try:
        return container_end(read(pod), container) is not None
    except Exception as error:  # noqa: BLE001 - whatever it is, the pod may still be there
        if status_of(error) == HTTP_NOT_FOUND:
            return True
        log.warning("Asking for the state of pod %s failed (%s); retrying", pod.metadata.name, error)
        return False
