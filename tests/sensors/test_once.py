"""A single look at the journal, by a sensor that starts late on a worker."""

from types import SimpleNamespace

import msgspec
import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetTaskStates, TaskStatesResult, XComResult

from dbt_watch.core.journal import JournalWriter
from dbt_watch.core.outcome import Verdict
from dbt_watch.core.pages import HEAD_KEY, PAGES, decode_page, encode_page, page_key, part_key
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.pen import Pen
from dbt_watch.sensors.once import look_once
from dbt_watch.sensors.updates import Sensor

NODES = 60
FIRST, LAST = "model.shop.node_0", f"model.shop.node_{NODES - 1}"


class Airflow:
    """A producer that is over, and its journal of many pages and parts, as the supervisor of a task tells of them."""

    def __init__(self):
        self.xcoms = {}
        self.asked = []
        writer = JournalWriter(attempt=1)
        pen = Pen(writer, self.xcoms.__setitem__, will_retry=False)
        pen.open()
        for number in range(NODES):
            writer.add(
                [NodeResult(unique_id=f"model.shop.node_{number}", status="success", message="x" * 15_000)]
            )
            pen._write_all()
        writer.close(0)
        pen.finish()

    def send(self, message):
        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={"run": dict.fromkeys(message.task_ids, "success")})
        self.asked.append(message.key)
        return XComResult(key=message.key, value=self.xcoms.get(message.key))


@pytest.fixture
def airflow(monkeypatch):
    airflow = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    return airflow


def verdict(*unique_ids, max_pages=None):
    task = SimpleNamespace(dag_id="shop", run_id="run", task_id="shop.orders", map_index=-1)
    sensor = Sensor(unique_ids=unique_ids)
    return look_once(task, "shop.dbt_build", sensor, max_pages=max_pages).decision.verdict


@pytest.mark.parametrize("unique_id", [FIRST, LAST])
def test_a_look_at_the_whole_journal_finds_every_node(airflow, unique_id):
    assert verdict(unique_id) is Verdict.SUCCEED


def test_a_look_at_its_end_finds_a_node_that_ended_late(airflow):
    assert verdict(LAST, max_pages=5) is Verdict.SUCCEED


def test_a_look_asks_for_so_much_at_most(airflow):
    verdict(FIRST, max_pages=20)
    journal = [name for name in airflow.asked if name != HEAD_KEY]
    assert PAGES < len(journal) == len(set(journal)) <= 20


def test_a_look_that_began_before_the_head_was_moved_finds_every_node(airflow):
    airflow.xcoms[HEAD_KEY] = 0
    assert verdict(FIRST, LAST) is Verdict.SUCCEED


@pytest.mark.parametrize("unique_ids", [(FIRST,), (FIRST, LAST)])
def test_what_the_end_does_not_tell_is_left_open(airflow, unique_ids):
    """The run is over, but the parts that were not looked at may tell of the node."""
    assert verdict(*unique_ids, max_pages=5) is Verdict.WAIT


def test_a_node_of_which_the_whole_journal_tells_nothing_is_not_known(airflow):
    assert verdict("model.shop.another") is Verdict.FAIL


@pytest.mark.parametrize("key", [part_key(2), page_key(NODES)])
def test_a_journal_that_is_begun_anew_while_it_is_read_is_left_open(airflow, key):
    del airflow.xcoms[key]
    assert verdict(FIRST) is Verdict.WAIT


def test_what_another_attempt_has_written_meanwhile_is_not_mixed_in(airflow):
    page = decode_page(airflow.xcoms[part_key(0)])
    later = msgspec.structs.replace(page.chunk, attempt=2)
    airflow.xcoms[part_key(0)] = encode_page(msgspec.structs.replace(page, chunk=later))
    assert verdict(FIRST) is Verdict.WAIT


@pytest.mark.parametrize("answer", [ErrorResponse(), XComResult(key="journal_head", value="damaged")])
def test_a_bad_answer_leaves_the_decision_to_the_hub(airflow, monkeypatch, answer):
    assert verdict(FIRST) is Verdict.SUCCEED
    good = airflow.send
    monkeypatch.setattr(
        airflow, "send", lambda message: good(message) if isinstance(message, GetTaskStates) else answer
    )
    assert verdict(FIRST) is Verdict.WAIT


def test_a_page_that_cannot_be_read_leaves_the_decision_to_the_hub(airflow):
    airflow.xcoms["journal_0003"] = '{"foreign": true}'
    assert verdict(FIRST) is Verdict.WAIT
