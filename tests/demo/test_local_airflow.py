"""A real Airflow for a block of code: it runs a DAG, says what is wrong, and leaves nothing behind."""

import contextlib
import textwrap
from pathlib import Path

import psutil
import pytest
from harness import until

from dbt_watch.local.airflow.deployment import COMPONENTS
from dbt_watch.local.airflow.waiting import CannotRun

DAG = """
    import datetime
    from airflow.sdk import dag, task

    @dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), params={"word": "none"})
    def echo():
        @task
        def say(params=None):
            print("the word is", params["word"])
            if params["word"] == "break":
                raise ValueError("asked to break")
            return {"word": params["word"]}

        say()

    echo()
"""


@pytest.fixture(scope="module")
def airflow(stage):
    return stage.airflow


@pytest.fixture(scope="module")
def dags(airflow):
    folder = Path(airflow.env["AIRFLOW__CORE__DAGS_FOLDER"])
    (folder / "echo.py").write_text(textwrap.dedent(DAG))
    return folder


def test_a_run_leaves_its_state_value_and_log(airflow, dags):
    run_id = airflow.trigger_dag("echo", {"word": "hello"})
    assert airflow.wait_for_run("echo", run_id) == "success"
    assert airflow.client.xcom("echo", run_id, "say") == {"word": "hello"}
    assert airflow.client.xcom_keys("echo", run_id) == [("say", "return_value")]
    # It is written beside the task.
    until(
        lambda: "the word is hello" in airflow.client.task_log("echo", run_id, "say"),
        "the word is not logged",
    )


def test_each_start_of_a_task_on_a_worker_is_counted(airflow, dags):
    run_id = airflow.trigger_dag("echo", {"word": "break"})
    assert airflow.wait_for_run("echo", run_id) == "failed"
    (first,) = airflow.client.task_instances("echo", run_id)
    airflow.client.clear_tasks("echo", run_id)
    assert airflow.wait_for_run("echo", run_id) == "failed"
    (second,) = airflow.client.task_instances("echo", run_id)
    assert airflow.task_starts()[-2:] == [first.id, second.id]
    assert [entry["try_number"] for entry in airflow.client.task_tries("echo", run_id, "say")] == [1, 2]
    assert "ValueError: asked to break" in airflow.client.task_log("echo", run_id, "say", 2)


def test_a_missing_dag_is_named(airflow):
    with pytest.raises(CannotRun, match="DAG 'no_such_dag' is not parsed after 1 s"):
        airflow.wait_for_dag("no_such_dag", timeout=1)


def test_a_part_that_died_is_named_with_its_last_lines_and_can_be_started_again(airflow):
    psutil.Process(airflow.component_pid("triggerer")).kill()
    with pytest.raises(CannotRun, match="triggerer ended with exit code -9"):
        airflow.wait_for_dag("no_such_dag")
    airflow.restart_component("triggerer")
    airflow.check()


def test_a_file_that_cannot_be_imported_is_told_with_its_stack_trace(airflow, dags):
    (dags / "broken.py").write_text("from airflow.sdk import dag\nimport no_such_module\n")
    with pytest.raises(CannotRun, match="No module named 'no_such_module'"):
        airflow.wait_for_dag("broken")


def test_nothing_is_left_behind(airflow):
    before = []
    for pid in airflow.pids():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has loaded a file, say
            before.append(psutil.Process(pid))
    assert len(before) >= len(COMPONENTS)
    airflow.stop()
    assert not any(map(lives, before))
    assert airflow.pids() == set()
    assert not airflow.home.exists()


def lives(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
