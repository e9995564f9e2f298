"""The ids of invocations: no two attempts share one, and each is found again by whom it concerns."""

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_watch.producers.api.invocation_ids import MAX_CHARS, AttemptKey, marks_of

# What the server of this library takes.
TASK_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:+=@~-]{0,249}$")

names = st.text(min_size=1, max_size=300)
keys = st.builds(
    AttemptKey,
    deployment=names,
    dag_id=names,
    run_id=names,
    map_index=st.integers(-1, 5),
    producer=names,
    task_id=names,
    life=names,
    generation=st.integers(0, 99).map(str),
    attempt=st.integers(1, 99),
)
KEY = AttemptKey(
    deployment="https://airflow.example ",
    dag_id="shop",
    run_id="scheduled__2026-01-01T00:00:00+00:00",
    map_index=-1,
    producer="build.dbt_build",
    task_id="build.dbt_build",
    life="2026-01-02T00:00:00+00:00",
    generation="2",
    attempt=1,
)


@settings(deadline=None)  # a busy machine may take long for any of them
@given(keys)
def test_any_id_is_one_that_the_server_takes_and_tells_what_it_belongs_to(key):
    task_id = key.invocation_id
    assert TASK_ID.match(task_id)
    assert len(task_id) <= MAX_CHARS
    marks = marks_of(task_id)
    assert (marks.project, marks.generation, marks.attempt) == (key.project_mark, key.generation, key.attempt)
    assert key.owns(marks)
    assert key.invocation_id == task_id


@settings(deadline=None)
@given(keys, keys)
def test_two_attempts_never_share_an_id(one, other):
    assert (one.invocation_id == other.invocation_id) is (one == other)


@settings(deadline=None)
@given(keys, st.sampled_from(AttemptKey.__struct_fields__), keys)
def test_an_attempt_that_differs_in_one_thing_alone_has_another_id(one, field, other):
    changed = msgspec.structs.replace(one, **{field: getattr(other, field)})
    assert (one.invocation_id == changed.invocation_id) is (one == changed)


def test_an_id_can_be_read():
    words = KEY.invocation_id.partition("~")[0]
    assert words == "shop.build.dbt_build@scheduled__2026-01-01T00:00:00+00:00"
    assert msgspec.structs.replace(KEY, map_index=3).invocation_id.startswith("shop.build.dbt_build.3@")


@pytest.mark.parametrize("text", ["", "nightly-1", "shop~1~2", "x~0123456789abcdef~01234567~1.x~01234567"])
def test_an_id_of_others_tells_nothing(text):
    assert marks_of(text) is None


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, False),
        ({"attempt": 3}, True),
        ({"attempt": 3, "generation": "5"}, False),
        ({"attempt": 3, "task_id": "build.orders"}, False),
        ({"attempt": 3, "life": "2026-01-03T00:00:00+00:00"}, False),
    ],
)
def test_only_an_earlier_attempt_since_the_last_clear_may_be_gone_on_with(changes, may):
    later = msgspec.structs.replace(KEY, **changes)
    assert later.may_take_over(marks_of(KEY.invocation_id)) is may


@pytest.mark.parametrize(("changes", "is_same"), [({"task_id": "build.orders", "attempt": 7, "generation": "9"}, True), ({"run_id": "x"}, False), ({"map_index": 0}, False), ({"deployment": "staging"}, False), ({"producer": "build.dbt_build_2"}, False)])  # fmt: skip
def test_the_tasks_of_one_project_and_run_know_each_other_by_a_mark(changes, is_same):
    assert (msgspec.structs.replace(KEY, **changes).project_mark == KEY.project_mark) is is_same
