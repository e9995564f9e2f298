"""Child processes: ended with all that they started, and nothing else."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dbt_watch.local.airflow.processes import (
    Interrupted,
    ProcessSet,
    interrupts_held,
    interrupts_raised,
    python_module,
)
from dbt_watch.local.airflow.waiting import CannotRun

SLEEP = "import time; time.sleep(600)"
# Prints the id of a child that sits in a process group of its own, as Airflow's tasks do.
PARENT_OF_A_GROUP = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], preexec_fn=lambda: os.setpgid(0, 0))
print(child.pid, flush=True)
time.sleep(600)
"""
# Leaves an orphan behind in the session and ends.
PARENT_OF_AN_ORPHAN = f"""
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", {SLEEP!r}]).pid, flush=True)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes():
    started = ProcessSet()
    yield started
    started.stop(grace=0)


@pytest.fixture
def start(processes, tmp_path):
    def start_python(name, code):
        argv = [sys.executable, "-c", code]
        return processes.start(name, argv, env=os.environ, log=tmp_path / f"{name}.log", cwd=tmp_path)

    return start_python


def poll(condition, timeout=240):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)
    return value


def lives(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_stop_ends_a_grandchild_in_a_process_group_of_its_own(processes, start):
    parent = start("parent", PARENT_OF_A_GROUP)
    grandchild = int(poll(parent.tail))
    assert processes.pids() == {parent.pid, grandchild}
    processes.stop()
    assert not lives(parent.pid)
    assert not lives(grandchild)


def test_stop_ends_an_orphan_whose_parent_has_ended(processes, start):
    parent = start("parent", PARENT_OF_AN_ORPHAN)
    parent.wait(240)
    orphan = int(parent.tail())
    assert lives(orphan)
    processes.stop()
    assert not lives(orphan)


def test_a_process_that_ignores_sigterm_is_killed(processes, start):
    deaf = start("deaf", DEAF)
    poll(deaf.tail)
    processes.stop(grace=0.2)
    assert deaf.exit_code() == -signal.SIGKILL


def test_stop_leaves_processes_of_others_alone(processes, start):
    bystander = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    try:
        start("ours", SLEEP)
        processes.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_stop_can_end_one_of_several(processes, start):
    one, other = start("one", SLEEP), start("other", SLEEP)
    processes.stop(["one"])
    assert not lives(one.pid)
    assert lives(other.pid)


def test_the_end_of_a_process_is_told_with_its_exit_code_and_last_lines(processes, start):
    broken = start("broken", "print('port 80 is taken'); raise SystemExit(3)")
    broken.wait(240)
    with pytest.raises(CannotRun, match=r"broken ended with exit code 3(.|\n)*port 80 is taken"):
        processes.check(["broken"])


def test_a_process_that_takes_too_long_is_told_by_name(start):
    slow = start("slow", SLEEP)
    with pytest.raises(CannotRun, match="slow did not end within 0 s"):
        slow.wait(0.01)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_is_raised_and_says_by_which_signal(signum):
    with pytest.raises(Interrupted) as caught, interrupts_raised():
        signal.raise_signal(signum)
    assert caught.value.signum == signum


def test_an_interrupt_waits_for_the_end_of_what_may_not_be_split():
    steps = []

    def interrupted_in_the_middle():
        with interrupts_raised(), interrupts_held():
            signal.raise_signal(signal.SIGINT)
            steps.append("done")

    with pytest.raises(Interrupted):
        interrupted_in_the_middle()
    assert steps == ["done"]


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with interrupts_raised(), interrupts_held():
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_module_is_run_by_the_same_interpreter():
    assert python_module("airflow", "version") == [sys.executable, "-m", "airflow", "version"]
