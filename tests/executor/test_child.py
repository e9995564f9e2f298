"""The process that watches, as the scheduler's part begins it, speaks with it, and begins it anew."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dbt_watch.executor import child as module
from dbt_watch.executor.child import Child
from dbt_watch.executor.messages import Begun, Ended, Told, Watch, encoded, order_in, report_in

# What it reports for each order: the length of the task's id, and that it is alive.
ECHO = """
import socket, sys
from dbt_watch.executor.messages import Alive, Begun, encoded, order_in
connection = socket.socket(fileno=int(sys.argv[1]))
for line in connection.makefile("rb"):
    connection.sendall(encoded(Alive()) + encoded(Begun(str(len(order_in(line).id)))))
"""
DEAF = "import time; time.sleep(600)"
LIFE = 240


@pytest.fixture
def begin(monkeypatch):
    children = []
    monkeypatch.setattr(module, "_PAUSE_FIRST", 0.05)

    def begin(code=ECHO):
        children.append(Child("http://airflow/execution/", [sys.executable, "-c", code]))
        assert children[-1].revive()
        return children[-1]

    yield begin
    for child in children:
        child._put_away(grace=0)


def until(condition):
    deadline = time.monotonic() + LIFE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reports_of(child, count):
    reports = []

    def read():
        reports.extend(child.receive())
        return len(reports) >= count

    until(read)
    return reports


def test_orders_go_and_reports_come_in_their_order(begin):
    child = begin()
    for number in range(1, 1001):
        child.send(Told("x" * number))
    assert reports_of(child, 1000) == [Begun(str(number)) for number in range(1, 1001)]


def test_neither_a_process_that_takes_nothing_nor_a_large_order_holds_the_scheduler_up(begin):
    child = begin(DEAF)
    began = time.monotonic()
    for _ in range(200):
        child.send(Told("x" * 100_000))
    assert child.receive() == []
    # It would be held up for as long as the process is there.
    assert time.monotonic() - began < 120


def test_an_order_larger_than_the_connection_takes_at_once_arrives_whole(begin):
    child = begin()
    child.send(Told("x" * 3_000_000))
    assert reports_of(child, 1) == [Begun("3000000")]


def test_a_process_that_was_killed_is_begun_again_after_a_pause_and_the_caller_knows(begin):
    child = begin()
    first = child.pid
    assert not child.revive()
    os.kill(first, signal.SIGKILL)
    until(child.revive)
    assert child.pid != first
    child.send(Told("abc"))
    assert reports_of(child, 1) == [Begun("3")]


def test_pauses_grow_for_a_process_that_ends_at_once(begin, monkeypatch):
    child = begin("raise SystemExit(3)")
    pauses, following = [], child._pauses.next
    monkeypatch.setattr(child._pauses, "next", lambda: pauses.append(following()) or pauses[-1])

    def has_paused_four_times():
        child.revive()
        return len(pauses) >= 4

    until(has_paused_four_times)
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1]


def test_a_process_that_does_not_answer_is_killed(begin, monkeypatch):
    child = begin(DEAF)
    first = child.pid
    monkeypatch.setattr(module, "SILENCE", 0.1)
    time.sleep(0.15)
    until(child.revive)
    assert child.pid != first


def test_the_process_goes_when_the_scheduler_part_goes(begin, monkeypatch):
    monkeypatch.setattr(module, "_GRACE", LIFE)
    child = begin()
    process = child._process
    child.stop()
    assert process.returncode == 0
    assert child.pid is None


def test_a_process_that_does_not_go_is_killed(begin, monkeypatch):
    monkeypatch.setattr(module, "_GRACE", 0.1)
    child = begin(DEAF)
    process = child._process
    child.stop()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "message",
    [
        Watch(
            id="1",
            dag_id="d",
            run_id="r",
            task_id="t",
            try_number=1,
            producer_task_id="p",
            unique_ids=("n",),
            pid=7,
        ),
        Told("1"),
    ],
)
def test_orders_are_read_as_they_were_written(message):
    assert order_in(encoded(message)) == message


def test_reports_are_read_as_they_were_written():
    assert report_in(encoded(Ended("1"))) == Ended("1")


def test_the_real_process_says_that_it_is_alive_and_goes(monkeypatch):
    monkeypatch.setattr(module, "_GRACE", LIFE)
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0123456789abcdef" * 4)
    child = Child("http://127.0.0.1:9/execution/")
    child.revive()
    process = child._process
    heard = child._heard

    def is_heard():
        child.receive()
        return child._heard > heard

    try:
        until(is_heard)
    finally:
        child.stop()
    assert process.returncode == 0


# Begins the real process, hands the scheduler's end of the connection to a process that lives on, and dies.
ORPHANING = """
import os, subprocess, sys
from dbt_watch.executor.child import Child
child = Child("http://127.0.0.1:9/execution/")
child.revive()
while not child._read():
    pass
descriptor = child._socket.fileno()
program = [sys.executable, "-c", "import time; time.sleep(600)"]
keeper = subprocess.Popen(program, pass_fds=[descriptor], stdout=subprocess.DEVNULL)
print(child.pid, keeper.pid, flush=True)
os._exit(0)
"""


def test_the_process_goes_with_the_scheduler_whoever_else_holds_its_connection(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0123456789abcdef" * 4)
    done = subprocess.run(
        [sys.executable, "-c", ORPHANING], stdout=subprocess.PIPE, text=True, timeout=LIFE, check=True
    )
    process, keeper = map(int, done.stdout.split())
    try:
        until(lambda: has_ended(process))
        assert not has_ended(keeper)
    finally:
        os.kill(keeper, signal.SIGKILL)


def has_ended(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
