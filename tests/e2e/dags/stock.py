"""A task of another package that starts in the triggerer with a template, which Airflow renders there with its DAG."""

from datetime import datetime

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import dag


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def stock():
    DateTimeSensorAsync(
        task_id="until",
        target_time="{{ dag_run.run_after }}",
        start_from_trigger=True,
        end_from_trigger=True,
    )


stock()
