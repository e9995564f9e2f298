"""What a SIGTERM means: a task that nobody wants any more, or a worker that has to go."""

import threading

import pytest

from dbt_watch.core.task_states import CALLED_OFF
from dbt_watch.producers import termination as stopping
from dbt_watch.producers.termination import StopSignal


@pytest.fixture
def stops():
    return []


def signal_for(state, stops):
    return StopSignal(lambda: state, lambda: stops.append(state))


@pytest.mark.parametrize("state", sorted(CALLED_OFF))
def test_a_task_that_was_stopped_stops_dbt(state, stops):
    signal = signal_for(state, stops)
    signal.receive()
    signal.check()
    assert stops == [state]
    assert signal.reason == f"the task was stopped; its state in Airflow is {state}"
    assert not signal.is_leaving


@pytest.mark.parametrize("state", ["running", "up_for_retry", "scheduled", "queued", None])
def test_a_worker_that_has_to_go_leaves_dbt_alone(state, stops):
    signal = signal_for(state, stops)
    signal.receive()
    signal.check()
    assert not stops
    assert signal.reason is None
    assert signal.is_leaving


def test_what_has_been_decided_is_not_asked_again_and_not_decided_late(stops):
    asked = []
    signal = StopSignal(lambda: asked.append(1) or "running", lambda: stops.append(1))
    signal.receive()
    signal.check()
    signal.check()
    assert asked == [1]
    signal._decide_alone()
    assert not stops


def test_nothing_is_asked_before_a_signal(stops):
    asked = []
    signal = StopSignal(lambda: asked.append(1), lambda: None)
    signal.check()
    assert not asked


def test_an_airflow_that_does_not_answer_has_stopped_nobody(stops):
    def away():
        raise ConnectionError("api-server is away")

    signal = StopSignal(away, lambda: stops.append(1))
    signal.receive()
    signal.check()
    assert not stops


def test_a_second_signal_is_asked_about_anew(stops):
    states = ["running", "failed"]
    signal = StopSignal(lambda: states.pop(0), lambda: stops.append(1))
    for _ in range(2):
        signal.receive()
        signal.check()
    assert stops == [1]


def test_dbt_is_stopped_at_most_once(stops):
    signal = signal_for("failed", stops)
    for _ in range(3):
        signal.receive()
        signal.check()
    assert stops == ["failed"]


def test_a_main_thread_that_comes_to_no_check_does_not_keep_dbt_running(monkeypatch):
    monkeypatch.setattr(stopping, "DECIDED_WITHIN", 0.05)
    stopped = threading.Event()
    signal = StopSignal(lambda: "running", stopped.set)
    signal.watch()
    # One that were no daemon would keep the process of the task alive.
    assert {thread.daemon for thread in threading.enumerate() if thread.name == "dbt-watch-stop"} == {True}
    signal.receive()
    assert stopped.wait(240)
    assert signal.reason == "the task was asked to stop"


def test_a_main_thread_that_waits_for_airflow_decides_when_it_has_its_answer(monkeypatch, stops):
    monkeypatch.setattr(stopping, "DECIDED_WITHIN", 0.05)
    decided = threading.Event()
    signal = signal_for("running", stops)
    decide = signal._decide_alone
    monkeypatch.setattr(signal, "_decide_alone", lambda: (decide(), decided.set()))
    signal.watch()
    with signal.talking():
        signal.receive()
        assert decided.wait(240)
        signal.check()  # a request within another one would get its answer
    assert not stops
    signal.check()
    assert not stops
    assert signal.reason is None
