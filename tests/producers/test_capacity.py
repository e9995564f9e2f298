"""Where a producer waits in a triggerer: only where the sensors that wait for it leave it a place."""

import logging

import pytest

from dbt_watch.producers.triggerer_capacity import has_place


class Producer:
    """A task instance that knows how many tasks of its DAG are deferred, by run."""

    dag_id, run_id = "shop", "today"

    def __init__(self, **deferred):
        self._deferred = deferred

    def get_ti_count(self, *, dag_id, states, run_ids=None):
        assert (dag_id, states) == ("shop", ["deferred"])
        return sum(self._deferred[run_id] for run_id in run_ids or self._deferred)


@pytest.fixture(autouse=True)
def places(monkeypatch):
    monkeypatch.setenv("AIRFLOW__TRIGGERER__CAPACITY", "10")


@pytest.mark.parametrize(
    ("sensors", "deferred", "is_left"),
    [
        (9, {"today": 0}, True),
        (9, {"today": 9}, True),  # its own sensors, which are counted once
        (4, {"today": 0, "yesterday": 5}, True),
        (4, {"today": 4, "yesterday": 6}, False),
        (4, {"today": 0, "yesterday": 6}, False),  # its own come later, one level after the other
        (4, {"today": 10}, False),  # those of another project in the same run
    ],
)
def test_a_place_is_left_beside_all_of_its_dag_that_wait(sensors, deferred, is_left, caplog):
    assert has_place(Producer(**deferred), sensors, logging.getLogger()) is is_left
    assert ("The worker follows dbt" in caplog.text) is not is_left


def test_more_sensors_than_places_need_no_question(caplog):
    assert not has_place(None, 10, logging.getLogger())
    assert "the 10 sensors and deferred tasks of this DAG could fill all 10 slots" in caplog.text
