"""From when to when a run builds microbatch models, by the dates of the run."""

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from dbt_watch.core.command import DbtBuild, Selection, check_literals, dbt_arguments
from dbt_watch.core.event_time import RunDates, as_planned, as_stored, resolved, window
from dbt_watch.exceptions import ArgumentError

DAY = timedelta(days=1)
SECONDS = 86_400.0


def at(day, hour=0):
    return datetime(2026, 1, day, hour, tzinfo=timezone.utc)


def dates(start=None, end=None, date=None, run_after=None, run_type="manual"):
    return RunDates(start, end, date, run_after or at(9, 7), run_type)


@pytest.mark.parametrize(
    ("event_time", "run", "expected"),
    [
        # A timetable with intervals.
        ("data_interval", dates(at(1), at(2), at(1), at(2), "scheduled"), (at(1), at(2))),
        ("data_interval", dates(at(1), at(2), at(1), at(2), "backfill"), (at(1), at(2))),
        ("data_interval", dates(at(1), at(2), at(2, 7)), (at(1), at(2))),
        (SECONDS, dates(at(1), at(2), at(1), at(2), "scheduled"), (at(1), at(2))),
        (2 * SECONDS, dates(at(3), at(4), at(3), at(4), "backfill"), (at(2), at(4))),
        # A cron expression, as Airflow 3 takes it: an interval without a length, at the date of the run.
        (SECONDS, dates(at(2), at(2), at(2), at(2), "scheduled"), (at(1), at(2))),
        (SECONDS, dates(at(2), at(2), at(2), at(2), "backfill"), (at(1), at(2))),
        ("data_interval", dates(at(2), at(2), at(2), at(2)), None),
        # Begun by hand without a date, or by an asset.
        (SECONDS, dates(), (at(8, 7), at(9, 7))),
        (SECONDS, dates(date=at(5)), (at(4), at(5))),
        ("data_interval", dates(), None),
        ("data_interval", dates(run_type="asset_triggered"), None),
    ],
)
def test_the_times_follow_from_the_dates_of_the_run(event_time, run, expected):
    assert window(event_time, run) == expected


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_planned_run_without_an_interval_is_told_what_to_write_instead(run_type):
    with pytest.raises(ArgumentError, match=r"timedelta\(days=1\)"):
        window("data_interval", dates(at(2), at(2), at(2), at(2), run_type))


def test_the_dates_are_those_that_airflow_tells_a_task():
    run = SimpleNamespace(
        data_interval_start=at(1),
        data_interval_end=at(2),
        logical_date=at(1),
        run_after=at(2),
        run_type=SimpleNamespace(value="backfill"),
    )
    assert RunDates.of(run) == dates(at(1), at(2), at(1), at(2), "backfill")


def test_dbt_is_told_the_times_in_utc_as_it_takes_them_and_two_variables_beside_them():
    berlin = timezone(timedelta(hours=1))
    run = dates(at(1).astimezone(berlin), at(2).astimezone(berlin), at(1), at(2), "scheduled")
    options = resolved(
        {"event_time": "data_interval", "event_time_vars": ["since", "until"], "vars": {"a": 1}}, run
    )
    assert options["vars"] == {
        "a": 1,
        "since": "2026-01-01T01:00:00+01:00",
        "until": "2026-01-02T01:00:00+01:00",
    }
    words = dbt_arguments(options, Selection())
    assert words[words.index("--event-time-start") + 1] == "2026-01-01T00:00:00"
    assert words[words.index("--event-time-end") + 1] == "2026-01-02T00:00:00"


def test_without_times_dbt_is_told_none():
    options = {"event_time": "data_interval", "event_time_vars": ["since", "until"], "threads": 2}
    assert resolved(options, dates()) == {"threads": 2}
    assert resolved({"threads": 2}, dates()) == {"threads": 2}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2026-01-01 00:00:00+00:00", "2026-01-01T00:00:00"),  # what `{{ data_interval_start }}` becomes
        ("2026-01-01T01:30:00.123456+01:00", "2026-01-01T00:30:00"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00"),
        (datetime(2026, 1, 1, 0, 0, 0, 5), "2026-01-01T00:00:00"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01 10:00:00", "2026-01-01 10:00:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_a_time_of_ones_own_reaches_dbt_without_what_dbt_does_not_take(written, told):
    words = dbt_arguments({"event_time_start": written}, Selection())
    assert words[words.index("--event-time-start") + 1] == told


@pytest.mark.parametrize("value", ["day", 1, True, timedelta(0), -DAY, {"days": 1}])
def test_another_time_is_refused(value):
    with pytest.raises(ArgumentError, match="event_time"):
        as_stored(value)


def test_a_length_of_time_is_kept_as_json_can_hold_it():
    assert (as_stored(DAY), as_stored("data_interval"), as_stored(None)) == (SECONDS, "data_interval", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"event_time": SECONDS, "event_time_start": "2026-01-01"}, "event_time_start"),
        ({"event_time": SECONDS, "event_time_end": "{{ ds }}"}, "event_time_end"),
        ({"event_time_vars": ["since", "until"]}, "event_time"),
        ({"event_time": SECONDS, "event_time_vars": "since"}, "two variables"),
        ({"event_time": SECONDS, "event_time_vars": ["since"]}, "two variables"),
        ({"event_time": SECONDS, "event_time_vars": ["a", "b"], "vars": "{a: 1}"}, "a dict"),
    ],
)
def test_what_contradicts_it_is_refused_while_the_dag_is_parsed(options, words):
    with pytest.raises(ArgumentError, match=words):
        check_literals(DbtBuild(**options))


def test_a_plan_shows_what_the_times_follow_from():
    assert as_planned({}) is None
    assert as_planned({"event_time": "data_interval"}) == (
        "{{ data_interval_start }}",
        "{{ data_interval_end }}",
    )
    assert as_planned({"event_time": SECONDS})[0] == "{{ data_interval_end }} - 1 day, 0:00:00"
