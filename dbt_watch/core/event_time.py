"""
From when to when microbatch models are built in a run of a DAG: `dbt_build(event_time=...)`.

`producers.wanted` asks when dbt is about to run, since a manual run, a scheduled one and one of a backfill have different dates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from dbt_watch.exceptions import ArgumentError

DATA_INTERVAL: Final = "data_interval"
EVENT_TIME: Final = "event_time"
VARIABLES: Final = "event_time_vars"
# The runs whose dates a timetable has set.
_PLANNED: Final = frozenset({"scheduled", "backfill"})


class RunDates(msgspec.Struct, frozen=True):
    """
    The dates of a run of a DAG, as Airflow has them.

    :param start: of its data interval; None where it has none, and so for the next two
    :param end: of its data interval
    :param date: the logical date
    :param run_after: the earliest time at which it could begin
    :param run_type: "scheduled", "backfill", "manual" or "asset_triggered"
    """

    start: datetime | None
    end: datetime | None
    date: datetime | None
    run_after: datetime
    run_type: str

    @classmethod
    def of(cls, dag_run: Any) -> RunDates:
        """Return those of a run as a task sees it."""
        run_type = getattr(dag_run.run_type, "value", dag_run.run_type)
        return cls(
            dag_run.data_interval_start,
            dag_run.data_interval_end,
            dag_run.logical_date,
            dag_run.run_after,
            str(run_type),
        )


def as_stored(value: Any) -> str | float | None:
    """
    Return what `event_time` is given as JSON can hold it: a length of time as its seconds.

    :raises ArgumentError: when it is something else
    """
    if value is None:
        return None
    if value == DATA_INTERVAL:
        return DATA_INTERVAL
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ArgumentError(
            EVENT_TIME,
            value,
            f'"{DATA_INTERVAL}", or the length of time up to the date of the run: timedelta(days=1)',
        )
    return value.total_seconds()


def check(options: Mapping[str, Any]) -> None:
    """
    Check what is said of the times of a run, as far as that is known while the DAG is parsed.

    :param options: a `DbtBuild.to_dict()`
    :raises ArgumentError: when two of them contradict one another
    """
    names = options.get(VARIABLES)
    if EVENT_TIME not in options:
        if names:
            raise ArgumentError(VARIABLES, names, "event_time=... as well, which sets the start and the end")
        return
    for other in ("event_time_start", "event_time_end"):
        if options.get(other):
            raise ArgumentError(other, options[other], "to be left out: event_time=... sets it")
    if names is None:
        return
    is_pair = isinstance(names, Sequence) and not isinstance(names, str) and len(names) == _PAIR
    if not is_pair or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(VARIABLES, names, 'the names of two variables, such as ("start", "end")')
    if isinstance(options.get("vars"), str):
        raise ArgumentError("vars", options["vars"], "a dict: event_time_vars=... adds two variables to it")


_PAIR: Final = 2


def window(event_time: str | float, dates: RunDates) -> tuple[datetime, datetime] | None:
    """
    Return from when to when a run builds; None for a run that a person or an asset has begun and that has no data interval.

    :param event_time: see `as_stored`
    :param dates: of the run
    :raises ArgumentError: when the schedule gives its runs no data interval
    """
    if event_time != DATA_INTERVAL:
        end = dates.end or dates.date or dates.run_after
        return end - timedelta(seconds=float(event_time)), end
    if dates.start is not None and dates.end is not None and dates.start < dates.end:
        return dates.start, dates.end
    if dates.run_type in _PLANNED:
        raise ArgumentError(
            EVENT_TIME,
            DATA_INTERVAL,
            "a schedule whose runs have a data interval, but that of this run is empty: since Airflow 3, a cron"
            " expression creates none ([scheduler] create_cron_data_intervals). Use event_time=timedelta(days=1) for the"
            " day before the date of a run",
        )
    return None


def resolved(options: Mapping[str, Any], dates: RunDates) -> dict[str, Any]:
    """
    Return the options of a build with the times of a run in the place of `event_time`.

    :param options: a rendered `DbtBuild.to_dict()`
    :param dates: of the run
    :raises ArgumentError: see `window`
    """
    rest = {name: value for name, value in options.items() if name not in {EVENT_TIME, VARIABLES}}
    if EVENT_TIME not in options:
        return rest
    found = window(options[EVENT_TIME], dates)
    if found is None:
        return rest
    start, end = (moment.isoformat() for moment in found)
    rest |= {"event_time_start": start, "event_time_end": end}
    if names := options.get(VARIABLES):
        rest["vars"] = {**(rest.get("vars") or {}), names[0]: start, names[1]: end}
    return rest


def as_planned(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what stands for the times of a run that is not there yet, as templates are written; None where nothing does."""
    event_time = options.get(EVENT_TIME)
    if event_time is None:
        return None
    if event_time == DATA_INTERVAL:
        return "{{ data_interval_start }}", "{{ data_interval_end }}"
    return f"{{{{ data_interval_end }}}} - {timedelta(seconds=float(event_time))}", "{{ data_interval_end }}"
