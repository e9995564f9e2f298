"""A single look at the journal, by a sensor that starts late on a worker."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import msgspec
import pytest
from airflow.sdk import timezone
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse, GetTaskStates, TaskStatesResult, XComResult

from dbt_watch.airflow.compat import AirflowRescheduleException
from dbt_watch.core.journal.format import HEAD_KEY, PAGES, decode_page, encode_page, page_key, part_key
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.outcome import Verdict
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.journal_publisher import JournalPublisher
from dbt_watch.sensors.journal_look import look_once
from dbt_watch.sensors.operator import DbtNodeSensor
from dbt_watch.sensors.updates import Sensor

NODES = 60
FIRST, LAST = "model.shop.node_0", f"model.shop.node_{NODES - 1}"


class Airflow:
    """A producer that is over, and its journal of many pages and parts, as the supervisor of a task tells of them."""

    def __init__(self):
        self.state = "success"
        self.xcoms = {}
        self.asked = []
        self.tasks = set()
        self.write(0)

    def write(self, exit_code, *, will_retry=False, began=0.0):
        """Write the journal; without an exit code its end is still to come."""
        self.xcoms.clear()
        writer = JournalWriter(attempt=1)
        publisher = JournalPublisher(
            Publication(writer, will_retry=will_retry, began=began), self.xcoms.__setitem__
        )
        publisher.flush()
        for number in range(NODES):
            writer.add(
                [NodeResult(unique_id=f"model.shop.node_{number}", status="success", message="x" * 15_000)]
            )
            publisher.flush()
        if exit_code is not None:
            writer.close(exit_code, reason="why")
            publisher.finish()

    def send(self, message):
        if isinstance(message, GetTaskStates):
            self.tasks.update(
                (message.dag_id, run_id, task_id)
                for run_id in message.run_ids
                for task_id in message.task_ids
            )
            return TaskStatesResult(task_states={"run": dict.fromkeys(message.task_ids, self.state)})
        self.asked.append(message.key)
        self.tasks.add((message.dag_id, message.run_id, message.task_id))
        return XComResult(key=message.key, value=self.xcoms.get(message.key))


@pytest.fixture
def airflow(monkeypatch):
    airflow = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    return airflow


def look(*unique_ids, max_pages=None, **sensor):
    task = SimpleNamespace(dag_id="shop", run_id="run", task_id="shop.orders", map_index=-1)
    sensor = Sensor(unique_ids=unique_ids, **sensor)
    return look_once(task, "shop.dbt_build", sensor, max_pages=max_pages)


def verdict(*unique_ids, **how):
    return look(*unique_ids, **how).decision.verdict


@pytest.mark.parametrize("unique_id", [FIRST, LAST])
def test_a_look_at_the_whole_journal_finds_every_node(airflow, unique_id):
    assert verdict(unique_id) is Verdict.SUCCEED


def test_a_look_at_its_end_finds_a_node_that_ended_late(airflow):
    assert verdict(LAST, max_pages=5) is Verdict.SUCCEED


def test_a_look_asks_for_so_much_at_most(airflow):
    verdict(FIRST, max_pages=20)
    journal = [name for name in airflow.asked if name != HEAD_KEY]
    assert PAGES < len(journal) == len(set(journal)) <= 20


def test_a_look_asks_about_the_producer_in_the_sensors_own_run_only(airflow):
    verdict(FIRST)
    assert airflow.tasks == {("shop", "run", "shop.dbt_build")}


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


@pytest.mark.parametrize(
    ("state", "exit_code", "will_retry", "expected"),
    [
        ("running", None, False, Verdict.WAIT),
        ("running", 0, False, Verdict.FAIL),
        ("running", 1, False, Verdict.FAIL),
        ("running", 1, True, Verdict.WAIT),
        ("failed", 1, False, Verdict.FAIL),
    ],
)
def test_the_last_page_says_how_the_attempt_stands(airflow, state, exit_code, will_retry, expected):
    airflow.state = state
    airflow.write(exit_code, will_retry=will_retry)
    update = look("model.shop.another")
    assert update.decision.verdict is expected
    assert ("(why)" in update.decision.reason) is (exit_code == 1 and expected is Verdict.FAIL)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, Verdict.WAIT),
        ("queued", Verdict.WAIT),
        ("upstream_failed", Verdict.SKIP),
        ("skipped", Verdict.SKIP),
    ],
)
def test_of_a_producer_that_does_not_run_no_journal_is_believed(airflow, state, expected):
    airflow.state = state
    update = look(FIRST)
    assert update.decision.verdict is expected
    assert not update.results


@pytest.mark.parametrize(("state", "exit_code"), [("success", 0), ("failed", 1)])
@pytest.mark.parametrize(("began", "expected"), [(1.0, Verdict.BUILD), (3.0, Verdict.SUCCEED)])
def test_a_sensor_that_is_younger_than_the_attempt_was_cleared_alone(
    airflow, state, exit_code, began, expected
):
    airflow.state = state
    airflow.write(exit_code, began=began)
    assert verdict(FIRST, made_at=2.0, is_first_try=False) is expected


def test_without_a_journal_a_sensor_goes_by_the_producers_state(airflow):
    airflow.xcoms.clear()
    for state, expected in (("running", Verdict.WAIT), ("failed", Verdict.FAIL)):
        airflow.state = state
        assert verdict(FIRST, made_at=2.0) is expected
        assert verdict(FIRST, made_at=2.0, max_pages=5) is expected


class InProcessSupervisorComms(Airflow):
    """The same in `dag.test()`, by which it is known."""


def sensor_of(**arguments):
    return DbtNodeSensor(task_id="orders", producer_task_id="shop.dbt_build", unique_ids=[FIRST], **arguments)


@pytest.fixture
def context():
    ti = SimpleNamespace(
        id=UUID(int=0), dag_id="shop", run_id="run", task_id="shop.orders", map_index=-1, try_number=1
    )
    return {"ti": ti}


def test_a_sensor_that_comes_after_its_node_ends_at_once(airflow, context, monkeypatch):
    monkeypatch.setattr("dbt_watch.sensors.operator.MAX_PAGES", 40)
    assert sensor_of(looks_first=True).execute(context)["unique_id"] == FIRST
    assert context["dbt_results"][0].unique_id == FIRST


@pytest.mark.parametrize("looks_first", [True, False])
def test_a_sensor_that_has_not_found_its_node_in_some_pages_or_does_not_look_waits(
    airflow, context, monkeypatch, looks_first
):
    deferred = []
    monkeypatch.setattr(DbtNodeSensor, "defer", lambda self, **how: deferred.append(how["method_name"]))
    sensor_of(looks_first=looks_first).execute(context)
    assert deferred == ["execute_complete"]


def test_in_dag_test_a_sensor_looks_at_the_whole_journal(context, monkeypatch):
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", InProcessSupervisorComms(), raising=False)
    assert sensor_of().execute(context)["unique_id"] == FIRST


def test_in_dag_test_a_sensor_that_would_wait_lets_the_producer_go_first(context, monkeypatch):
    airflow = InProcessSupervisorComms()
    airflow.state = None
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    before = timezone.utcnow()
    with pytest.raises(AirflowRescheduleException) as caught:
        sensor_of().execute(context)
    assert caught.value.reschedule_date > before + timedelta(seconds=1)
