"""What a person marks while dbt runs stays as marked; the rest goes on, or ends with the producer."""

import time

import pytest

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

pytestmark = pytest.mark.skipif(
    not STARTS_FROM_TRIGGER, reason="before Airflow 3.3 the sensors need the workers that held producers have"
)

PATIENCE_S = 240
PRODUCER = "shop.dbt_build"
# It is dbt's log that is held: what it builds until that is full is told once it is stopped.
FAR_FROM_BUILT = {"shop.customers", "shop.customers.test", "shop.daily_revenue", "shop.daily_revenue.test"}


@pytest.fixture(scope="module")
def held(airflow, cluster, warehouse):
    """Return runs in which dbt is held in the middle; the gate of each is `gate`, a file to be touched."""
    if cluster is None:
        pytest.skip("holds dbt by a file that the pod shares with the test")
    purposes = ("sensors", "success", "failed")
    runs = {purpose: Held(airflow, warehouse / f"{purpose}.gate") for purpose in purposes}
    yield lambda purpose: runs[purpose].in_the_middle()
    for run in runs.values():
        run.gate.touch()


class Held:
    """A run of the DAG `marked`."""

    def __init__(self, airflow, gate):
        self._airflow = airflow
        self.gate = gate
        self._run_id = airflow.trigger_dag("marked", {"gate": gate.name})

    @property
    def states(self):
        tasks = self._airflow.client.task_instances("marked", self._run_id)
        return {task.task_id: task.state for task in tasks}

    def until(self, condition):
        """Wait for states of tasks, and give them."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition(states := self.states):
            assert time.monotonic() < deadline, states
            time.sleep(0.3)
        return states

    def in_the_middle(self):
        self.until(lambda states: "success" in states.values())
        return self

    def mark(self, task_id, state):
        self._airflow.client.set_task_state("marked", self._run_id, task_id, state)

    def end(self):
        self._airflow.wait_for_run("marked", self._run_id, PATIENCE_S)
        return self.states


def test_sensors_that_are_marked_stay_so_and_dbt_and_the_others_go_on(held):
    run = held("sensors")
    run.mark("shop.order_status_history", "success")
    run.mark("shop.customers", "failed")
    states = run.until(lambda states: states["after"] == "success")
    assert states["shop.orders"] != "success", "dbt is held before it"
    run.gate.touch()
    states = run.end()
    assert states.pop("shop.customers") == "failed"
    assert set(states.values()) == {"success"}


def test_of_a_producer_that_is_marked_success_what_dbt_had_not_built_fails(held):
    run = held("success")
    run.mark(PRODUCER, "success")
    states = run.end()
    assert states[PRODUCER] == "success"
    assert {states[task_id] for task_id in FAR_FROM_BUILT} == {"failed"}
    del states["after"]
    assert set(states.values()) == {"success", "failed"}


def test_of_a_producer_that_is_marked_failed_what_dbt_had_not_built_fails(held):
    run = held("failed")
    built = green(run.states)
    run.mark(PRODUCER, "failed")
    states = run.end()
    assert built <= green(states)
    assert {states[task_id] for task_id in (PRODUCER, *FAR_FROM_BUILT)} == {"failed"}
    del states["after"]
    assert set(states.values()) == {"success", "failed"}


def green(states):
    return {task_id for task_id, state in states.items() if state == "success"}
