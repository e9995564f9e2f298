"""
What a server of dbt costs: `python tests/bench/bench_server.py [--running 50] [--queued 200] [--builds 3]`.

Three figures: the time of `GET /invocations/{task_id}` while many run, what is lost of many that wait when everything is killed
and started again, and a build of the example project by a warm server beside that of a new process of dbt, which parses the
project anew as in a new pod. `nox -s bench -- server` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
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

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from serving import OPEN, Server, command, copy_example, wait_for, write_settings


def answers(home, running):
    """Return the sorted times of requests in milliseconds, while so many run."""
    names = [f"p{number}" for number in range(running)]
    with Server(write_settings(home, names, workers=running, stop_grace_s=0)) as server:
        task_ids = [server.post(command(sleep=600), project_dir=name) for name in names]
        wait_for(lambda: len(server.all_pages(state="STARTED")) == running, 300)
        times = []
        for number in range(1000):
            began = time.perf_counter()
            server.get(task_ids[number % running])
            times.append(1000 * (time.perf_counter() - began))
    return sorted(times)


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


def builds(home, count):
    """Return the seconds of builds by a new process each, and by a server that has built before."""
    project = copy_example(home)
    env = {"JAFFLE_SHOP_DB": str(home / "shop.duckdb"), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    settings = {
        "state_dir": "state",
        "projects": {"shop": {"directory": str(project), "targets": ["dev"], "env": env}},
    }
    config = home / "server.yml"
    config.write_text(yaml.safe_dump(settings))
    dbt = [str(Path(sys.executable).parent / "dbt"), "--log-format", "json", "--log-level", "debug", "build"]
    fresh, warm = [], []
    with Server(config) as server:
        server.wait(server.post(["build"]), 600)
        for _ in range(count):
            shutil.rmtree(project / "target", ignore_errors=True)
            began = time.perf_counter()
            subprocess.run(
                [*dbt, "--profiles-dir", "."],
                cwd=project,
                env={**os.environ, **env},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            fresh.append(time.perf_counter() - began)
            began = time.perf_counter()
            assert server.wait(server.post(["build"]), 600)["state"] == "SUCCESS"
            warm.append(time.perf_counter() - began)
    return fresh, warm


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--running", type=int, default=50)
    parser.add_argument("--queued", type=int, default=200)
    parser.add_argument("--builds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        homes = [Path(base) / name for name in ("answers", "lost", "builds")]
        for home in homes:
            home.mkdir()
        times = answers(homes[0], args.running)
        print(
            f"GET while {args.running} run: median {statistics.median(times):.1f} ms,"
            f" 95th percentile {times[len(times) * 95 // 100]:.1f} ms"
        )
        there, failed, twice = lost(homes[1], args.queued)
        print(
            f"of {args.queued} queued after a kill: {there} there, {failed} that ran then are lost, {twice} run twice"
        )
        fresh, warm = (statistics.median(seconds) for seconds in builds(homes[2], args.builds))
        print(f"dbt build of the example: {fresh:.1f} s by a new process, {warm:.1f} s by a warm server")


if __name__ == "__main__":
    main()
