"""How long a loop waits that tries again."""

import pytest

from dbt_watch.core.backoff import Backoff


def waits(backoff, count):
    return [backoff.next() for _ in range(count)]


def test_each_wait_is_twice_as_long_up_to_the_limit():
    assert waits(Backoff(0.5, 10.0), 7) == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_it_may_grow_by_another_factor():
    assert waits(Backoff(1.0, 20.0, factor=3.0), 4) == [1.0, 3.0, 9.0, 20.0]


def test_no_wait_is_longer_than_the_limit_not_even_the_first():
    assert waits(Backoff(5.0, 2.0), 2) == [2.0, 2.0]


def test_after_a_success_the_waits_begin_anew():
    backoff = Backoff(0.5, 10.0)
    waits(backoff, 4)
    assert backoff.failures == 4
    backoff.reset()
    assert backoff.failures == 0
    assert waits(backoff, 2) == [0.5, 1.0]


def test_it_goes_on_for_ever():
    assert Backoff(0.5, 10.0).after(10**9) == 10.0


def test_who_keeps_the_count_elsewhere_is_told_the_same_waits():
    counting = Backoff(4.0, 60.0)
    assert [Backoff(4.0, 60.0).after(count) for count in range(1, 8)] == waits(counting, 7)


@pytest.mark.parametrize("failures", [1, 4, 20])
def test_with_jitter_a_wait_is_somewhat_longer_or_shorter_at_random(failures):
    exact = Backoff(0.5, 15.0).after(failures)
    found = {Backoff(0.5, 15.0, jitter=0.25).after(failures) for _ in range(200)}
    assert len(found) > 100
    assert exact * 0.75 <= min(found) < exact * 0.9
    assert exact * 1.1 < max(found) <= exact * 1.25
