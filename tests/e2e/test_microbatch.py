"""A microbatch model by the dates of the runs of its DAG, and a backfill of it."""

from datetime import date, datetime, timedelta, timezone

import duckdb
import pytest
from harness import RUN_TIMEOUT, Run, until

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

pytestmark = pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="dates of runs are the same on each version")
JANUARY = datetime(2026, 1, 1, tzinfo=timezone.utc)


def runs_of(client):
    found = client.get("dags/microbatch/dagRuns", run_type=["backfill"], limit=100, order_by="logical_date")
    return found["dag_runs"]


def is_backfilled(client):
    found = client.get("backfills", dag_id="microbatch")["backfills"]
    return any(backfill["completed_at"] is None for backfill in found)


def usage_of(day):
    """Return what the meters of the example read in a day, from 0 on."""
    return sum(1 + hour % 5 for hour in range(24 * day, 24 * day + 24))


@pytest.mark.parametrize("days", [2, pytest.param(30, marks=pytest.mark.faults)])
def test_a_backfill_builds_each_day_in_a_run_of_its_own(run_of_example, airflow, metered_database, days):
    client = airflow.client
    airflow.wait_for_dag("microbatch", timeout=RUN_TIMEOUT)
    # Airflow looks now and then whether one has ended, and has one of a DAG at a time.
    until(lambda: not is_backfilled(client), "an earlier backfill has not ended", pause=1)
    # Of the dates of which there are runs already, Airflow makes none.
    client.create_backfill("microbatch", JANUARY + timedelta(days=1), JANUARY + timedelta(days=days))
    until(lambda: len(runs_of(client)) == days, "there are not as many runs as days")
    until(
        lambda: all(run["state"] not in {"queued", "running"} for run in runs_of(client)),
        "the backfill has not ended",
        RUN_TIMEOUT * (1 + days // 10),
        pause=1,
    )
    assert {run["state"] for run in runs_of(client)} == {"success"}
    for found in runs_of(client):
        result = Run(airflow, "microbatch", found["dag_run_id"]).xcom("build.daily_usage")
        assert (result["status"], result["batch_count"]) == ("success", 1)
    with duckdb.connect(str(metered_database), read_only=True) as warehouse:
        built = warehouse.sql("select day, kwh from daily_usage order by day").fetchall()
    assert [(day.date() if isinstance(day, datetime) else day, kwh) for day, kwh in built] == [
        (date(2026, 1, 1 + day), usage_of(day)) for day in range(days)
    ]
