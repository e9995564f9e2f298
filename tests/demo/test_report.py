"""The summary of a run, made of what Airflow and dbt reported."""

import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from rich.console import Console

from dbt_watch.local.airflow.rest import TaskInstance
from dbt_watch.local.following.observation import Observation, Task, node_reports
from dbt_watch.local.following.progress import PlainView, view_for
from dbt_watch.local.following.report import make_report, render

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def at(seconds):
    return START + timedelta(seconds=seconds)


def task(task_id, *nodes, state="success", end=10.0, operator="DbtNodeSensor"):
    instance = TaskInstance(
        id=f"id-of-{task_id}",
        task_id=task_id,
        map_index=-1,
        state=state,
        try_number=1,
        start_date=START,
        end_date=end if end is None else at(end),
        operator=operator,
        pid=None,
        hostname=None,
    )
    return Task(instance, tuple(nodes))


def node(unique_id, status="success", finished=5.0):
    value = {"unique_id": unique_id, "status": status, "execution_time": 0.25}
    if finished is not None:
        value["finished_at"] = at(finished).isoformat().replace("+00:00", "Z")
    (report,) = node_reports(value)
    return report


def report_of(*tasks, starts=(), state="success"):
    return make_report(
        Observation(state, tasks, ()),
        producers=["build.dbt_build"],
        wall_s=12.3456,
        dbt_s=None,
        pods=1,
        starts=starts,
    )


PRODUCER = task("build.dbt_build", end=9.0, operator="DbtKubernetesPodOperator")


def test_the_lag_runs_from_the_end_of_the_node_to_the_end_of_its_task():
    (row,) = report_of(task("build.orders", node("model.shop.orders", finished=5.0), end=5.75)).nodes
    assert row.lag_s == 0.75


def test_a_task_of_several_nodes_lags_behind_the_last_of_them():
    tests = task("build.orders.test", node("test.a", finished=5.0), node("test.b", finished=7.0), end=8.0)
    assert [row.lag_s for row in report_of(tests).nodes] == [1.0, 1.0]


def test_a_node_that_dbt_did_not_run_has_no_lag_and_comes_last():
    skipped = task("build.late", node("model.late", "skipped", finished=None), state="failed")
    rows = report_of(skipped, task("build.early", node("model.early"))).nodes
    assert [(row.unique_id, row.lag_s is None) for row in rows] == [
        ("model.early", False),
        ("model.late", True),
    ]


def test_the_tail_runs_from_the_end_of_the_producer_to_that_of_the_last_sensor():
    sensors = [task("build.a", node("model.a"), end=9.5), task("build.b", node("model.b"), end=11.0)]
    assert report_of(PRODUCER, *sensors).tail_s == 2.0


def test_there_is_no_tail_where_the_last_sensor_ended_before_the_producer():
    sensors = [task("build.a", node("model.a"), end=7.0), task("build.b", node("model.b"), end=8.5)]
    report = report_of(PRODUCER, *sensors)
    assert report.tail_s == report.to_json()["tail_s"] == 0.0
    out = io.StringIO()
    Console(file=out, width=160).print(render(report))
    assert "tail 0.00 s" in out.getvalue()


def test_the_tail_is_unknown_while_the_producer_has_not_ended():
    producer = task("build.dbt_build", end=None, operator="DbtKubernetesPodOperator")
    assert report_of(producer, task("build.a", node("model.a"))).tail_s is None


def test_starts_on_a_worker_are_told_apart_by_what_was_started():
    report = report_of(
        PRODUCER,
        task("build.a", node("model.a")),
        starts=["id-of-build.dbt_build", "id-of-build.a", "id-of-build.a"],
    )
    assert (report.worker_starts, report.other_worker_starts) == (2, 1)


def test_the_json_holds_the_promised_figures():
    report = report_of(PRODUCER, task("build.a", node("model.a")))
    told = json.loads(json.dumps(report.to_json()))
    assert {"run_state", "wall_s", "dbt_s", "tail_s", "pods", "worker_starts", "nodes"} <= set(told)
    assert told["wall_s"] == 12.346
    (row,) = told["nodes"]
    assert {"unique_id", "dbt_status", "task_id", "task_state", "lag_s"} <= set(row)


def test_the_table_names_each_node_with_both_of_its_states():
    broken = task("build.orders", node("model.shop.orders", "error"), state="failed")
    out = io.StringIO()
    Console(file=out, width=160).print(render(report_of(PRODUCER, broken, state="failed")))
    (line,) = [line for line in out.getvalue().splitlines() if "model.shop.orders" in line]
    assert "error" in line
    assert "failed" in line


@pytest.mark.parametrize("value", [None, "text", {"nodes": []}])
def test_a_task_that_left_no_result_has_no_nodes(value):
    assert node_reports(value) == ()


def test_progress_that_is_no_terminal_gets_one_line_per_change():
    out = io.StringIO()
    view = view_for(out)
    assert isinstance(view, PlainView)
    changed = task("build.orders", node("model.shop.orders"))
    waiting = task("build.late", state=None)
    view.show(Observation("running", (changed, waiting), (changed, waiting)))
    (line,) = out.getvalue().splitlines()
    assert "build.orders" in line
    assert "dbt: success, 0.25 s" in line


def test_a_terminal_gets_a_table_of_all_tasks():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    broken = task("build.orders", node("model.shop.orders", "error"), state="failed")
    with view_for(out) as view:
        view.step("the run has started")
        view.show(Observation("running", (broken,), ()))
    assert "build.orders" in out.getvalue()
    assert "1 of 1 tasks done" in out.getvalue()
