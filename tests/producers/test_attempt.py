"""What an attempt tells its readers about itself."""

import time
from types import SimpleNamespace
from uuid import UUID

import pytest
from airflow.sdk.execution_time import task_runner

from dbt_watch.core.journal.format import decode_page, page_key
from dbt_watch.producers.attempt import Attempt

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
        return Attempt({"ti": ti}, stop=lambda: None), xcoms

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
