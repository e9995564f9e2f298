"""What the operator writes on its pods: the labels by which they are found again and told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Pod


def list_pods(client: CoreV1Api, namespace: str, label_selector: str) -> list[V1Pod]:
    """
    Return the pods with some labels; an API that does not answer is asked as often as the operator would.

    :raises ApiException: when it refuses, or still does not answer
    """
    ask = generic_api_retry(client.list_namespaced_pod)
    return list(ask(namespace=namespace, label_selector=label_selector).items)


def is_checked(pod: V1Pod) -> bool:
    """Return whether an earlier try of the task has looked at the end of a pod, and marked it so that no other does."""
    return (pod.metadata.labels or {}).get(KubernetesPodOperator.POD_CHECKED_KEY) == "True"


def attempt_of(pod: V1Pod) -> Any:
    """Return the number of the try that made a pod."""
    return (pod.metadata.labels or {}).get("try_number", "?")
