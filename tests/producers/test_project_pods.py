"""That dbt never runs in two pods of one project and DAG run, whoever has made them."""

import itertools
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult
from hasty_clock import hurry
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from dbt_watch.airflow import supervisor
from dbt_watch.exceptions import ProjectIsBusy
from dbt_watch.producers import waiting
from dbt_watch.producers.pods import earlier_pods as earlier
from dbt_watch.producers.pods import project_pods
from dbt_watch.producers.pods.earlier_pods import GENERATION
from dbt_watch.producers.pods.project_pods import RUN_LABEL, TASK_ANNOTATION, ProjectPods

PRODUCER, SENSOR, OTHER = "shop.dbt_build", "shop.orders", "shop.customers"


class Cluster:
    """The pods of a namespace."""

    def __init__(self):
        self.pods = {}
        self.deleted = []

    def list_namespaced_pod(self, *, namespace, label_selector):
        name, _, value = label_selector.partition("=")
        found = [pod for pod in self.pods.values() if pod.metadata.labels.get(name) == value]
        return SimpleNamespace(items=[pod for pod in found if pod.metadata.namespace == namespace])

    def delete_namespaced_pod(self, name, namespace):
        assert namespace == "dbt"
        self.deleted.append(name)
        if name not in self.pods:
            raise ApiException(status=404)
        self.pods[name].metadata.deletion_timestamp = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def end(self, name):
        state = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=0))
        status = k8s.V1ContainerStatus(
            name="base", state=state, image="", image_id="", ready=False, restart_count=0
        )
        # A sidecar may still run.
        self.pods[name].status = k8s.V1PodStatus(phase="Running", container_statuses=[status])


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def states(monkeypatch):
    states = {PRODUCER: "success", SENSOR: "running", OTHER: "running"}

    def send(message):
        return TaskStatesResult(task_states={"run": {task: states[task] for task in message.task_ids}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    hurry(monkeypatch, supervisor, waiting, earlier)
    # Whoever waits is called twice before it asks again.
    monkeypatch.setattr(project_pods, "POLL", 0.15)
    return states


def pods_of(cluster, task_id, *, run_id="run", map_index=-1):
    spec = k8s.V1PodSpec(containers=[], termination_grace_period_seconds=30)
    request = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name=task_id, namespace="dbt"), spec=spec)
    operator = SimpleNamespace(
        task_id=PRODUCER, client=cluster, base_container_name="base", pod_request_obj=request
    )
    ti = SimpleNamespace(dag_id="dag", run_id=run_id, task_id=task_id, map_index=map_index, max_tries=1)
    return ProjectPods(operator, ti)


def start(cluster, task_id, **which):
    """Make the pod of a task."""
    project = pods_of(cluster, task_id, **which)
    pod = project._operator.pod_request_obj
    project.mark(pod)
    pod.status = k8s.V1PodStatus(phase="Pending")
    cluster.pods[pod.metadata.name] = pod
    return pod


def names(pods):
    return [pod.metadata.name for pod in pods]


def test_a_task_finds_the_pods_of_the_others_of_its_project_and_run(cluster, states):
    for task_id in (PRODUCER, SENSOR, OTHER):
        start(cluster, task_id)
    assert names(pods_of(cluster, PRODUCER).others("dbt")) == [SENSOR, OTHER]
    assert names(pods_of(cluster, SENSOR).others("dbt")) == [PRODUCER, OTHER]
    cluster.end(OTHER)
    assert names(pods_of(cluster, PRODUCER).others("dbt")) == [SENSOR]


@pytest.mark.parametrize("which", [{"run_id": "another"}, {"map_index": 2}])
def test_pods_of_another_run_or_map_index_are_not_its_business(cluster, states, which):
    start(cluster, SENSOR, **which)
    assert not pods_of(cluster, PRODUCER).others("dbt")


def test_the_label_stays_the_same_from_release_to_release(cluster):
    """A pod may have been made by the release before."""
    assert pods_of(cluster, SENSOR).run_label == "e61fe8bb95941783de3875517c5afe8a"


