"""How often a journal is written and read: the first pages of a short build, and the many of a long one."""

import pytest

from dbt_watch.core.journal.pace import USUAL_INTERVAL, ReadingPace, interval_after


def test_the_longer_a_journal_the_longer_the_interval_up_to_a_limit():
    intervals = [interval_after(pages, 0.3) for pages in range(10_000)]
    assert intervals == sorted(intervals)
    assert intervals[0] == pytest.approx(0.1)
    assert intervals[10] == pytest.approx(0.3, abs=0.01)
    assert intervals[-1] == 2.0
    assert interval_after(10_000, 5.0) == 5.0


@pytest.mark.parametrize(("seconds", "interval"), [(2, 0.3), (600, 0.8), (3600, 1.9), (24 * 3600, 2.0)])
def test_the_interval_grows_with_the_time_as_its_docstring_says(seconds, interval):
    now, pages = 0.0, 0
    while now < seconds:
        now += interval_after(pages, USUAL_INTERVAL)
        pages += 1
    assert interval_after(pages, USUAL_INTERVAL) == pytest.approx(interval, abs=0.05)


def test_a_reader_looks_soon_after_each_of_the_first_pages_and_less_often_while_none_comes():
    pace = ReadingPace(0.3)
    pauses = [pace.after(pages) for pages in (0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2)]
    assert pauses == [pytest.approx(value, abs=0.001) for value in (
        0.1, 0.125, 0.156, 0.195, 0.244, 0.3, 0.3, 0.1, 0.125, 0.1, 0.125,
    )]  # fmt: skip


def test_a_reader_of_a_longer_journal_looks_as_usual_and_of_a_long_one_twice_for_each_page():
    pace = ReadingPace(0.3)
    assert [pace.after(pages) for pages in (20, 20, 21, 21)] == [0.3] * 4
    for pages in (2_000, 3_400, 3_400, 10_000):
        assert pace.after(pages) == pytest.approx(interval_after(pages, 0.3) / 2)


def test_a_reader_of_a_journal_that_was_begun_anew_begins_anew_too():
    pace = ReadingPace(0.3)
    pace.after(50)
    assert ReadingPace(0.3).after(0) == pytest.approx(0.1)
