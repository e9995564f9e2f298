"""`dbt-watch demo` as a user runs it: what it reports, how it ends, and that nothing stays behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

COMMAND = [sys.executable, "-m", "dbt_watch.cli", "demo", "--format", "json"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo once for each set of options; return its exit status, its JSON, and its progress."""
    done = {}

    def run(*options):
        if options not in done:
            temporary = tmp_path_factory.mktemp("demo")
            ended = subprocess.run(
                [*COMMAND, *options],
                env={**os.environ, "TMPDIR": str(temporary)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.stdout, ended.stderr
            assert list(temporary.iterdir()) == []
            done[options] = ended.returncode, json.loads(ended.stdout.splitlines()[-1]), ended.stderr
        return done[options]

    return run


def states(report):
    return {row["unique_id"]: (row["dbt_status"], row["task_state"]) for row in report["nodes"]}


def test_a_good_run_succeeds_in_one_pod_with_a_green_task_for_each_node(demo):
    code, report, _ = demo()
    assert (code, report["run_state"], report["pods"]) == (0, "success", 1)
    assert len(report["nodes"]) == 22
    assert {state for _, state in states(report).values()} == {"success"}
    assert {status for status, _ in states(report).values()} == {"success", "pass"}


@pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="tasks start from the trigger since Airflow 3.3")
def test_no_sensor_is_started_on_a_worker(demo):
    _, report, _ = demo()
    assert report["worker_starts"] == 0


def test_progress_tells_each_task_as_it_turns(demo):
    _, report, progress = demo()
    for row in report["nodes"]:
        assert any("success" in line and row["task_id"] in line for line in progress.splitlines())


def test_a_broken_model_fails_its_task_and_those_that_depend_on_it_only(demo):
    code, report, _ = demo("--fail")
    assert (code, report["run_state"], report["pods"]) == (1, "failed", 1)
    found = states(report)
    assert found["model.jaffle_shop.orders"] == ("error", "failed")
    for child in ("customers", "daily_revenue"):
        status, state = found[f"model.jaffle_shop.{child}"]
        assert (status, state in {"failed", "upstream_failed"}) == ("skipped", True)
    rest = [pair for pair in found.values() if pair[0] not in {"error", "skipped"}]
    assert {state for _, state in rest} == {"success"}
    assert "seed.jaffle_shop.raw_orders" in {key for key, pair in found.items() if pair in rest}


def test_the_database_error_is_told(demo):
    _, report, progress = demo("--fail")
    (broken,) = [row for row in report["nodes"] if row["unique_id"] == "model.jaffle_shop.orders"]
    assert "Binder Error" in broken["message"]
    assert "Binder Error" in progress


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_process_and_no_file(signum, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE, start_new_session=True) as demo:
        try:
            family = descendants_when(demo.pid, lambda commands: "triggerer" in " ".join(commands))
        finally:
            demo.send_signal(signum)
        _, told = demo.communicate(timeout=60)
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


def lives(process):
    """Tell whether a process runs; one that only waits for its parent to take notice does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants_when(pid, condition, timeout=60):
    """Return all descendants of a process once their command lines fulfil a condition."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        family = psutil.Process(pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            if condition([" ".join(process.cmdline()) for process in family]):
                return family
        time.sleep(0.1)
    raise AssertionError("the processes did not appear in time")
