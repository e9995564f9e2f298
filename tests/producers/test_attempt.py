"""What an attempt tells its readers about itself."""

import time
from types import SimpleNamespace
from uuid import UUID

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult

from dbt_watch.airflow import supervisor
from dbt_watch.core.journal.format import Closed, decode_page, page_key
from dbt_watch.exceptions import DbtRunFailed, PodLost
from dbt_watch.producers.attempt import failure_of
from dbt_watch.producers.pods.attempt import PodAttempt
from dbt_watch.producers.retry_state import DONE_KEY

# Of version 7, with the time in front: made long ago, and in a future that another machine's clock may be in.
PAST, FUTURE = UUID("00000000-05dc-7000-8000-000000000000"), UUID("0fffffff-ffff-7000-8000-000000000000")


@pytest.fixture
def attempt_of(monkeypatch):
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(), raising=False)

    def make(number, retries, identity=PAST):
        xcoms = {}
        ti = SimpleNamespace(
            id=identity,
            try_number=number,
            max_tries=retries,
            xcom_push=lambda *, key, value: xcoms.__setitem__(key, value),
        )
        return PodAttempt({"ti": ti}, stop=lambda: None), xcoms

    return make


@pytest.mark.parametrize(
    ("number", "retries", "will_retry"),
    [(1, 0, False), (1, None, False), (1, 1, True), (2, 1, False), (2, 2, True), (3, 2, False)],
)
def test_another_attempt_follows_until_the_retries_are_used_up(attempt_of, number, retries, will_retry):
    attempt, xcoms = attempt_of(number, retries)
    attempt.open()
    page = decode_page(xcoms[page_key(0)])
    assert (page.chunk.attempt, page.will_retry) == (number, will_retry)
    assert attempt.will_retry is will_retry


def test_an_attempt_begins_now_but_not_before_it_was_made(attempt_of):
    before = time.time()
    assert before <= attempt_of(1, 0, PAST)[0].began <= time.time()
    attempt, xcoms = attempt_of(1, 0, FUTURE)
    attempt.open()
    assert decode_page(xcoms[page_key(0)]).began == attempt.began == 0x0FFFFFFFFFFF / 1000


def test_an_attempt_that_has_just_begun_knows_of_no_nodes_no_pod_and_no_end(attempt_of):
    attempt, _ = attempt_of(1, 0)
    assert (attempt.wanted, attempt.nodes, attempt.watch) == (None, frozenset(), None)
    assert (attempt.pod, attempt.end, attempt.closed) == (None, None, None)


@pytest.mark.parametrize(
    ("number", "retries", "max_tries", "is_first"),
    [
        (1, 2, 2, False),  # as scheduled
        (2, 2, 2, False),  # a retry
        (2, 2, 3, True),  # cleared after its first attempt
        (3, 2, 3, False),
        (4, 2, 5, True),
        (1, 0, 0, False),
        (2, 0, 1, True),
    ],
)
def test_the_first_attempt_after_a_clear_is_told_from_a_retry(
    attempt_of, number, retries, max_tries, is_first
):
    attempt, _ = attempt_of(number, max_tries)
    attempt.task_instance.task = SimpleNamespace(retries=retries)
    assert attempt.is_first_since_clear is is_first


def test_an_attempt_whose_supervisor_has_gone_leaves_its_pod_alone_and_writes_nothing(
    attempt_of, monkeypatch
):
    attempt, xcoms = attempt_of(1, 1)
    attempt.tick()
    assert xcoms
    xcoms.clear()
    monkeypatch.setattr(supervisor.os, "getppid", lambda: 0)
    assert attempt.is_orphaned
    with pytest.raises(SystemExit, match="the supervisor process of this task is gone"):
        attempt.tick()
    assert not xcoms


def test_in_dag_test_there_is_no_supervisor_to_lose(attempt_of, monkeypatch):
    monkeypatch.setattr(supervisor, "runs_in_dag_test", lambda: True)
    attempt, _ = attempt_of(1, 1)
    monkeypatch.setattr(supervisor.os, "getppid", lambda: 0)
    assert not attempt.is_orphaned


