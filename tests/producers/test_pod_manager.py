"""What is read of a pod on a worker, and whom it is for."""

from types import SimpleNamespace

import pytest
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from kubernetes.client import (
    V1ContainerState,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1Pod,
    V1PodSpec,
    V1PodStatus,
)

from dbt_watch.producers.pods import pod_manager
from dbt_watch.producers.pods.pod_manager import WatchingPodManager

POSITION = object()


class Attempt:
    """An attempt, which notes what it is told."""

    def __init__(self, watch):
        self.watch = watch
        self.pod = self.end = None
        self.told = []
        self.phases = []
        self.profile = None

    def tick(self):
        self.told.append("tick")

    def tell_phase(self, *phase):
        self.phases.append(phase)

    def close(self, exit_code, reason):
        self.told.append((exit_code, reason))


@pytest.fixture
def readers(monkeypatch):
    """What the readers are made with; each of them reads to its end at once."""
    readers = []

    def make(*args, **kwargs):
        readers.append((args, kwargs))
        return SimpleNamespace(follow=lambda: SimpleNamespace(exit_code=3, reason="why"))

    monkeypatch.setattr(pod_manager, "PodLogReader", make)
    monkeypatch.setattr(PodManager, "read_pod", lambda self, pod: pod)
    return readers


def manager(attempt):
    operator = SimpleNamespace(client="api", callbacks=[], base_container_name="base")
    return WatchingPodManager(operator, attempt=attempt, position=POSITION)


def test_each_time_a_pod_is_read_the_attempt_gets_to_see_it(readers):
    attempt, pod = Attempt("watch"), V1Pod(spec=V1PodSpec(containers=[]), status=V1PodStatus(phase="Pending"))
    assert manager(attempt).read_pod(pod) == attempt.pod
    assert attempt.told == ["tick"]


def test_while_a_pod_starts_the_attempt_tells_what_it_waits_for(readers):
    attempt, made = Attempt("watch"), manager(Attempt("watch"))
    made._attempt = attempt
    waiting = V1ContainerStateWaiting(reason="ImagePullBackOff", message="no such image")
    for state in (V1ContainerState(), V1ContainerState(waiting=waiting), V1ContainerState(running={})):
        status = V1ContainerStatus(
            name="base", image="dbt", image_id="1", ready=False, restart_count=0, state=state
        )
        made.read_pod(
            V1Pod(
                spec=V1PodSpec(containers=[]),
                status=V1PodStatus(phase="Pending", container_statuses=[status]),
            )
        )
    assert attempt.phases == [
        ("pod", "pod pending: waiting for a node"),
        ("pod", "pod pending: ImagePullBackOff: no such image"),
        ("parsing", "dbt is starting and reading the project"),
    ]


def test_a_log_is_followed_for_the_attempt_which_is_closed_at_its_end(readers):
    attempt = Attempt(SimpleNamespace(take_lines="take"))
    assert manager(attempt).follow_log("pod") is True
    (((api, read_pod, *what), how),) = readers
    assert (api, what) == ("api", ["pod", "base"])
    assert how == {"position": POSITION, "on_lines": "take", "on_tick": attempt.tick}
    assert (attempt.end.exit_code, attempt.told) == (3, [(3, "why")])
    # The reader sees to the attempt's turns itself, while it waits for the pod.
    assert read_pod("pod") == "pod"
    assert attempt.told == [(3, "why")]


def test_a_log_that_nobody_watches_is_left_to_the_provider(readers):
    attempt = Attempt(None)
    assert manager(attempt).follow_log("pod") is False
    assert not readers
    assert not attempt.told
