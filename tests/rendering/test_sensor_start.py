"""How the sensors of a group start, as it is chosen while the DAG is parsed."""

import gc
from datetime import datetime

import pytest
from airflow.sdk import DAG

from dbt_watch.rendering import executor_use, sensor_start
from dbt_watch.rendering.sensor_start import (
    BY_EXECUTOR,
    EAGER,
    EAGER_LIMIT,
    EAGER_MAPPED,
    LINEAGE,
    choose_start,
    told,
)


@pytest.fixture
def deployment(monkeypatch):
    """Return a function that says what the deployment has."""

    def has(*, starts_from_trigger=True, is_light=False, obstacle="there is none"):
        monkeypatch.setattr(sensor_start, "STARTS_FROM_TRIGGER", starts_from_trigger)
        monkeypatch.setattr(sensor_start, "is_light_triggerer_wanted", lambda: is_light)
        monkeypatch.setattr(executor_use, "obstacle", lambda dag, count, *, is_mapped: obstacle)

    has()
    return has


@pytest.fixture
def dag():
    return DAG("shop", schedule=None, start_date=datetime(2026, 1, 1))


def chosen(dag, sensors, count, *, is_mapped=False):
    warnings = []
    return choose_start(sensors, dag, count, is_mapped=is_mapped, warn=warnings.append), warnings


@pytest.mark.parametrize(
    ("has", "count", "start"),
    [
        ({}, EAGER_LIMIT, EAGER),
        ({}, EAGER_LIMIT + 1, LINEAGE),
        ({"is_light": True}, 10 * EAGER_LIMIT, EAGER),
        ({"starts_from_trigger": False}, 1, LINEAGE),
        ({"obstacle": None}, 10 * EAGER_LIMIT, BY_EXECUTOR),
        ({"obstacle": None, "is_light": True}, 1, BY_EXECUTOR),
    ],
)
def test_by_default_it_goes_by_the_size_and_by_what_the_deployment_has(deployment, dag, has, count, start):
    deployment(**has)
    assert chosen(dag, "auto", count) == (start, [])


@pytest.mark.parametrize(("sensors", "start"), [("eager", EAGER), ("lineage", LINEAGE)])
def test_what_a_user_asks_for_is_done_whatever_the_size(deployment, dag, sensors, start):
    deployment(obstacle=None, is_light=True)
    assert chosen(dag, sensors, 10 * EAGER_LIMIT) == (start, [])


def test_in_a_mapped_group_all_start_behind_one_task(deployment, dag):
    assert chosen(dag, "auto", 1, is_mapped=True) == (EAGER_MAPPED, [])


def test_where_the_executor_is_asked_for_and_not_possible_the_reason_is_told(deployment, dag):
    assert chosen(dag, "executor", 1) == (EAGER, ["there is none"])
    deployment(obstacle=None)
    assert chosen(dag, "executor", 1) == (BY_EXECUTOR, [])


def test_a_group_takes_its_places_where_the_executor_runs_its_sensors(deployment, dag):
    deployment(obstacle=None)
    chosen(dag, "auto", 7)
    chosen(dag, "executor", 5)
    chosen(dag, "eager", 3)
    assert executor_use._taken[id(dag)] == 12


def test_the_places_of_a_dag_are_forgotten_with_it(deployment):
    deployment(obstacle=None)
    dag = DAG("shop", schedule=None, start_date=datetime(2026, 1, 1))
    chosen(dag, "auto", 7)
    was = id(dag)
    del dag
    gc.collect()
    assert was not in executor_use._taken


@pytest.mark.parametrize(
    ("has", "start", "count", "words"),
    [
        ({}, EAGER, 10, "The 10 node tasks start in the triggerer, all at once."),
        ({}, EAGER, 150, "light_triggerer = True"),
        ({"is_light": True}, EAGER, 150, "all at once."),
        ({}, LINEAGE, 360, "through workers, along the lineage. They would start sooner"),
        ({"starts_from_trigger": False}, LINEAGE, 360, "along the lineage."),
        ({}, BY_EXECUTOR, 360, "The 360 node tasks run in the executor dbt_watch.NodeExecutor."),
    ],
)
def test_the_producers_log_says_how_they_start_and_what_would_be_faster(deployment, has, start, count, words):
    deployment(**has)
    text = told(start, count)
    assert words in text
    assert ("docs/scaling.md" in text) == ("would" in text or "light_triggerer" in text)