def test_the_label_is_one_that_kubernetes_takes(cluster, states):
    value = start(cluster, SENSOR, run_id="manual__2026-01-01T00:00:00+00:00 " * 5).metadata.labels[RUN_LABEL]
    assert value.isalnum()
    assert len(value) <= 63


def test_the_producer_waits_until_a_sensor_has_built_its_node(cluster, states):
    start(cluster, SENSOR)
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            cluster.end(SENSOR)
        if len(ticks) == 6:
            states[SENSOR] = "success"

    pods_of(cluster, PRODUCER).await_others("dbt", tick)
    assert states[SENSOR] == "success", "its state tells what is left to build"
    assert not cluster.deleted


def test_the_producer_does_not_wait_for_ever_for_a_task_whose_pod_has_ended(cluster, states):
    start(cluster, SENSOR)
    pods_of(cluster, PRODUCER).await_others("dbt", lambda: cluster.end(SENSOR))
    assert states[SENSOR] == "running"


@pytest.mark.parametrize("state", ["failed", "success", "upstream_failed"])
def test_a_pod_whose_task_has_ended_is_stopped_once_and_waited_for(cluster, states, state):
    start(cluster, SENSOR)
    states[SENSOR] = state
    reads = []

    def read(name, namespace):
        assert namespace == "dbt"
        reads.append(name)
        if len(reads) == 3:
            cluster.end(SENSOR)
        return cluster.pods[name]

    cluster.read_namespaced_pod = read
    pods_of(cluster, PRODUCER).await_others("dbt", lambda: None)
    assert cluster.deleted == [SENSOR]
    assert len(reads) == 3


def test_a_pod_that_does_not_end_though_it_was_deleted_is_an_error(cluster, states):
    """Its node is lost, perhaps."""
    start(cluster, SENSOR).spec.termination_grace_period_seconds = 1
    states[SENSOR] = "failed"
    cluster.read_namespaced_pod = lambda name, namespace: cluster.pods[name]
    with pytest.raises(TimeoutError, match="dbt must not run twice"):
        pods_of(cluster, PRODUCER).await_others("dbt", lambda: None)


def test_a_sensor_that_has_made_its_pod_gives_way_to_a_producer_that_runs(cluster, states):
    pod = start(cluster, SENSOR)
    states[PRODUCER] = "running"
    with pytest.raises(ProjectIsBusy, match="dbt_build is running"):
        pods_of(cluster, SENSOR).give_way(pod)
    assert cluster.deleted == [SENSOR]


def test_of_two_sensors_that_have_made_their_pods_at_once_neither_runs_dbt(cluster, states):
    own, other = start(cluster, SENSOR), start(cluster, OTHER)
    with pytest.raises(ProjectIsBusy, match=OTHER):
        pods_of(cluster, SENSOR).give_way(own)
    with pytest.raises(ProjectIsBusy, match=SENSOR):
        pods_of(cluster, OTHER).give_way(other)
    assert cluster.deleted == [SENSOR, OTHER]


def test_a_sensor_that_is_alone_goes_on(cluster, states):
    pods_of(cluster, SENSOR).give_way(start(cluster, SENSOR))
    assert not cluster.deleted


def test_a_pod_keeps_its_labels_and_annotations_beside_those_that_say_whose_it_is(cluster, states):
    project = pods_of(cluster, SENSOR)
    pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(labels={"team": "shop"}, annotations={"note": "kept"}))
    project.mark(pod)
    assert pod.metadata.labels == {"team": "shop", RUN_LABEL: project.run_label}
    assert pod.metadata.annotations == {"note": "kept", GENERATION: "1", TASK_ANNOTATION: SENSOR}


def test_the_label_differs_between_dags_runs_tasks_and_map_indexes(cluster):
    def label(dag_id="dag", run_id="run", producer=PRODUCER, map_index=-1):
        ti = SimpleNamespace(dag_id=dag_id, run_id=run_id, task_id=SENSOR, map_index=map_index, max_tries=1)
        return ProjectPods(SimpleNamespace(task_id=producer), ti).run_label

    all_labels = [
        label(), label("dag2"), label(run_id="run2"), label(producer="other.dbt_build"), label(map_index=0)
    ]  # fmt: skip
    assert len(set(all_labels)) == len(all_labels)
    assert label() == label(map_index=None)


