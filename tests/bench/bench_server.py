"""
What a server of dbt costs: `python tests/bench/bench_server.py [--running 50] [--queued 200] [--builds 3] [--runs 3]`.

Four figures: the time of `GET /invocations/{task_id}` while many run, what is lost of many that wait when everything is killed
and started again, how long the example project takes (by a new process of dbt as in a new pod, by a server that starts dbt as a
program, and by one that keeps it imported), and how long its DAG run takes in a pod and by a server, beside the floor. `nox -s bench -- server` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml
from bench_pods import pods
from bench_scale import DEFAULTS, WITH_EXECUTOR
from warehouses import as_it_is

from dbt_watch.testing import FakeDbt

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from serving import OPEN, Server, command, copy_example, is_fork_server, wait_for, write_settings


def answers(home, running):
    """Return the sorted times of requests in milliseconds, while so many run, and the CPU time of the API for each."""
    names = [f"p{number}" for number in range(running)]
    with Server(write_settings(home, names, {"warm": False}, workers=running, stop_grace_s=0)) as server:
        task_ids = [server.post(command(sleep=600), project_dir=name) for name in names]
        wait_for(lambda: len(server.all_pages(state="STARTED")) == running, 300)
        api, times = server.children()["api"], []
        before = api.cpu_times()
        for number in range(1000):
            began = time.perf_counter()
            server.get(task_ids[number % running])
            times.append(1000 * (time.perf_counter() - began))
        after = api.cpu_times()
        spent = after.user + after.system - before.user - before.system
    return sorted(times), 1000 * spent / len(times)


def lost(home, queued):
    """Return how many are there, how many did not run, and how many ran twice, after everything was killed."""
    with Server(write_settings(home, ("shop", "bank"), workers=2)) as server:
        for number in range(queued):
            server.post(command(), f"t{number}", project_dir=("shop", "bank")[number % 2])
        for process in [*psutil.Process(server.process.pid).children(recursive=True), server.process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        server.process.wait()
        server.start()
        wait_for(lambda: not server.all_pages(state=list(OPEN), limit=500), 600)
        found = server.all_pages(limit=500)
        begun = [who for what, who, _, _ in server.runs() if what == "begin"]
    return len(found), sum(one["state"] != "SUCCESS" for one in found), len(begun) - len(set(begun))


WORDS = {"whole build": ["build"], "one model": ["build", "--select", "stg_orders"], "ls": ["ls"]}


def starts(home, count):
    """
    Return seconds by what was asked for and how dbt was started: until the first line of the log, until the end, and of dbt's CPU time.

    A new process is that of a new pod, which parses the project anew; it is told of its end at once, a client of the server by asking
    every 20 ms. Besides, return the memory of the fork server in bytes: its own, and with its share of what others use too.
    """
    env = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    projects = {}
    for name in ("program", "warm"):
        (home / name).mkdir()
        projects[name] = {
            "directory": str(copy_example(home / name)),
            "targets": ["dev"],
            "env": {**env, "JAFFLE_SHOP_DB": str(home / name / "shop.duckdb")},
            "warm": name == "warm",
        }
    config = home / "server.yml"
    config.write_text(yaml.safe_dump({"state_dir": "state", "projects": projects}))
    times = {}
    with Server(config) as server:
        wait_for(lambda: "is warm" in server.log.read_text(), 120)
        for name in projects:
            server.wait(server.post(["build"], project_dir=name), 600)
        for _ in range(count):
            for asked, words in WORDS.items():
                times.setdefault((asked, "new process"), []).append(fresh(home, projects["program"], words))
                for name in projects:
                    times.setdefault((asked, f"server, {name}"), []).append(posted(server, words, name))
        (process,) = filter(is_fork_server, psutil.Process(server.process.pid).children(recursive=True))
        memory = process.memory_full_info()
    return times, memory.uss, memory.rss


def fresh(home, project, words):
    """Return the seconds of a new process in a directory of its own."""
    directory = home / "fresh"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    dbt = str(Path(sys.executable).parent / "dbt")
    began = time.perf_counter()
    process = subprocess.Popen(
        [dbt, "--log-format", "json", "--log-level", "debug", *words, "--target-path", str(directory)],
        cwd=project["directory"],
        env={
            **os.environ,
            **project["env"],
            "PYTHONUNBUFFERED": "1",
            "DBT_PROFILES_DIR": project["directory"],
        },
        stdout=subprocess.PIPE,
    )
    log = process.stdout.readline()
    first = time.perf_counter() - began
    log += process.communicate()[0]
    assert process.returncode == 0
    return first, time.perf_counter() - began, cpu(log)


def posted(server, words, project):
    """Return the seconds of an invocation of the server."""
    began = time.perf_counter()
    task_id = server.post(words, project_dir=project)
    while not server.client.get(f"/invocations/{task_id}/log", params={"limit": 1}).content:
        time.sleep(0.02)
    first = time.perf_counter() - began
    while server.state(task_id) in OPEN:
        time.sleep(0.02)
    end = time.perf_counter() - began
    assert server.state(task_id) == "SUCCESS"
    return (
        first,
        end,
        cpu(server.client.get(f"/invocations/{task_id}/log", params={"limit": 8 << 20}).content),
    )


def cpu(log):
    """Return the CPU time that dbt says it has taken, with its imports where it has made them."""
    (report,) = [line for line in log.splitlines() if b'"name": "ResourceReport"' in line]
    data = json.loads(report)["data"]
    return data["process_user_time"] + data["process_kernel_time"]


WAYS = ("fresh-pod", "one-pod", "by-program", "by-server", "in-no-time")
SENSORS = {"eager": "in the triggerer", "executor": "through the executor"}


def dag_runs(count):
    """
    Yield a line for each way to run the example project, with the tasks of its nodes in the triggerer, and through the executor.

    The ways are a new pod, one that finds what dbt has parsed, a server that starts dbt as a program, a warm one, and as the floor one
    whose dbt takes no time. A task is late by the time from the end of its node, as dbt tells it, until Airflow knows of it.
    """
    ways = [(way, sensors) for sensors in SENSORS for way in WAYS]
    seconds, built, late = ({way: [] for way in ways} for _ in range(3))
    with pods(warm_server, DEFAULTS | WITH_EXECUTOR, as_it_is) as running:
        for number in range(count + 1):
            for way in ways:
                row = running.measure(*way)
                if number:  # the first of each loads what the others have in memory
                    seconds[way].append(row.run)
                    built[way].append(running.built())
                    late[way] += running.late()
    for way, sensors in ways:
        found = seconds[way, sensors]
        yield (
            f"DAG run, {way}, {SENSORS[sensors]}: median {statistics.median(found):.2f} s, {min(found):.1f} to {max(found):.1f};"
            f" last node built after {statistics.median(built[way, sensors]):.2f} s;"
            f" tasks late by {statistics.median(late[way, sensors]):.2f} s at the median"
        )


@contextlib.contextmanager
def warm_server(shop, env):
    """Start a server of the project, with a warm dbt, with dbt as a program and with one that is played; yield Airflow's connection to it."""
    project = {"directory": str(shop), "profiles_dir": str(shop), "targets": ["dev"], "env": dict(env)}
    played = FakeDbt(shop / "target/manifest.json").image()
    projects = {
        "shop": project,
        "program": {**project, "warm": False},
        "played": {**project, "dbt": str(Path(played.venv) / "bin/dbt"), "warm": False},
    }
    config = shop.parent / "server.yml"
    config.write_text(yaml.safe_dump({"state_dir": "state", "projects": projects}))
    with Server(config) as server:
        wait_for(lambda: "is warm" in server.log.read_text(), 120)
        connection = {"conn_type": "http", "host": server.url, "extra": {"bearer_token": server.token}}
        yield {"AIRFLOW_CONN_DBT_API": json.dumps(connection)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--running", type=int, default=50)
    parser.add_argument("--queued", type=int, default=200)
    parser.add_argument("--builds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        homes = [Path(base) / name for name in ("answers", "lost", "starts")]
        for home in homes:
            home.mkdir()
        times, spent = answers(homes[0], args.running)
        print(
            f"GET while {args.running} run: median {statistics.median(times):.1f} ms,"
            f" 95th percentile {times[len(times) * 95 // 100]:.1f} ms, CPU time of the API {spent:.1f} ms"
        )
        there, failed, twice = lost(homes[1], args.queued)
        print(
            f"of {args.queued} queued after a kill: {there} there, {failed} that ran then are lost, {twice} run twice"
        )
        times, own, whole = starts(homes[2], args.builds)
    print(
        "| asked for | dbt started as | first line, s | end, s | CPU time of dbt, s |\n|---|---|---|---|---|"
    )
    for (asked, how), seconds in times.items():
        first, end, spent = (statistics.median(column) for column in zip(*seconds, strict=True))
        print(f"| {asked} | {how} | {first:.2f} | {end:.2f} | {spent:.2f} |")
    print(f"memory of a warm project: {own / 1e6:.0f} MB of its own, {whole / 1e6:.0f} MB in all")
    for line in dag_runs(args.runs):
        print(line)


if __name__ == "__main__":
    main()
