"""What a later attempt does, with a pod of an earlier one and without."""

import logging
import sys
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult
from airflow.sdk.log import mask_secret
from dbt_words import BEGINNING, said
from harness import until
from hasty_clock import hurry
from kubernetes import client, config
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from dbt_watch.airflow import supervisor
from dbt_watch.airflow.compat import AirflowFailException
from dbt_watch.airflow.supervisor import SupervisorError
from dbt_watch.core.command import Selection
from dbt_watch.core.resume import selection_of
from dbt_watch.local.localkube import Image, LocalKube
from dbt_watch.producers import waiting
from dbt_watch.producers.pods import earlier_pods
from dbt_watch.producers.pods.earlier_pods import GENERATION, PodsOfAttempts
from dbt_watch.producers.pods.log_reader import PodLogReader
from dbt_watch.producers.retry_plan import AttemptPlan, RetryPlanner, named
from dbt_watch.producers.retry_state import DONE_KEY, Memory

NAMES = ("raw_orders", "stg_orders", "orders")


class StateStore(dict):
    """Airflow's store of a task's state."""

    set = dict.__setitem__


class Project:
    """An operator with three sensors, and no pod in the cluster unless a test makes one."""

    reattach_on_restart = True
    base_container_name = "base"
    task_id = "shop.dbt_build"
    silent = 0
    selector = ""
    callbacks = ()
    log = logging.getLogger("task")

    def __init__(self, graph, states, *, max_tries=2):
        nodes = {name: next(uid for uid in graph.nodes if uid.endswith(f".{name}")) for name in NAMES}
        self.graph = graph
        self.watched_nodes = list(nodes.values())
        self.selected = frozenset(self.watched_nodes)
        self.selection = Selection(select=NAMES)
        self.watched = {f"shop.{name}": (uid,) for name, uid in nodes.items()}
        self.client = SimpleNamespace(list_namespaced_pod=lambda **_: SimpleNamespace(items=[]))
        self.store = StateStore()
        self.states = {f"shop.{name}": state for name, state in zip(NAMES, states, strict=True)}
        self.ti = SimpleNamespace(
            dag_id="shop", run_id="run", task_id="shop.dbt_build", map_index=-1, max_tries=max_tries
        )
        self.context = {"ti": self.ti, "task_state_store": self.store}
        self.put_away = []
        self.ticks = 0

    def label_selector(self, context):
        assert context is self.context
        return self.selector

    def tick(self):
        self.ticks += 1

    def put_aside(self, pod):
        self.put_away.append(pod.metadata.name)

    def plan(self, *, is_first_since_clear=False):
        attempt = SimpleNamespace(
            task_instance=self.ti,
            number=2,
            tick=self.tick,
            memory=Memory(self.context),
            is_first_since_clear=is_first_since_clear,
        )
        earlier = PodsOfAttempts(self, self.context, attempt, "default")
        return RetryPlanner(self, attempt, AttemptPlan(self.selected, self.selection), earlier).plan()

    def send(self, message):
        """Answer as the supervisor of a task does."""
        if self.silent:
            self.silent -= 1
            raise SupervisorError("no answer")
        return TaskStatesResult(task_states={"run": {task: self.states[task] for task in message.task_ids}})


@pytest.fixture
def project_of(graph, monkeypatch):
    def make(states):
        project = Project(graph, states)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", project, raising=False)
        hurry(monkeypatch, supervisor, earlier_pods, waiting)
        return project

    return make


def test_what_is_not_done_is_built(project_of):
    project = project_of(["success", "success", None])
    plan = project.plan()
    assert plan.nodes == {uid for uid in project.selected if uid.endswith(".orders")}
    assert plan.follows is None


def test_when_all_is_done_and_dbt_has_ended_well_nothing_is_built(project_of):
    project = project_of(["success"] * 3)
    Memory(project.context).remember_end()
    assert project.plan() is None


@pytest.mark.parametrize("mark", [None, "1"])
def test_when_all_is_done_but_dbt_did_not_end_well_it_runs_again(project_of, mark):
    project = project_of(["success"] * 3)
    if mark:
        project.store[DONE_KEY] = mark  # of before a clear
    assert project.plan().nodes == project.selected


def test_what_was_cleared_after_a_good_end_is_built(project_of):
    project = project_of(["success", None, None])
    Memory(project.context).remember_end()
    assert len(project.plan().nodes) == 2


def test_an_airflow_that_keeps_no_state_is_no_error(project_of):
    project = project_of(["success"] * 3)
    del project.context["task_state_store"]
    Memory(project.context).remember_end()
    assert project.plan().nodes == project.selected


def test_a_person_who_clears_the_producer_alone_is_told_what_else_to_clear(project_of):
    project = project_of(["success", "failed", "upstream_failed"])
    why = r"2 tasks \(shop.stg_orders, shop.orders\) have failed and were not cleared together with shop.dbt_build,"
    with pytest.raises(AirflowFailException, match=why):
        project.plan(is_first_since_clear=True)