@pytest.mark.parametrize(("task_id", "is_lone"), [(PRODUCER, False), (SENSOR, True)])
def test_a_sensor_is_told_from_the_producer(cluster, task_id, is_lone):
    assert pods_of(cluster, task_id).is_lone is is_lone


def test_a_pod_that_nobody_has_marked_with_its_task_is_one_of_the_others(cluster, states):
    start(cluster, SENSOR).metadata.annotations = None
    assert names(pods_of(cluster, SENSOR).others("dbt")) == [SENSOR]


def test_a_pod_that_is_being_deleted_already_is_only_waited_for(cluster, states):
    cluster.delete_namespaced_pod(start(cluster, SENSOR).metadata.name, "dbt")
    cluster.deleted.clear()
    cluster.read_namespaced_pod = lambda name, namespace: cluster.end(name) or cluster.pods[name]
    pods_of(cluster, PRODUCER).await_others("dbt", lambda: None)
    assert not cluster.deleted


@pytest.mark.parametrize(("status", "is_error"), [(404, False), (403, True), (500, True)])
def test_a_pod_that_is_to_be_stopped_may_have_gone_but_no_other_error_is_passed_over(
    cluster, states, status, is_error
):
    pod = start(cluster, SENSOR)

    def refuse(name, namespace):
        raise ApiException(status=status)

    cluster.delete_namespaced_pod = refuse
    states[PRODUCER] = "running"
    with pytest.raises(ApiException if is_error else ProjectIsBusy):
        pods_of(cluster, SENSOR).give_way(pod)


def test_whoever_waits_for_other_pods_may_be_stopped_meanwhile(cluster, states):
    start(cluster, SENSOR)

    def stop():
        raise SystemExit

    with pytest.raises(SystemExit):
        pods_of(cluster, PRODUCER).await_others("dbt", stop)


def test_the_states_of_those_that_were_waited_for_are_asked_until_none_runs(cluster, states):
    for task_id in (SENSOR, OTHER):
        start(cluster, task_id)
    seen = []

    def tick():
        running = sorted(task for task, state in states.items() if state == "running")
        seen.append(running)
        if len(seen) == 1:
            cluster.end(SENSOR)
            cluster.end(OTHER)
        if len(seen) == 4:
            states[OTHER] = "success"
        if len(seen) == 7:
            states[SENSOR] = "up_for_retry"

    pods_of(cluster, PRODUCER).await_others("dbt", tick)
    assert [SENSOR] in seen, "one of two that has ended is not enough"
    assert states[SENSOR] == "up_for_retry"


def test_when_a_pod_that_was_stopped_has_ended_the_others_are_waited_for(cluster, states):
    for task_id in (SENSOR, OTHER):
        start(cluster, task_id)
    states[SENSOR] = "failed"
    cluster.read_namespaced_pod = lambda name, namespace: cluster.end(name) or cluster.pods[name]
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 5:
            cluster.end(OTHER)
            states[OTHER] = "success"

    pods_of(cluster, PRODUCER).await_others("dbt", tick)
    assert cluster.deleted == [SENSOR]
    assert states[OTHER] == "success"


def test_what_is_waited_for_is_told_once_a_minute_and_the_task_is_heeded_all_the_time(
    cluster, states, monkeypatch, caplog
):
    monkeypatch.setattr(project_pods, "POLL", 2.0)
    clock = waiting.time
    for task_id in (SENSOR, OTHER):
        start(cluster, task_id)
    begun, ticks = clock.now, []

    def tick():
        ticks.append(clock.now)
        if clock.now > begun + 150:
            for task_id in (SENSOR, OTHER):
                cluster.end(task_id)
                states[task_id] = "success"

    with caplog.at_level("INFO"):
        pods_of(cluster, PRODUCER).await_others("dbt", tick)
    for task_id in (SENSOR, OTHER):
        assert caplog.text.count(f"in pod {task_id} of {task_id}") == 3
    assert max(later - earlier for earlier, later in itertools.pairwise(ticks)) < 0.2
