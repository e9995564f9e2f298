"""What the operator writes on its pods: the labels by which they are found again and told apart; and how often it asks the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubernetes.client import CoreV1Api, V1Pod

T = TypeVar("T")


def asked_again(ask: Callable[[], T]) -> T:
    """
    Ask the Kubernetes API, as often as the operator would where it does not answer or has too much to do.

    :param ask: one request, or several; called again as a whole
    :raises ApiException: when it refuses, or still does not answer
    """
    answer: T = generic_api_retry(ask)()
    return answer


def list_pods(client: CoreV1Api, namespace: str, label_selector: str) -> list[V1Pod]:
    """
    Return the pods with some labels; an API that does not answer is asked as often as the operator would.

    :raises ApiException: when it refuses, or still does not answer
    """
    found = asked_again(
        lambda: client.list_namespaced_pod(namespace=namespace, label_selector=label_selector)
    )
    return list(found.items)


def is_checked(pod: V1Pod) -> bool:
    """Return whether an earlier try of the task has looked at the end of a pod, and marked it so that no other does."""
    return (pod.metadata.labels or {}).get(KubernetesPodOperator.POD_CHECKED_KEY) == "True"


def attempt_of(pod: V1Pod) -> Any:
    """Return the number of the try that made a pod."""
    return (pod.metadata.labels or {}).get("try_number", "?")
