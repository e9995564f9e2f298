"""What the id and the try counts of a task instance tell."""

from datetime import datetime, timezone
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from dbt_watch.airflow.task_instances import generation_of, is_first_since_clear, key_of, made_at, will_retry


def tried(number, *, max_tries, retries=2):
    return SimpleNamespace(try_number=number, max_tries=max_tries, task=SimpleNamespace(retries=retries))


def test_the_id_of_a_task_instance_tells_when_it_was_made():
    made = made_at(UUID("01a1fdf4-a6fc-7104-bb0c-9e8067d9ef50"))
    assert (
        datetime.fromtimestamp(made, timezone.utc).isoformat(timespec="minutes") == "2026-11-21T11:53+00:00"
    )
    assert made_at(str(uuid4())) == 0.0


@pytest.mark.parametrize(("map_index", "expected"), [(None, -1), (-1, -1), (3, 3)])
def test_an_unmapped_task_has_the_same_key_however_airflow_says_that(map_index, expected):
    ti = SimpleNamespace(dag_id="shop", run_id="run", task_id="orders", map_index=map_index)
    assert (key_of(ti).task_id, key_of(ti).map_index) == ("orders", expected)
    assert key_of(ti, "dbt_build").task_id == "dbt_build"


@pytest.mark.parametrize(
    ("number", "max_tries", "expected"), [(1, 0, False), (1, None, False), (2, 2, True), (3, 2, False)]
)
def test_a_task_is_tried_again_until_its_retries_are_used_up(number, max_tries, expected):
    assert will_retry(tried(number, max_tries=max_tries)) is expected


@pytest.mark.parametrize(
    ("number", "max_tries", "expected"),
    [(1, 2, False), (2, 2, False), (3, 2, False), (2, 3, True), (3, 3, False), (4, 5, True)],
)
def test_a_clear_raises_the_number_of_tries_and_a_retry_does_not(number, max_tries, expected):
    ti = tried(number, max_tries=max_tries)
    assert is_first_since_clear(ti) is expected
    assert generation_of(ti) == str(max_tries)
