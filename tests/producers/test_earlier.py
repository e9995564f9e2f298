"""What becomes of the pods that earlier attempts have left."""

import sys
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from harness import until
from kubernetes import client, config
from kubernetes.client import models as k8s

from dbt_watch.airflow.pods import attempt_of
from dbt_watch.local.localkube import Image, LocalKube, Mount
from dbt_watch.producers.pods import earlier_pods as earlier
from dbt_watch.producers.pods.earlier_pods import GENERATION, await_gone, sort_pods

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
OURS = "2"


def pod(name, *, generation=OURS, checked=False, deleted=False, exit_code=None, age=0, phase="Running"):
    if exit_code is None:
        state = k8s.V1ContainerState(running=k8s.V1ContainerStateRunning())
    else:
        state = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=exit_code))
    status = k8s.V1ContainerStatus(
        name="base", state=state, image="", image_id="", ready=True, restart_count=0
    )
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(
            name=name,
            labels={KubernetesPodOperator.POD_CHECKED_KEY: "True"} if checked else {},
            annotations={GENERATION: generation},
            creation_timestamp=NOW - timedelta(minutes=age),
            deletion_timestamp=NOW if deleted else None,
        ),
        status=k8s.V1PodStatus(phase=phase, container_statuses=[status]),
    )


def names(found):
    return {
        kind: [item.metadata.name for item in pods]
        for kind, pods in {
            "running": [found.running] if found.running else [],
            "ended": [found.ended] if found.ended else [],
            "unwanted": found.unwanted,
            "leaving": found.leaving,
            "stale": found.stale,
        }.items()
        if pods
    }


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], {}),
        ([pod("a")], {"running": ["a"]}),
        ([pod("a", phase="Pending")], {"running": ["a"]}),
        ([pod("a", exit_code=0)], {"ended": ["a"]}),
        ([pod("a", exit_code=1, phase="Failed")], {"ended": ["a"]}),
        ([pod("a", exit_code=0, checked=True)], {}),
        ([pod("a", exit_code=1, deleted=True)], {"ended": ["a"]}),
        ([pod("a", deleted=True)], {"leaving": ["a"]}),
        ([pod("a", checked=True)], {"unwanted": ["a"]}),
        ([pod("a", generation="1")], {"unwanted": ["a"]}),
        ([pod("a", generation="1", exit_code=0)], {"stale": ["a"]}),
        ([pod("a", age=2), pod("b", age=1)], {"running": ["b"], "unwanted": ["a"]}),
        ([pod("a", age=1), pod("b", exit_code=1, age=2)], {"running": ["a"], "stale": ["b"]}),
        ([pod("a", exit_code=1, age=1), pod("b", exit_code=1, age=2)], {"ended": ["a"], "stale": ["b"]}),
        ([pod("a", deleted=True, age=2), pod("b", age=1)], {"running": ["b"], "leaving": ["a"]}),
    ],
)
def test_each_pod_has_one_place(pods, expected):
    assert names(sort_pods(pods, "base", OURS)) == expected
    assert names(sort_pods(reversed(pods), "base", OURS)) == expected


def test_a_pod_without_our_annotation_is_not_taken_over():
    foreign = pod("a")
    foreign.metadata.annotations = None
    assert names(sort_pods([foreign], "base", OURS)) == {"unwanted": ["a"]}


def test_the_attempt_that_made_a_pod_is_told_by_its_label():
    made, foreign = pod("a"), pod("b")
    made.metadata.labels = {"try_number": "3"}
    foreign.metadata.labels = None
    assert (attempt_of(made), attempt_of(foreign)) == ("3", "?")


# Ends when it is let.
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while not os.path.exists("/gate/open"):
    time.sleep(0.02)
"""


def test_a_pod_that_takes_its_time_to_end_is_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(earlier, "POLL", 0.05)
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            (tmp_path / "open").touch()

    image = Image(venv=sys.prefix, mounts={"/gate": Mount(tmp_path, shared=True)})
    with LocalKube(images={"python:3": image}) as kube:
        api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
        base = k8s.V1Container(name="base", image="python:3", command=["python", "-u", "-c", STUBBORN])
        body = k8s.V1Pod(
            metadata=k8s.V1ObjectMeta(name="dbt"),
            spec=k8s.V1PodSpec(
                restart_policy="Never", termination_grace_period_seconds=600, containers=[base]
            ),
        )
        api.create_namespaced_pod("default", body)
        until(lambda: "up" in read_log(api), "the pod does not start", pause=0.02)
        api.delete_namespaced_pod("dbt", "default")
        leaving = api.read_namespaced_pod("dbt", "default")
        await_gone([leaving], lambda _: api.read_namespaced_pod("dbt", "default"), "base", tick)
        assert len(ticks) >= 3
        (fact,) = kube.pods()
        assert fact.exit_codes or fact.deleted_at


def read_log(api):
    try:
        return api.read_namespaced_pod_log("dbt", "default")
    except client.ApiException:
        return ""


def test_a_pod_that_never_ends_is_an_error_and_not_a_second_dbt(monkeypatch):
    monkeypatch.setattr(earlier, "POLL", 0.01)
    monkeypatch.setattr(earlier, "GONE_WITHIN", -29.9)
    stuck = pod("a", deleted=True)
    stuck.spec = k8s.V1PodSpec(containers=[])
    with pytest.raises(TimeoutError, match="dbt must not run twice"):
        await_gone([stuck], lambda _: stuck, "base", lambda: None)


@pytest.fixture
def clock(monkeypatch):
    """Let time pass only while somebody sleeps."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(earlier, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("of_deletion", "of_pod", "waited"), [(5, 60, 125), (None, 60, 180), (None, None, 150), (0, None, 150)]
)
def test_a_pod_that_is_being_deleted_is_waited_for_beyond_its_grace_period(
    clock, of_deletion, of_pod, waited
):
    stuck = pod("a", deleted=True)
    stuck.metadata.deletion_grace_period_seconds = of_deletion
    stuck.spec = k8s.V1PodSpec(containers=[], termination_grace_period_seconds=of_pod)
    ticks = []
    with pytest.raises(TimeoutError, match="pod a is being deleted"):
        await_gone([stuck], lambda _: stuck, "base", lambda: ticks.append(clock.now))
    assert ticks[-1] == 1000 + waited
    assert len(ticks) == waited + 1


def test_each_pod_is_asked_for_until_it_has_ended_or_is_not_there(clock):
    first, second = pod("a", deleted=True), pod("b", deleted=True)
    first.spec = second.spec = k8s.V1PodSpec(containers=[])
    answers = [
        (first, client.ApiException(status=500)),
        (first, ConnectionError("no answer")),
        (first, pod("a", deleted=True)),
        (first, pod("a", deleted=True, exit_code=137)),
        (second, client.ApiException(status=404)),
    ]

    def read(asked):
        expected, answer = answers.pop(0)
        assert asked is expected
        if isinstance(answer, Exception):
            raise answer
        return answer

    await_gone([first, second], read, "base", lambda: None)
    assert not answers
    assert clock.now == 1003
