"""What a person marks while dbt runs stays as marked; the rest goes on, or ends with the producer."""

import pytest
from harness import Run, until

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

pytestmark = pytest.mark.skipif(
    not STARTS_FROM_TRIGGER, reason="before Airflow 3.3 the sensors need the workers that held producers have"
)

PRODUCER = "shop.dbt_build"
# It is dbt's log that is held: what it builds until that is full is told once it is stopped.
FAR_FROM_BUILT = {"shop.customers", "shop.customers.test", "shop.daily_revenue", "shop.daily_revenue.test"}


@pytest.fixture(scope="module")
def held(airflow, dags, cluster, warehouse):
    """Return runs in which dbt is held in the middle; the gate of each is a file to be touched."""
    if cluster is None:
        pytest.skip("holds dbt by a file that the pod shares with the test")
    gates = {purpose: warehouse / f"{purpose}.gate" for purpose in ("sensors", "success", "failed")}
    runs = {purpose: Run.start(airflow, "marked", {"gate": gate.name}) for purpose, gate in gates.items()}

    def in_the_middle(purpose):
        until(lambda: runs[purpose].with_state("success"), "a first node that is built")
        return runs[purpose], gates[purpose]

    yield in_the_middle
    for gate in gates.values():
        gate.touch()


def test_sensors_that_are_marked_stay_so_and_dbt_and_the_others_go_on(held):
    run, gate = held("sensors")
    for task_id in ("shop.order_status_history", "shop.customers"):
        run.when(task_id, "deferred")
    run.mark("shop.order_status_history", "success")
    run.mark("shop.customers", "failed")
    run.when("after", "success")
    assert run.states["shop.orders"] != "success", "dbt is held before it"
    gate.touch()
    states = run.ended().states
    assert states.pop("shop.customers") == "failed"
    assert set(states.values()) == {"success"}


def test_of_a_producer_that_is_marked_success_what_dbt_had_not_built_fails(held):
    run, _ = held("success")
    run.mark(PRODUCER, "success")
    states = run.ended().states
    assert states[PRODUCER] == "success"
    assert {states[task_id] for task_id in FAR_FROM_BUILT} == {"failed"}
    del states["after"]
    assert set(states.values()) == {"success", "failed"}


def test_of_a_producer_that_is_marked_failed_what_dbt_had_not_built_fails(held):
    run, _ = held("failed")
    built = run.with_state("success")
    run.mark(PRODUCER, "failed")
    states = run.ended().states
    assert built <= run.with_state("success")
    assert {states[task_id] for task_id in (PRODUCER, *FAR_FROM_BUILT)} == {"failed"}
    del states["after"]
    assert set(states.values()) == {"success", "failed"}
