"""
The pods that earlier attempts of a task have left, and what is to become of them.

`producers.operator` asks before each attempt but the first. Two pods of one project never run dbt at the same time: one is
taken over, or stopped and waited for, before there is another.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbt_watch.airflow.pods import is_checked
from dbt_watch.producers.log_reader import HTTP_NOT_FOUND, container_end, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kubernetes.client import V1Pod

log = logging.getLogger(__name__)

# An annotation of a pod: between which clears the attempt was made that made it; see `generation_of`.
GENERATION: Final = "dbt-watch/max-tries"

# All in seconds.
POLL: Final = 1.0
GONE_WITHIN: Final = 120.0  # beyond a pod's own grace period
DEFAULT_GRACE: Final = 30.0


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
                    f"pod {pod.metadata.name}, which is being deleted, is still there, and dbt must not run twice"
                )
            on_tick()
            time.sleep(POLL)


def _has_ended(pod: V1Pod, read: Callable[[V1Pod], V1Pod], container: str) -> bool:
    try:
        return container_end(read(pod), container) is not None
    except Exception as error:  # noqa: BLE001 - whatever it is, the pod may still be there
        if status_of(error) == HTTP_NOT_FOUND:
            return True
        log.warning("Asking for the state of pod %s failed (%s); asking again", pod.metadata.name, error)
        return False
