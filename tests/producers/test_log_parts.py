"""What the log readers make of a line, of a pod's status and of an error."""

import pytest
from kubernetes import client
from kubernetes.client import models as k8s
from kubernetes_asyncio import client as async_client

from dbt_watch.producers.pods.api_errors import status_of
from dbt_watch.producers.pods.container_end import container_end, has_started
from dbt_watch.producers.pods.log_following import Overlap, Position, split_timestamp


@pytest.mark.parametrize(
    ("line", "stamp", "text"),
    [
        (b"2026-11-21T10:00:00.5Z text", ("2026-11-21T10:00:00", "500000000"), b"text"),
        (b"2026-11-21T10:00:00.000000001Z ", ("2026-11-21T10:00:00", "000000001"), b""),
        (b"2026-11-21T10:00:00Z  two", ("2026-11-21T10:00:00", "000000000"), b" two"),
        (b"2026-11-21T10:00:00.5+02:00 x", ("2026-11-21T10:00:00", "500000000"), b"x"),
        (b"unable to retrieve container logs", None, b"unable to retrieve container logs"),
        (b"", None, b""),
        (b"2026-11-21T10:00:00.5Ztext", None, b"2026-11-21T10:00:00.5Ztext"),
    ],
)
def test_the_timestamp_of_the_api_is_split_off(line, stamp, text):
    assert split_timestamp(line) == (stamp, text)


def pod_with(phase="Running", why=None, message=None, /, **terminated):
    state = k8s.V1ContainerState(
        terminated=k8s.V1ContainerStateTerminated(**terminated) if terminated else None
    )
    status = k8s.V1ContainerStatus(
        name="base", state=state, image="x", image_id="x", ready=False, restart_count=0
    )
    return k8s.V1Pod(
        status=k8s.V1PodStatus(phase=phase, reason=why, message=message, container_statuses=[status])
    )


@pytest.mark.parametrize(
    ("pod", "exit_code", "reason"),
    [
        (pod_with(exit_code=0, reason="Completed"), 0, None),
        (pod_with(exit_code=1, reason="Error"), 1, None),
        (pod_with(exit_code=137, reason="OOMKilled"), 137, "OOMKilled"),
        (
            pod_with("Failed", "Evicted", "The node was low on memory."),
            None,
            "Evicted: The node was low on memory.",
        ),
        (pod_with("Failed"), None, "the pod ended as Failed"),
        (pod_with("Succeeded"), None, "the pod ended as Succeeded"),
        (k8s.V1Pod(status=k8s.V1PodStatus(phase="Failed")), None, "the pod ended as Failed"),
        (pod_with("Failed", "Evicted", exit_code=137, reason="Error", message="said"), 137, "Evicted"),
        (pod_with("Failed", "Evicted", exit_code=137, reason="Evicted"), 137, "Evicted"),
        (pod_with("Failed", "Evicted", exit_code=137, reason="OOMKilled"), 137, "Evicted: OOMKilled"),
        (pod_with(exit_code=128, reason="StartError", message="no dbt"), 128, "StartError: no dbt"),
    ],
)
def test_how_a_container_ended_is_told_with_kubernetes_own_reason(pod, exit_code, reason):
    end = container_end(pod, "base")
    assert (end.exit_code, end.reason) == (exit_code, reason)


@pytest.mark.parametrize(
    "pod", [pod_with(), pod_with("Pending"), k8s.V1Pod(), k8s.V1Pod(status=k8s.V1PodStatus(phase="Pending"))]
)
def test_a_container_that_runs_or_waits_has_not_ended(pod):
    assert container_end(pod, "base") is None


def test_the_end_of_another_container_is_not_that_of_dbt():
    assert container_end(pod_with(exit_code=0), "sidecar") is None
    assert not has_started(pod_with(exit_code=0), "sidecar")


@pytest.mark.parametrize(
    ("state", "is_started"),
    [
        (k8s.V1ContainerState(running=k8s.V1ContainerStateRunning()), True),
        (k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=0)), True),
        (k8s.V1ContainerState(waiting=k8s.V1ContainerStateWaiting(reason="ImagePullBackOff")), False),
        (None, False),
    ],
)
def test_a_container_has_started_when_it_runs_or_has_run(state, is_started):
    pod = pod_with()
    pod.status.container_statuses[0].state = state
    assert has_started(pod, "base") is is_started


@pytest.mark.parametrize("pod", [k8s.V1Pod(), k8s.V1Pod(status=k8s.V1PodStatus())])
def test_a_pod_of_which_nothing_is_known_has_not_started(pod):
    assert not has_started(pod, "base")


A, B, C = ("10:00:00", "1"), ("10:00:00", "2"), ("10:00:01", "0")


@pytest.mark.parametrize(
    ("position", "stamps", "new", "after"),
    [
        (Position(), [A, A, B], [True] * 3, (B, 1)),
        (Position(), [A, A], [True] * 2, (A, 2)),
        (Position(B, 1, 0.0), [A, B, C], [False, False, True], (C, 1)),
        (Position(B, 1, 0.0), [B, B], [False, True], (B, 2)),
        (Position(B, 2, 0.0), [B, B, C], [False, False, True], (C, 1)),
        (Position(B, 1, 0.0), [C, A], [True, True], (A, 1)),
        (Position(B, 1, 0.0), [None, C, None], [False, True, True], (C, 1)),
        (Position(), [None], [True], (None, 0)),
    ],
)
def test_lines_that_were_read_before_a_cut_are_told_from_new_ones_by_their_timestamps(
    position, stamps, new, after
):
    overlap = Overlap(position)
    assert [overlap.is_new(stamp) for stamp in stamps] == new
    assert (position.stamp, position.repeats) == after


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (client.ApiException(status=404), 404),
        (async_client.ApiException(status="401"), 401),
        (client.ApiException(status=0), None),
        (ConnectionError("no answer"), None),
    ],
)
def test_the_status_of_an_error_is_that_of_the_answer_if_there_was_one(error, status):
    assert status_of(error) == status
