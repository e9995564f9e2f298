"""
The pods of one project in one DAG run: the producer's, and those of sensors that build their nodes alone.

dbt must not run in two of them at once. Each pod bears the name of its project and run as a label, and of its task as an
annotation, so each of these tasks finds the pods of the others: `await_others` before it makes its own, and
`give_way` after, since two may have looked at the same moment. The one that gives way is the sensor.

Airflow's word alone would not do: a pod may run on though its task has ended, when a worker was killed.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.airflow.pods import attempt_of, list_pods
from dbt_watch.airflow.supervisor import patiently, read_state_now, read_states_now
from dbt_watch.airflow.task_instances import generation_of, key_of
from dbt_watch.core.task_states import OVER
from dbt_watch.exceptions import ProjectIsBusy
from dbt_watch.producers.pods.api_errors import HTTP_NOT_FOUND, status_of
from dbt_watch.producers.pods.container_end import container_end
from dbt_watch.producers.pods.earlier_pods import GENERATION, await_gone
from dbt_watch.producers.waiting import Reminders, await_ends, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import V1Pod

log = logging.getLogger(__name__)

RUN_LABEL: Final = "dbt-watch/run"
TASK_ANNOTATION: Final = "dbt-watch/task"

# In seconds.
POLL: Final = 2.0


class ProjectPods:
    """
    The pods of a project in the run of a task.

    :param operator: the producer, or the copy of it with which a sensor builds its nodes
    :param task_instance: of the task that makes a pod
    """

    def __init__(self, operator: Any, task_instance: Any) -> None:
        self._operator = operator
        self._task_instance = task_instance
        self._producer = key_of(task_instance, operator.task_id)

    @property
    def is_lone(self) -> bool:
        """Whether the task is a sensor."""
        return bool(self._task_instance.task_id != self._producer.task_id)

    @property
    def run_label(self) -> str:
        """The value of the label that all pods of the project in this run have, and no others."""
        key = self._producer
        words = "\0".join((key.dag_id, key.run_id, key.task_id, str(key.map_index)))
        return hashlib.sha256(words.encode()).hexdigest()[:32]

    def mark(self, pod: V1Pod) -> None:
        """Label and annotate a pod that is to be made, so that other tasks and later attempts know whose it is."""
        metadata, ti = pod.metadata, self._task_instance
        metadata.labels = {**(metadata.labels or {}), RUN_LABEL: self.run_label}
        whose = {GENERATION: generation_of(ti), TASK_ANNOTATION: ti.task_id}
        metadata.annotations = {**(metadata.annotations or {}), **whose}

    def others(self, namespace: str) -> list[V1Pod]:
        """Return the pods of other tasks in which dbt has not ended."""
        pods = list_pods(self._operator.client, namespace, f"{RUN_LABEL}={self.run_label}")
        container = self._operator.base_container_name
        own = self._task_instance.task_id
        return [pod for pod in pods if _task_of(pod) != own and container_end(pod, container) is None]

    def await_others(self, namespace: str, on_tick: Callable[[], None]) -> None:
        """
        Wait until dbt has ended in the pods of all other tasks.

        A pod whose task has ended is nobody's any more, as after the death of a worker; it is stopped.

        :param namespace: that of the pods
        :param on_tick: called often meanwhile; may raise to stop the waiting
        :raises TimeoutError: when a pod that is being deleted does not end
        """
        reminders = Reminders()
        waited_for: set[str] = set()
        while others := self.others(namespace):
            owners = sorted({_task_of(pod) for pod in others})
            states = patiently(functools.partial(read_states_now, self._producer, owners))
            if unwanted := [pod for pod in others if _is_leaving(pod) or states[_task_of(pod)] in OVER]:
                for pod in unwanted:
                    self._stop(pod)
                await_gone(unwanted, self._read, self._operator.base_container_name, on_tick)
                continue
            waited_for.update(owners)
            for pod in others:
                if reminders.is_due(pod.metadata.name):
                    log.info("Waiting until dbt has ended in pod %s of %s", pod.metadata.name, _task_of(pod))
            pause(POLL, on_tick)
        await_ends(self._producer, waited_for, POLL, on_tick)

    def give_way(self, pod: V1Pod) -> None:
        """
        Find out whether a sensor must give way although its pod is there: to the producer, or to another sensor.

        The producer looks for pods once it is running, and a sensor for the producer's state once it has a pod. So, however
        the two meet, one of them sees the other.

        :param pod: the sensor's; deleted when it has to give way
        :raises ProjectIsBusy: if it has to
        """
        state = patiently(lambda: read_state_now(self._producer))
        if state not in OVER:
            self._delete(pod)
            raise ProjectIsBusy(f"{self._producer.task_id} is {state}: it builds the project")
        for other in self.others(pod.metadata.namespace):
            self._delete(pod)
            raise ProjectIsBusy(f"dbt runs in pod {other.metadata.name} of {_task_of(other)}")

    def _stop(self, pod: V1Pod) -> None:
        if not _is_leaving(pod):
            whose = (_task_of(pod), attempt_of(pod))
            log.info("Stopping dbt in pod %s: its task %s (attempt %s) has ended", pod.metadata.name, *whose)
            self._delete(pod)

    def _read(self, pod: V1Pod) -> V1Pod:
        return self._operator.client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)

    def _delete(self, pod: V1Pod) -> None:
        try:
            self._operator.client.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
        except Exception as error:
            if status_of(error) != HTTP_NOT_FOUND:
                raise


def _is_leaving(pod: V1Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _task_of(pod: V1Pod) -> str:
    return str((pod.metadata.annotations or {}).get(TASK_ANNOTATION, ""))
