"""What a later attempt does when no pod is left."""

from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult

from dbt_watch import supervisor
from dbt_watch.compat import AirflowFailException
from dbt_watch.core.command import Selection
from dbt_watch.producers.memory import DONE_KEY, Memory
from dbt_watch.producers.plan import Planner, named
from dbt_watch.supervisor import SupervisorError

NAMES = ("raw_orders", "stg_orders", "orders")


class StateStore(dict):
    """Airflow's store of a task's state."""

    set = dict.__setitem__


class Project:
    """An operator with three sensors, and no pod in the cluster."""

    reattach_on_restart = True
    base_container_name = "base"
    task_id = "shop.dbt_build"
    silent = 0
    callbacks = ()

    def __init__(self, graph, states, *, max_tries=2):
        nodes = {name: next(uid for uid in graph.nodes if uid.endswith(f".{name}")) for name in NAMES}
        self.graph = graph
        self.selected = frozenset(nodes.values())
        self.selection = Selection(select=NAMES)
        self.watched = {f"shop.{name}": (uid,) for name, uid in nodes.items()}
        self.client = SimpleNamespace(list_namespaced_pod=lambda **_: SimpleNamespace(items=[]))
        self.store = StateStore()
        self.states = {f"shop.{name}": state for name, state in zip(NAMES, states, strict=True)}
        self.ti = SimpleNamespace(
            dag_id="shop", run_id="run", task_id="shop.dbt_build", map_index=-1, max_tries=max_tries
        )
        self.context = {"ti": self.ti, "task_state_store": self.store}

    def _build_find_pod_label_selector(self, context, *, exclude_checked):
        return ""

    def plan(self, *, is_first_since_clear=False):
        attempt = SimpleNamespace(
            task_instance=self.ti,
            number=2,
            tick=lambda: None,
            memory=Memory(self.context),
            is_first_since_clear=is_first_since_clear,
        )
        return Planner(self, self.context, attempt).plan("default")

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
        return project

    return make


def test_what_is_not_done_is_built(project_of):
    project = project_of(["success", "success", None])
    plan = project.plan()
    assert plan.nodes == {uid for uid in project.selected if uid.endswith(".orders")}
    assert plan.pod is None


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
    with pytest.raises(AirflowFailException, match=r"2 tasks \(shop.stg_orders, shop.orders\) have failed"):
        project.plan(is_first_since_clear=True)


def test_what_was_cleared_together_is_built(project_of):
    project = project_of(["success", None, "deferred"])
    assert len(project.plan(is_first_since_clear=True).nodes) == 2


def test_a_task_that_was_marked_failed_does_not_keep_a_retry_from_building(project_of):
    assert len(project_of(["success", "failed", "deferred"]).plan().nodes) == 2


def test_an_airflow_that_answers_late_does_not_fail_an_attempt(project_of, monkeypatch):
    monkeypatch.setattr(supervisor, "_PAUSE_FIRST", 0.001)
    project = project_of(["success", "success", None])
    project.silent = 3
    assert len(project.plan().nodes) == 1


def test_of_many_tasks_the_first_are_named():
    tasks = [f"shop.m{number}" for number in range(30)]
    assert named(tasks).startswith("30 tasks (shop.m0, shop.m1, ")
    assert named(tasks).endswith("shop.m19 and 10 more)")
