"""`dbt-watch demo` as a user runs it: what it reports, how it ends, and that nothing stays behind."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from harness import Run
from rich.console import Console

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER
from dbt_watch.cli import main
from dbt_watch.local.demo import command
from dbt_watch.local.demo.environment import PROJECT
from dbt_watch.local.following.observation import Observer
from dbt_watch.local.run.failures import failures_of, shown

COMMAND = [sys.executable, "-m", "dbt_watch.cli", "demo", "--format", "json", "--timeout", "600"]


@pytest.fixture(scope="module")
def succeeded(tmp_path_factory):
    """Run the demo as a process; return its exit status, its JSON, and its progress."""
    temporary = tmp_path_factory.mktemp("demo")
    ended = subprocess.run(
        COMMAND,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout, ended.stderr
    assert list(temporary.iterdir()) == []
    return ended.returncode, last_json(ended.stdout), ended.stderr


@pytest.fixture(scope="module")
def failed(stage):
    """Run the demo with `--fail` where everything is set up already, likewise."""
    out, progress = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(progress),
    ):
        patched.setattr(stage, "set_up", lambda step, timeout: None)
        patched.setattr(command, "DemoEnvironment", lambda: contextlib.nullcontext(stage))
        code = main(["demo", "--format", "json", "--fail"])
    return code, last_json(out.getvalue()), progress.getvalue()


def last_json(output):
    return json.loads(output.splitlines()[-1])


def states(report):
    return {row["unique_id"]: (row["dbt_status"], row["task_state"]) for row in report["nodes"]}


def test_a_good_run_succeeds_in_one_pod_with_a_green_task_for_each_node(succeeded):
    code, report, _ = succeeded
    assert (code, report["run_state"], report["pods"]) == (0, "success", 1)
    assert len(report["nodes"]) == 22
    assert {state for _, state in states(report).values()} == {"success"}
    assert {status for status, _ in states(report).values()} == {"success", "pass"}


@pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="tasks start from the trigger since Airflow 3.3")
def test_no_sensor_is_started_on_a_worker(succeeded):
    _, report, _ = succeeded
    assert report["worker_starts"] == 0


def test_each_task_that_ends_is_a_line_of_the_progress(succeeded):
    _, report, progress = succeeded
    for row in report["nodes"]:
        assert any("success" in line and row["task_id"] in line for line in progress.splitlines())


# `local_run/test_run.py` presses Ctrl-C when all of Airflow runs.
@pytest.mark.parametrize(("signum", "part"), [(signal.SIGTERM, "db migrate")], ids=str)
def test_an_interrupt_leaves_no_process_and_no_file(signum, part, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, start_new_session=True) as demo:
        try:
            family = descendants_when(demo.pid, lambda commands: part in " ".join(commands))
        finally:
            demo.send_signal(signum)
        _, told = demo.communicate(timeout=240)
    assert demo.returncode == 128 + signum
    assert b"interrupted" in told
    assert [process for process in family if lives(process)] == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_takes_too_long_ends_with_status_2_and_says_what_it_waited_for(tmp_path):
    ended = subprocess.run(
        [*COMMAND, "--timeout", "0.1"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "could not run:" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_broken_model_fails_its_task_and_those_that_depend_on_it_only(failed):
    code, report, _ = failed
    assert (code, report["run_state"], report["pods"]) == (1, "failed", 1)
    found = states(report)
    assert found["model.jaffle_shop.orders"] == ("error", "failed")
    for child in ("customers", "daily_revenue"):
        status, state = found[f"model.jaffle_shop.{child}"]
        assert (status, state in {"failed", "upstream_failed"}) == ("skipped", True)
    rest = [pair for pair in found.values() if pair[0] not in {"error", "skipped"}]
    assert {state for _, state in rest} == {"success"}
    assert "seed.jaffle_shop.raw_orders" in {key for key, pair in found.items() if pair in rest}


def test_the_database_error_is_told(failed):
    _, report, progress = failed
    (broken,) = [row for row in report["nodes"] if row["unique_id"] == "model.jaffle_shop.orders"]
    assert "Binder Error" in broken["message"]
    assert "Binder Error" in progress


def test_a_node_that_is_cleared_finds_what_the_run_before_has_built(stage):
    airflow, before = stage.airflow, len(stage.kube.pods())
    run = Run.start(airflow, PROJECT).ended()
    assert run.state == "success"
    again = run.cleared("build.orders")
    assert again.states["build.orders"] == "success", again.log("build.orders", 2)
    assert len(stage.kube.pods()) == before + 2


def test_why_it_failed_is_told_with_dbts_error_and_what_it_held_back(failed, stage):
    """As `dbt-watch run` tells it of any DAG."""
    client = stage.airflow.client
    runs = client.get(f"dags/{PROJECT}/dagRuns")["dag_runs"]
    run_id = next(run["dag_run_id"] for run in runs if run["state"] == "failed")
    run = SimpleNamespace(airflow=stage.airflow, dag_id=PROJECT, run_id=run_id)
    observation = Observer(client, PROJECT, run_id).look()
    failures = failures_of(run, observation, ["build"], [command.PRODUCER])
    (cause,) = failures.to_json()
    assert (cause["node"], failures.logs) == ("model.jaffle_shop.orders", ())
    assert "Binder Error" in cause["message"]
    assert "model.jaffle_shop.customers" in cause["blocked"]
    console = Console(file=io.StringIO(), width=160)
    console.print(*shown(failures))
    assert "Binder Error" in console.file.getvalue()


def lives(process):
    """Tell whether a process runs; one that only waits for its parent to take notice does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants_when(pid, condition, timeout=240):
    """Return all descendants of a process once their command lines fulfil a condition."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        family = psutil.Process(pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            if condition([" ".join(process.cmdline()) for process in family]):
                return family
        time.sleep(0.1)
    raise AssertionError("the processes did not appear in time")