def ends_after(project, task, ticks):
    """Let a task that runs end as a success after so many looks of the attempt at its signals."""

    def tick():
        project.ticks += 1
        if project.ticks == ticks:
            project.states[task] = "success"

    project.tick = tick


def test_a_producer_that_is_cleared_alone_builds_all_though_a_task_that_built_alone_is_about_to_end(
    project_of,
):
    project = project_of(["running", "success", "success"])
    ends_after(project, "shop.raw_orders", 8)
    assert project.plan(is_first_since_clear=True).nodes == project.selected


def test_the_end_of_a_task_that_runs_is_not_waited_for_by_a_retry_and_not_for_ever_after_a_clear(project_of):
    project = project_of(["running", "success", "success"])
    (left,) = project.plan().nodes
    assert (left.endswith(".raw_orders"), project.ticks) == (True, 0)
    assert project.plan(is_first_since_clear=True).nodes == {left}
    assert 0 < project.ticks < 100


def test_what_was_cleared_together_is_built(project_of):
    project = project_of(["success", None, "deferred"])
    assert len(project.plan(is_first_since_clear=True).nodes) == 2


def test_a_task_that_was_marked_failed_does_not_keep_a_retry_from_building(project_of):
    assert len(project_of(["success", "failed", "deferred"]).plan().nodes) == 2


def test_an_airflow_that_answers_late_does_not_fail_an_attempt(project_of):
    project = project_of(["success", "success", None])
    project.silent = 3
    assert len(project.plan().nodes) == 1


def test_of_many_tasks_the_first_are_named():
    tasks = [f"shop.m{number}" for number in range(30)]
    assert named(tasks).startswith("30 tasks (shop.m0, shop.m1, ")
    assert named(tasks).endswith("shop.m19 and 10 more)")


class Cluster:
    """What earlier attempts have left; a pod that is read again has gone meanwhile."""

    def __init__(self, *pods):
        self.pods = pods
        self.asked, self.deleted, self.awaited = [], [], []

    def list_namespaced_pod(self, namespace, label_selector):
        self.asked.append((namespace, label_selector))
        return SimpleNamespace(items=list(self.pods))

    def delete_namespaced_pod(self, name, namespace, **_):
        self.deleted.append(name)

    def read_namespaced_pod(self, name, namespace, **_):
        self.awaited.append(name)
        raise ApiException(status=404)


NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def left(name, *, generation="2", deleted=False, exit_code=None):
    """Make a pod that an earlier attempt has left."""
    ended = None if exit_code is None else k8s.V1ContainerStateTerminated(exit_code=exit_code)
    status = k8s.V1ContainerStatus(
        name="base",
        state=k8s.V1ContainerState(terminated=ended),
        image="",
        image_id="",
        ready=True,
        restart_count=0,
    )
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(
            name=name,
            namespace="default",
            annotations={GENERATION: generation},
            creation_timestamp=NOW,
            deletion_timestamp=NOW if deleted else None,
        ),
        spec=k8s.V1PodSpec(containers=[]),
        status=k8s.V1PodStatus(container_statuses=[status]),
    )


def test_a_pod_in_which_dbt_still_runs_is_taken_over_for_what_is_not_done(project_of):
    project = project_of(["success", None, None])
    project.client = Cluster(left("ours"))
    project.selector = "task=ours"
    plan = project.plan()
    assert plan.follows.metadata.name == "ours"
    assert plan.nodes == set(project.watched_nodes[1:])
    assert plan.selection is project.selection
    assert project.client.asked == [("default", "task=ours")]
    assert not project.client.deleted


def test_pods_that_must_not_run_are_stopped_and_waited_for_and_those_that_ended_put_aside(project_of):
    project = project_of([None] * 3)
    project.client = Cluster(
        left("unwanted", generation="1"),
        left("leaving", deleted=True),
        left("stale", generation="1", exit_code=1),
    )
    assert project.plan().follows is None
    assert project.client.deleted == ["unwanted"]
    assert project.client.awaited == ["unwanted", "leaving"]
    assert project.put_away == ["stale"]


def test_a_pod_that_is_stopped_is_waited_for_until_dbt_has_ended_in_it(project_of):
    project, answers = project_of([None] * 3), [left("unwanted"), left("unwanted", exit_code=1)]
    project.client = Cluster(left("unwanted", generation="1"))
    project.client.read_namespaced_pod = lambda name, namespace, **_: answers.pop(0)
    assert project.plan().follows is None
    assert not answers
    assert project.ticks == 1


def test_where_no_pod_is_to_be_taken_over_one_that_runs_is_stopped(project_of):
    project = project_of([None] * 3)
    project.reattach_on_restart = False
    project.client = Cluster(left("ours"))
    assert project.plan().follows is None
    assert project.client.deleted == project.client.awaited == ["ours"]


def test_what_is_built_is_what_dbt_is_asked_for(project_of):
    whole = project_of([None] * 3)
    assert whole.plan().selection is whole.selection
    rest = project_of(["success", "success", None])
    assert rest.plan().selection == selection_of(rest.graph, frozenset(rest.watched_nodes[2:]))


