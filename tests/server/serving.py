"""A server of the tests: its settings, its process, and a client of it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import yaml

from dbt_watch.server.database import INVOCATIONS, TURNS, Database
from dbt_watch.server.invocations.store import InvocationStore
from dbt_watch.server.settings import load_settings
from dbt_watch.server.worker.hosts import WorkerIdentity

STAND_IN = Path(__file__).with_name("stand_in.py")
OPEN = {"PENDING", "STARTED"}

# It is called otherwise than the package, which stands beside it.
DBT = "bin/run-dbt"
SCRIPT = f"""\
#!{sys.executable} -ES
import sys
from dbt.cli.main import cli
if __name__ == "__main__":
    sys.exit(cli())
"""
MAIN = """\
import os
import runpy

with open(os.path.join(os.path.dirname(__file__), "imports.log"), "a") as log:
    log.write(f"{os.getpid()}\\n")


def cli():
    runpy.run_path(os.path.join(os.path.dirname(__file__), "stand_in.py"), run_name="__main__")
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def make_project(directory):
    directory.mkdir(parents=True)
    (directory / "dbt_project.yml").write_text(f"name: {directory.name}\n")
    return directory


def make_stand_in(directory):
    """Make what dbt consists of, with the stand-in in it, and return its console script."""
    package = directory / "bin/dbt/cli"
    package.mkdir(parents=True)
    for path in (package.parent, package):
        (path / "__init__.py").touch()
    (package / "main.py").write_text(MAIN)
    shutil.copy(STAND_IN, package)
    script = directory / DBT
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return str(script)


def write_settings(home, projects=("shop",), of_projects=(), **more):
    """Write a file of settings with projects of the stand-in; return its path."""
    dbt = make_stand_in(home)
    settings = {
        "state_dir": "state",
        "projects": {
            name: {
                "directory": str(make_project(home / name)),
                "dbt": dbt,
                "targets": ["dev", "prod"],
                **dict(of_projects),
            }
            for name in projects
        },
    }
    settings |= more
    path = home / "server.yml"
    path.write_text(yaml.safe_dump(settings))
    return path


def command(**asked):
    """Return a command with which the stand-in does what it is asked for."""
    return ["build", "--vars", json.dumps(asked)]


def wait_for(condition, timeout=240.0):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return found


class Server:
    """A server as a process, with a token that may do all."""

    def __init__(self, config, *arguments, env=()):
        self.config = config
        self.home = config.parent
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {**os.environ, **dict(env)}
        self.arguments = arguments
        self.log = self.home / "server.log"
        self.process = None
        made = self.run("token", "make", f"tests-{self.port}")
        self.token = made.stdout.strip()
        self.client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def command_line(self, *arguments):
        return [sys.executable, "-m", "dbt_watch.cli", "server", "--config", str(self.config), *arguments]

    def run(self, *arguments):
        return subprocess.run(
            self.command_line(*arguments),
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
            timeout=480,
        )

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command_line("--port", str(self.port), *self.arguments), env=self.env, stdout=log, stderr=log
            )  # fmt: skip
        wait_for(self.is_ready, 240)
        return self

    def is_ready(self):
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/readyz").status_code == 200
        return False

    def children(self):
        return {
            name: next(child for child in psutil.Process(self.process.pid).children() if child.cmdline()[-1] == name)
            for name in ("api", "workers")
        }  # fmt: skip

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(240)

    def post(self, words, task_id=None, **more):
        body = {"command": words, **({"task_id": task_id} if task_id else {}), **more}
        answer = self.client.post("/invocations", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["task_id"]

    def get(self, task_id):
        return self.client.get(f"/invocations/{task_id}").json()

    def state(self, task_id):
        return self.get(task_id)["state"]

    def wait(self, task_id, timeout=240.0):
        """Wait for the end of an invocation."""
        wait_for(lambda: self.state(task_id) not in OPEN, timeout)
        return self.get(task_id)

    def forget(self):
        """End what runs and what waits, and be as one that has run nothing."""
        if self.process.poll() is not None:
            self.start()
        for one in self.all_pages(state=list(OPEN), limit=500):
            self.client.post(f"/invocations/{one['task_id']}/abort")
        wait_for(lambda: not self.all_pages(state=list(OPEN)))
        with self.database() as database, database.writing() as connection:
            connection.execute(INVOCATIONS.delete())
            connection.execute(TURNS.delete())
        (self.home / "runs.log").unlink(missing_ok=True)

    @contextlib.contextmanager
    def database(self):
        database = Database(load_settings(self.config).database_url)
        try:
            yield database
        finally:
            database.dispose()

    def worker(self, task_id):
        """Return the process of the worker that runs an invocation."""
        with self.database() as database:
            owner = InvocationStore(database).get(task_id).owner
        return psutil.Process(WorkerIdentity.parse(owner).pid)

    def wait_for_begin(self, task_id):
        """Wait until dbt runs; return its process."""
        return wait_for(
            lambda: next(
                (pid for what, who, pid, _ in self.runs() if (what, who) == ("begin", task_id)), None
            )
        )

    def runs(self):
        """Return what the stand-in noted: what, task_id, pid and when."""
        path = self.home / "runs.log"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(what, who, int(pid), float(when)) for what, who, pid, when in rows]

    def all_pages(self, **params):
        found, before = [], None
        while True:
            page = self.client.get(
                "/invocations", params={**params, **({"before": before} if before else {})}
            ).json()
            found += page["invocations"]
            before = page.get("next")
            if before is None:
                return found


def copy_example(home):
    """Copy the example project, and return where it is."""
    example = Path(__file__).parents[2] / "examples/jaffle_shop"
    return shutil.copytree(
        example, home / "jaffle_shop", ignore=shutil.ignore_patterns("target", "logs", "*.duckdb*")
    )


def is_fork_server(process):
    """Return whether a process is one that dbts are forks of, and no fork itself."""
    with contextlib.suppress(psutil.Error):
        return (
            any(word.endswith("fork_server.py") for word in process.cmdline())
            and process.parent().cmdline()[-1] == "workers"
        )
    return False
