"""How a task that is about to be retried waits for the sensors of what it has built."""

import pytest
from hasty_clock import hurry

from dbt_watch.airflow import supervisor
from dbt_watch.airflow.task_instances import TaskKey
from dbt_watch.producers import waiting

PRODUCER = TaskKey("shop", "run", "dbt_build", -1)
PATIENCE = waiting.ENDS_AFTER_ANOTHER


class Airflow:
    """The states of sensors, which change with the time."""

    def __init__(self, clock):
        self.clock = clock
        self.ends, self.broken_until, self.looks = {}, 0.0, []

    def states(self, producer, tasks):
        assert producer == PRODUCER
        self.looks.append((round(self.clock.now, 1), list(tasks)))
        if self.clock.now < self.broken_until:
            raise supervisor.SupervisorError("no answer")
        return {
            task: self.ends[task][1] if self.clock.now >= self.ends[task][0] else "deferred" for task in tasks
        }


@pytest.fixture
def airflow(monkeypatch):
    monkeypatch.setattr(waiting, "ENDS_AFTER_ANOTHER", PATIENCE)
    airflow = Airflow(hurry(monkeypatch, waiting, supervisor))
    monkeypatch.setattr(waiting, "read_states_now", airflow.states)
    return airflow


def nothing():
    pass


def test_without_sensors_nobody_is_asked(airflow):
    waiting.await_sensors(PRODUCER, frozenset, nothing)
    assert airflow.looks == []


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed"])
def test_it_goes_on_as_soon_as_all_have_ended_however_they_have(airflow, state, caplog):
    airflow.ends = {"orders": (0.0, state), "customers": (1.5, state)}
    waiting.await_sensors(PRODUCER, lambda: frozenset(["orders", "customers"]), nothing)
    assert airflow.clock.now < 2.5
    assert airflow.looks[0][1] == ["customers", "orders"]
    assert airflow.looks[-1][1] == ["customers"]
    assert not caplog.records


def test_as_long_as_one_ends_after_another_all_are_waited_for(airflow):
    airflow.ends = {f"level_{number}": (number * 0.8 * PATIENCE, "success") for number in range(10)}
    waiting.await_sensors(PRODUCER, lambda: frozenset(airflow.ends), nothing)
    assert 7.2 * PATIENCE <= airflow.clock.now < 7.2 * PATIENCE + 3


def test_when_none_ends_for_a_while_the_next_attempt_builds_them_again(airflow, caplog):
    airflow.ends = {"orders": (1.0, "success"), "customers": (999.0, "success"), "stays": (999.0, "success")}
    with caplog.at_level("INFO"):
        waiting.await_sensors(PRODUCER, lambda: frozenset(airflow.ends), nothing)
    assert 1 + PATIENCE <= airflow.clock.now < 4 + PATIENCE
    assert "2 sensors of nodes that are already built have not ended yet" in caplog.text


def test_an_airflow_that_answers_again_is_asked_again(airflow):
    airflow.ends = {"orders": (0.0, "success")}
    airflow.broken_until = 3.0
    waiting.await_sensors(PRODUCER, lambda: frozenset(["orders"]), nothing)
    assert 3 <= airflow.clock.now < 5


def test_an_airflow_that_does_not_answer_is_not_waited_for(airflow, caplog):
    airflow.broken_until = 999.0
    waiting.await_sensors(PRODUCER, lambda: frozenset(["orders"]), nothing)
    assert airflow.clock.now < 1 + PATIENCE
    assert "Cannot tell whether the sensors have ended: no answer" in caplog.text


def test_signals_are_heeded_meanwhile(airflow):
    airflow.ends = {"orders": (999.0, "success")}

    def stop():
        raise SystemExit

    with pytest.raises(SystemExit):
        waiting.await_sensors(PRODUCER, lambda: frozenset(["orders"]), stop)


def test_a_journal_that_cannot_be_read_is_not_waited_for_long(airflow, caplog):
    def unreadable():
        raise supervisor.SupervisorError("no journal")

    waiting.await_sensors(PRODUCER, unreadable, nothing)
    assert airflow.clock.now < 1 + PATIENCE
    assert airflow.looks == []
    assert "Cannot tell whether the sensors have ended: no journal" in caplog.text