def test_where_no_selection_fits_what_is_left_all_is_built(project_of, monkeypatch):
    monkeypatch.setattr("dbt_watch.producers.retry_plan.selection_of", lambda graph, nodes: None)
    project = project_of(["success", "success", None])
    plan = project.plan()
    assert (plan.nodes, plan.selection) == (project.selected, project.selection)


def test_a_selection_that_is_longer_than_it_may_be_gives_way_to_a_build_of_all(project_of):
    project = project_of(["success", "success", None])
    attempt = SimpleNamespace(
        task_instance=project.ti,
        number=2,
        tick=project.tick,
        memory=Memory(project.context),
        is_first_since_clear=False,
    )
    whole = AttemptPlan(project.selected, project.selection)
    earlier = PodsOfAttempts(project, project.context, attempt, "default")
    plans = [RetryPlanner(project, attempt, whole, earlier, max_bytes=most).plan() for most in (1_000, 20)]
    assert [plan.selection == whole.selection for plan in plans] == [False, True]


def test_twenty_tasks_are_all_named():
    assert named(["shop.m"] * 20).endswith("shop.m)")


@pytest.fixture
def with_ended_pod(project_of):
    """Make a project whose first attempt has left a pod that has ended, of which nobody knows how."""
    with LocalKube(images={"python:3": Image(venv=sys.prefix)}) as kube:

        def make(exit_code, words):
            project = project_of([None] * 3)
            project.client = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
            told = zip(project.watched_nodes, words, strict=True)
            log = "\n".join([BEGINNING, *(said(uid, word) for uid, word in told if word)])
            script = f"print({log!r})\nraise SystemExit({exit_code})"
            pod = k8s.V1Pod(
                metadata=k8s.V1ObjectMeta(name="dbt", annotations={GENERATION: str(project.ti.max_tries)}),
                spec=k8s.V1PodSpec(
                    restart_policy="Never",
                    containers=[
                        k8s.V1Container(name="base", image="python:3", command=["python", "-c", script])
                    ],
                ),
            )
            project.client.create_namespaced_pod("default", pod)

            def phase():
                return project.client.read_namespaced_pod("dbt", "default").status.phase

            until(lambda: phase() not in {"Pending", "Running"}, "the pod has not ended", pause=0.05)
            return project

        yield make


def test_of_a_pod_that_ended_badly_only_what_went_well_is_adopted_and_the_rest_is_built(with_ended_pod):
    project = with_ended_pod(1, ["success", "warn", "error"])
    seed, staged, orders = project.watched_nodes
    plan = project.plan()
    assert [(result.unique_id, result.status, result.attempt) for result in plan.adopted] == [
        (seed, "success", 2),
        (staged, "warn", 2),
    ]
    assert plan.nodes == {orders}
    assert plan.follows is None
    assert project.put_away == ["dbt"]


@pytest.mark.parametrize("word", ["skipped", None])
def test_what_a_pod_that_ended_badly_did_not_come_to_is_not_adopted(with_ended_pod, word):
    project = with_ended_pod(1, ["success", "success", word])
    assert project.plan().nodes == {project.watched_nodes[-1]}


def test_what_a_pod_has_built_that_is_not_wanted_any_more_is_not_adopted(with_ended_pod):
    project = with_ended_pod(1, ["success", "success", "error"])
    project.states["shop.raw_orders"] = "success"
    plan = project.plan()
    assert [result.unique_id for result in plan.adopted] == [project.watched_nodes[1]]


def test_a_pod_that_ended_badly_after_all_was_built_is_not_believed(with_ended_pod):
    project = with_ended_pod(1, ["success"] * 3)
    plan = project.plan()
    assert plan.nodes == project.selected
    assert not plan.adopted


def test_a_pod_that_ended_well_is_taken_over_with_its_log(with_ended_pod):
    project = with_ended_pod(0, ["success"] * 3)
    plan = project.plan()
    assert plan.follows.metadata.name == "dbt"
    assert (plan.nodes, plan.selection) == (project.selected, project.selection)
    assert not plan.adopted
    assert not project.put_away


def test_the_log_of_an_earlier_pod_is_that_of_its_base_container_and_is_not_tried_for_long(
    with_ended_pod, monkeypatch
):
    made = []

    def reader(*which, **how):
        made.append((which[3], how["rest_timeout"]))
        return PodLogReader(*which, **how)

    monkeypatch.setattr(earlier_pods, "PodLogReader", reader)
    with_ended_pod(1, ["success", "warn", "error"]).plan()
    assert made == [("base", 10.0)]


def test_secrets_in_what_an_earlier_pod_has_built_are_neither_shown_nor_adopted(with_ended_pod, caplog):
    mask_secret("pa55-of-the-warehouse")
    project = with_ended_pod(1, ["success", "warn", "error"])
    with caplog.at_level("INFO"):
        assert [result.message for result in project.plan().adopted] == [None, "warn with ***"]
    assert "error with ***" in caplog.text
    assert "pa55" not in caplog.text
