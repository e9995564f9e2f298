"""How a sensor ends on a worker: as it was decided, with what dbt reported left for callbacks and for other tasks."""

import contextlib
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, BaseOperator

from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.core.assets import TrackedAssets
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.outcome import Verdict
from dbt_watch.core.results import NodeResult, NotRun
from dbt_watch.exceptions import ArgumentError
from dbt_watch.sensors.operator import DbtNodeSensor
from dbt_watch.sensors.updates import final_update

ORDERS = "model.shop.orders"
ALIAS = f"dbt://shop/{ORDERS}"
GOOD, BAD, WARNED = (
    NodeResult(unique_id=ORDERS, name="orders", resource_type="model", status=status)
    for status in ("success", "error", "warn")
)
EMPTY = NodeResult(
    unique_id=ORDERS, name="orders", resource_type="model", status="not run", message="empty",
    not_run=NotRun.NOTHING_TO_RUN,
)  # fmt: skip
ENDS = {Verdict.FAIL: AirflowFailException, Verdict.SKIP: AirflowSkipException}


class TaskInstance:
    def __init__(self):
        self.xcoms = {}

    def xcom_push(self, *, key, value):
        self.xcoms[key] = value


@pytest.fixture
def log(monkeypatch):
    """Keep what the log of the task is told; Airflow's own goes elsewhere."""
    told = []
    log = SimpleNamespace(
        **{
            level: lambda text, *values: told.append(text % values)
            for level in ("info", "error", "exception")
        }
    )
    monkeypatch.setattr(DbtNodeSensor, "log", log)
    return told


@pytest.fixture
def context():
    return {"ti": TaskInstance()}


def sensor_with(**arguments):
    return DbtNodeSensor(
        task_id="orders", producer_task_id="shop.dbt_build", unique_ids=[ORDERS], **arguments
    )


def event(verdict, result):
    return {"verdict": verdict.value, "reason": "because", "results": result.to_dict()}


def test_a_sensor_that_succeeds_returns_what_dbt_reported(context):
    assert sensor_with().execute_complete(context, event(Verdict.SUCCEED, GOOD)) == GOOD.to_dict()
    assert context["dbt_results"] == (GOOD,)
    assert not context["ti"].xcoms


@pytest.mark.parametrize("verdict", list(ENDS))
def test_one_that_fails_or_is_skipped_says_why_and_leaves_what_dbt_reported(context, verdict):
    with pytest.raises(ENDS[verdict], match=r"^because$"):
        sensor_with().execute_complete(context, event(verdict, BAD))
    assert context["dbt_results"] == (BAD,)
    assert context["ti"].xcoms == {"return_value": BAD.to_dict()}


@pytest.mark.parametrize(("result", "calls"), [(GOOD, 0), (BAD, 0), (WARNED, 2)])
def test_callbacks_for_warnings_are_called_each_with_the_results_although_one_fails(context, result, calls):
    called = []

    def first(context):
        called.append(context["dbt_results"])
        raise RuntimeError("out of paper")

    def second(context):
        called.append(context["dbt_results"])

    sensor = sensor_with(on_warning_callback=[first, second])
    sensor.execute_complete(context, event(Verdict.SUCCEED, result))
    assert called == [(result,)] * calls


def test_that_a_callback_fails_is_said_with_its_name(context, log):
    def print_report(context):
        raise RuntimeError("out of paper")

    sensor_with(on_warning_callback=[print_report]).execute_complete(context, event(Verdict.SUCCEED, WARNED))
    assert log == ["The callback print_report failed"]


@pytest.mark.parametrize(
    ("results", "closed", "verdict"),
    [
        ([GOOD], Closed(0), Verdict.SUCCEED),
        ([BAD], Closed(1), Verdict.FAIL),
        ([], Closed(1, "OOMKilled"), Verdict.FAIL),
        ([], Closed(None, "the pod was deleted"), Verdict.FAIL),
        ([], Closed(0), Verdict.FAIL),
        ([EMPTY], Closed(0), Verdict.SKIP),
    ],
)
def test_a_build_of_ones_own_is_the_last_word(results, closed, verdict):
    update = final_update([ORDERS], results, closed)
    assert update.results == tuple(results)
    assert update.decision.verdict is verdict
    assert (closed.reason or "") in update.decision.reason


def test_a_sensor_that_is_stopped_stops_its_build():
    stopped = []
    sensor_with(rebuild=SimpleNamespace(turn=1, kill=lambda: stopped.append(1))).on_kill()
    assert stopped == [1]
    sensor_with().on_kill()


def test_a_task_in_front_of_a_single_node_is_refused_by_its_name():
    with DAG("shop", schedule=None):
        before, after, sensor = BaseOperator(task_id="load"), BaseOperator(task_id="report"), sensor_with()
    sensor >> after
    with pytest.raises(ArgumentError, match="load >> orders"):
        before >> sensor


def test_a_sensor_on_a_worker_ends_with_the_log_that_a_trigger_would_write(context, log):
    with pytest.raises(AirflowSkipException):
        sensor_with()._end(context, final_update([ORDERS], [EMPTY], Closed(0)))
    assert log == ["skipped: orders: not built: empty", "model orders: not run"]


def test_the_reason_of_a_failure_is_left_to_its_exception(context, log):
    with pytest.raises(AirflowFailException, match="orders: error"):
        sensor_with()._end(context, final_update([ORDERS], [BAD], Closed(1)))
    assert log == ["model orders: error"]


@pytest.mark.parametrize(
    ("verdict", "result", "expected"),
    [(Verdict.SUCCEED, GOOD, [ALIAS]), (Verdict.SKIP, GOOD, []), (Verdict.FAIL, BAD, [])],
)
def test_a_sensor_that_tells_of_its_builds_does_so_when_it_ends_well(
    context, monkeypatch, verdict, result, expected
):
    told = []
    monkeypatch.setattr("dbt_watch.airflow.asset_events.tell", lambda _, events: told.extend(events))
    sensor = sensor_with(assets=TrackedAssets("shop", {GOOD.unique_id: None}), tells_assets=True)
    with contextlib.suppress(AirflowFailException, AirflowSkipException):
        sensor.execute_complete(context, event(verdict, result))
    assert [item.alias for item in told] == expected


def test_a_sensor_whose_builds_are_told_by_another_task_tells_nothing(context, monkeypatch):
    monkeypatch.setattr("dbt_watch.airflow.asset_events.tell", None)
    sensor = sensor_with(assets=TrackedAssets("shop", {GOOD.unique_id: None}))
    assert sensor.execute_complete(context, event(Verdict.SUCCEED, GOOD)) == GOOD.to_dict()
