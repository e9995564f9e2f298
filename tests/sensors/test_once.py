"""A single look at the journal, by a sensor that starts late on a worker."""

from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult, XComResult

from dbt_watch.core.journal import JournalWriter
from dbt_watch.core.outcome import Verdict
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.pen import Pen
from dbt_watch.sensors.once import look_once

PAGES = 30
FIRST, LAST = "model.shop.node_0", f"model.shop.node_{PAGES - 1}"


class Airflow:
    """A producer that is over, and its journal of many pages, as the supervisor of a task tells of them."""

    def __init__(self):
        self.xcoms = {}
        writer = JournalWriter(attempt=1)
        pen = Pen(writer, self.xcoms.__setitem__, will_retry=False)
        pen.open()
        for number in range(PAGES):
            writer.add([NodeResult(unique_id=f"model.shop.node_{number}", status="success")])
            pen._write_all()
        writer.close(0)
        pen.finish()

    def send(self, message):
        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={"run": dict.fromkeys(message.task_ids, "success")})
        return XComResult(key=message.key, value=self.xcoms.get(message.key))


@pytest.fixture
def airflow(monkeypatch):
    airflow = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    return airflow


def verdict(*unique_ids, max_pages=None):
    task = SimpleNamespace(dag_id="shop", run_id="run", task_id="shop.orders", map_index=-1)
    return look_once(task, "shop.dbt_build", unique_ids, max_pages=max_pages).decision.verdict


@pytest.mark.parametrize("unique_id", [FIRST, LAST])
def test_a_look_at_the_whole_journal_finds_every_node(airflow, unique_id):
    assert verdict(unique_id) is Verdict.SUCCEED


def test_a_look_at_its_last_pages_finds_a_node_that_ended_late(airflow):
    assert verdict(LAST, max_pages=5) is Verdict.SUCCEED


@pytest.mark.parametrize("unique_ids", [(FIRST,), (FIRST, LAST)])
def test_what_the_last_pages_do_not_tell_is_left_open(airflow, unique_ids):
    """The run is over, but the pages that were not looked at may tell of the node."""
    assert verdict(*unique_ids, max_pages=5) is Verdict.WAIT


def test_a_node_of_which_the_whole_journal_tells_nothing_is_not_known(airflow):
    assert verdict("model.shop.another") is Verdict.FAIL


def test_a_journal_that_is_begun_anew_while_it_is_read_is_left_open(airflow):
    del airflow.xcoms["journal_0010"]
    assert verdict(FIRST) is Verdict.WAIT