@pytest.mark.parametrize(("state", "is_stopped"), [("failed", True), ("running", False)])
def test_an_attempt_that_is_asked_to_end_asks_airflow_for_its_own_state(
    attempt_of, monkeypatch, state, is_stopped
):
    attempt, _ = attempt_of(1, 1)
    vars(attempt.task_instance).update(dag_id="dag", run_id="run", task_id="dbt_build", map_index=-1)

    def send(message):
        assert (message.dag_id, message.run_ids, message.task_ids) == ("dag", ["run"], ["dbt_build"])
        return TaskStatesResult(task_states={"run": {"dbt_build": state}})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    attempt.signal.receive()
    attempt.tick()
    assert (attempt.signal.reason is not None) is is_stopped
    assert attempt.signal.is_leaving is not is_stopped


class Watch:
    """What has been seen of a build, for the end of an attempt."""

    was_held_back = False
    results = ()

    def __init__(self):
        self.closed = None

    def end(self, exit_code, reason):
        if self.closed is not None:
            return False
        self.closed = Closed(exit_code, reason)
        return True

    def summary(self):
        return "1 error."


@pytest.mark.parametrize(("exit_code", "is_done"), [(0, True), (1, False), (None, False)])
def test_an_attempt_ends_once_and_remembers_how(attempt_of, exit_code, is_done):
    attempt, _ = attempt_of(1, 1)
    store = {}
    attempt.memory._store = SimpleNamespace(set=store.__setitem__, get=store.get)
    attempt.close(exit_code)
    assert attempt.closed is None
    attempt.watch = Watch()
    attempt.close(exit_code, "as dbt said")
    attempt.close(5, "again")
    assert attempt.closed == Closed(exit_code, "as dbt said")
    assert bool(store[DONE_KEY]) is attempt.memory.is_done is is_done
    assert not attempt.may_be_superseded


def test_that_a_person_has_stopped_the_task_counts_as_the_reason(attempt_of):
    attempt, _ = attempt_of(1, 1)
    attempt.watch = Watch()
    attempt.signal.reason = "the task was stopped"
    attempt.close(None, "the pod was deleted")
    assert attempt.closed == Closed(None, "the task was stopped")
    assert str(attempt.failure()) == "the task was stopped; 1 error"


@pytest.mark.parametrize("is_leaving", [True, False])
def test_where_airflow_does_not_tell_an_attempt_that_is_asked_to_leave_may_be_superseded(
    attempt_of, is_leaving
):
    attempt, _ = attempt_of(1, 1)
    attempt.signal.is_leaving = is_leaving
    assert attempt.may_be_superseded is is_leaving


@pytest.mark.parametrize("is_known", [True, False])
def test_an_attempt_that_airflow_does_not_know_any_more_is_superseded(attempt_of, is_known):
    attempt, _ = attempt_of(1, 1)
    attempt.watch = Watch()
    attempt.signal.is_leaving = is_known  # which counts no more
    attempt.memory.remember_end = lambda *, well: is_known
    attempt.close(0)
    assert attempt.may_be_superseded is not is_known


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        (
            (1, "as dbt said.", "2 success."),
            DbtRunFailed,
            "dbt ended with exit code 1: as dbt said; 2 success",
        ),
        ((2, None, "2 success"), DbtRunFailed, "dbt ended with exit code 2: 2 success"),
        ((None, "the pod was deleted", ""), PodLost, "the pod was deleted"),
        ((None, "more than MAX.", ""), PodLost, "more than MAX"),
    ],
)
def test_a_failure_says_how_dbt_ended_and_why(told, kind, words):
    failure = failure_of(*told, PodLost)
    assert type(failure) is kind
    assert str(failure) == words


def test_an_attempt_that_has_not_come_to_dbt_has_lost_its_pod(attempt_of):
    attempt, _ = attempt_of(1, 1)
    assert attempt.closed is None
    failure = attempt.failure()
    assert type(failure) is PodLost
    assert not str(failure)


def test_the_failure_of_an_attempt_tells_the_exit_code_the_reason_and_the_nodes(attempt_of):
    attempt, _ = attempt_of(1, 1)
    attempt.watch = Watch()
    attempt.close(2, "as dbt said")
    failure = attempt.failure()
    assert type(failure) is DbtRunFailed
    assert str(failure) == "dbt ended with exit code 2: as dbt said; 1 error"
