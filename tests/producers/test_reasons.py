"""One line from an error and from a pod's status."""

import json

import pytest
from kubernetes.client import ApiException
from kubernetes.client import models as k8s
from urllib3.exceptions import MaxRetryError

from dbt_watch.producers.pods.failure_reasons import broken_off, words_of

TIMEOUT = "Pod took too long to start. More than 120s. Check the pod events in kubernetes."
PULL = 'Image cannot be pulled, unable to start: ErrImagePull failed to pull "shop:2"'


def refused(status, reason, body):
    error = ApiException(status=status, reason=reason)
    error.body = body
    return error


class Unreadable(Exception):
    """An answer that has nothing but a status, such as that of a proxy."""

    status = 502


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            refused(404, "Not Found", json.dumps({"message": 'namespaces "dbt" not found'})),
            'namespaces "dbt" not found',
        ),
        (refused(403, "Forbidden", b'{"message": "exceeded quota:\\nq"}'), "exceeded quota: q"),
        (refused(502, "Bad Gateway", "<html>"), "HTTP 502 Bad Gateway"),
        (refused(500, "Internal", json.dumps(["?"])), "HTTP 500 Internal"),
        (refused(500, "Internal", json.dumps({"kind": "Status"})), "HTTP 500 Internal"),
        (Unreadable(), "HTTP 502"),
        (
            MaxRetryError(None, "/api", "refused"),
            "None: Max retries exceeded with url: /api (Caused by 'refused')",
        ),
        (ValueError("several\n  lines"), "several lines"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_is_one_line(error, words):
    assert words_of(error) == words


def waiting(name, reason, message=None):
    return container(name, waiting=k8s.V1ContainerStateWaiting(reason=reason, message=message))


def container(name, **state):
    return k8s.V1ContainerStatus(
        name=name, state=k8s.V1ContainerState(**state), image="", image_id="", ready=False, restart_count=0
    )


def stateless(name):
    """Return the status of a container of which the kubelet has told nothing yet."""
    return k8s.V1ContainerStatus(name=name, image="", image_id="", ready=False, restart_count=0)


def pod(*containers, init=(), **status):
    return k8s.V1Pod(
        status=k8s.V1PodStatus(
            container_statuses=list(containers) or None, init_container_statuses=list(init) or None, **status
        )
    )


DONE = k8s.V1ContainerStateTerminated(exit_code=0, reason="Completed")
ENDED = k8s.V1ContainerStateTerminated(exit_code=3, reason="Error")
KILLED = k8s.V1ContainerStateTerminated(exit_code=137, reason="OOMKilled", message="64 MiB")
ROOM = k8s.V1PodCondition(type="PodScheduled", status="True", reason="Bound", message="node 1")
NOT_READY = k8s.V1PodCondition(type="Ready", status="False", reason="ContainersNotReady", message="base")
NO_ROOM = k8s.V1PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes")


@pytest.mark.parametrize(
    ("words", "seen", "expected"),
    [
        ("why", None, "why"),
        (TIMEOUT, pod(waiting("base", "ContainerCreating")), TIMEOUT),
        (
            PULL,
            pod(waiting("base", "ErrImagePull", 'failed to pull "shop:2"')),
            'ErrImagePull: failed to pull "shop:2"',
        ),
        (
            TIMEOUT,
            pod(waiting("base", "CreateContainerConfigError", 'secret "db" not found')),
            'Pod took too long to start. More than 120s: CreateContainerConfigError: secret "db" not found',
        ),
        (
            TIMEOUT,
            pod(waiting("sidecar", "ImagePullBackOff"), waiting("base", "PodInitializing")),
            "Pod took too long to start. More than 120s: ImagePullBackOff",
        ),
        (
            "Pod returned a failure",
            pod(waiting("base", "PodInitializing"), init=[container("secrets", terminated=ENDED)]),
            "Pod returned a failure: init container secrets ended with exit code 3",
        ),
        (
            "Failed",
            pod(init=[container("secrets", terminated=KILLED)]),
            "Failed: init container secrets ended with exit code 137: OOMKilled: 64 MiB",
        ),
        ("Failed", pod(init=[container("secrets", terminated=DONE)]), "Failed"),
        ("Failed", pod(init=[container("secrets", running=k8s.V1ContainerStateRunning())]), "Failed"),
        ("Failed", pod(stateless("base"), init=[stateless("secrets")]), "Failed"),
        (
            "Failed",
            pod(waiting("a", "ImagePullBackOff"), waiting("base", "CreateContainerError")),
            "Failed: CreateContainerError",
        ),
        ("Failed", pod(conditions=[ROOM, NOT_READY]), "Failed"),
        ("Too long", pod(conditions=[NO_ROOM]), "Too long: Unschedulable: 0/1 nodes"),
        ("Pod failed", pod(reason="Evicted", message="low on memory"), "Pod failed: Evicted: low on memory"),
    ],
)
def test_a_pod_that_has_not_started_says_why(words, seen, expected):
    assert broken_off(words, seen, "base") == f"the pod did not run dbt: {expected}"


def test_a_pod_that_has_started_is_not_asked():
    seen = pod(
        container("base", running=k8s.V1ContainerStateRunning()), waiting("sidecar", "ImagePullBackOff")
    )
    assert broken_off("gone", seen, "base") == "the pod did not run dbt to its end: gone"


def test_a_volume_that_cannot_be_mounted_is_told_by_an_event_only():
    seen = pod(waiting("base", "ContainerCreating"))
    told = [
        happened("Normal", "Scheduled", "assigned"),
        happened("Warning", "FailedMount", 'secret "p" not found'),
    ]
    pulled = happened("Normal", "Pulled", "there")
    assert broken_off(TIMEOUT, seen, "base", [*told, pulled]) == (
        'the pod did not run dbt: Pod took too long to start. More than 120s: FailedMount: secret "p" not found'
    )


def happened(kind, reason, message):
    return k8s.CoreV1Event(
        type=kind,
        reason=reason,
        message=message,
        metadata=k8s.V1ObjectMeta(),
        involved_object=k8s.V1ObjectReference(),
    )
