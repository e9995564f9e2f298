"""
A real Airflow for as long as a block of code runs: scheduler, triggerer, dag-processor and api-server.

Used by `dbt-watch demo` and by the end-to-end tests::

    with LocalAirflow(dags_folder) as airflow:
        run_id = airflow.trigger_dag("shop")
        airflow.wait_for_run("shop", run_id)
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx

from dbt_watch.core.task_states import OVER
from dbt_watch.local.airflow.processes import ProcessSet, interrupts_held
from dbt_watch.local.airflow.rest import AirflowClient, RestError
from dbt_watch.local.airflow.settings import Login, airflow_environment
from dbt_watch.local.airflow.waiting import CannotRun, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

T = TypeVar("T")

# Logs are read from the disk that all components share, so nobody needs to serve them.
COMPONENTS: Final[dict[str, tuple[str, ...]]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""The components of an Airflow and the arguments that start them, the slowest first."""

# Does what `python -m airflow` does, but looks for garbage less often: there is none among what a component imports, and looking for it
# takes a third of the start of the api-server.
_AIRFLOW: Final = """
import gc
gc.set_threshold(100_000, 50, 50)
from airflow.__main__ import main
{more}
main()
"""

# A run takes many seconds, and each question costs the api-server some of what the run needs.
_RUN_PAUSE_S: Final = 0.5

FINAL_STATES: Final = frozenset({"success", "failed"})
"""The states in which a DAG run stays."""

# Both ways to write it: `path=/.../run query= status_code=200` and `"PATCH /.../run HTTP/1.1" 200 OK`. A request that
# ran into its timeout has another status, and is made again.
_TASK_START: Final = re.compile(r"/execution/task-instances/([0-9a-f-]{36})/run\b.*[ =]200\b")


class LocalAirflow:
    """
    One Airflow in a directory of its own, on free ports of loopback.

    Nothing of it outlives the block, the exit of the interpreter or an interrupt: `stop` ends the processes
    that were started here, by id, and removes the directory.

    :param dags_folder: where the DAG files are
    :param env: more environment variables for all components, such as connections, and settings that replace ours
    :param keep_home: leave the directory, with all logs, for reading
    """

    def __init__(
        self,
        dags_folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        keep_home: bool = False,
    ) -> None:
        self.login = Login()
        self._keep_home = keep_home
        self._processes = ProcessSet()
        self._started: dict[str, datetime] = {}
        with interrupts_held():
            self.home = Path(tempfile.mkdtemp(prefix="dbt-watch-airflow-"))
            atexit.register(self.stop)
        self._held = hold_port()
        self.port = int(self._held.getsockname()[1])
        if not sys.platform.startswith("linux"):
            self._held.close()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = AirflowClient(self.url, self.login)
        self.env = {
            **airflow_environment(self.home, dags_folder.resolve(), self.port, self.login),
            **(env or {}),
        }
        self._is_sqlite = self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def prepare(self) -> None:
        """Begin to create the database and return at once, so that other things can be done meanwhile."""
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({self.login.username: self.login.password}))
        (self.home / "plugins").mkdir()
        (self.home / "tmp").mkdir()
        self._run("db migrate", "db", "migrate")

    def start(self, timeout: float = 600.0) -> None:
        """
        Start all components and wait until they are healthy; does `prepare` if that was not done.

        :param timeout: seconds
        :raises CannotRun: if a component ends or is not healthy in time, with the last lines of its log
        """
        deadline = time.monotonic() + timeout
        if not (self.home / "plugins").exists():
            self.prepare()
        self._finish_migration(timeout)
        for component in COMPONENTS:
            self._start_component(component)
        self._wait_until_healthy(deadline - time.monotonic())

    def stop(self) -> None:
        """End everything that was started and remove the directory; may be called more than once."""
        with interrupts_held():
            self.client.close()
            self._processes.stop()
            self._held.close()
            if not self._keep_home:
                shutil.rmtree(self.home, ignore_errors=True)
            atexit.unregister(self.stop)

    def pids(self) -> set[int]:
        """Return the ids of all processes of this Airflow, those of its tasks included."""
        return self._processes.pids()

    def check(self) -> None:
        """
        Make sure that all components run.

        :raises CannotRun: with the name, exit code and last lines of one that does not
        """
        self._processes.check(COMPONENTS)

    def restart_component(self, name: str, timeout: float = 240.0) -> None:
        """
        End one component and start it again.

        :param name: one of `COMPONENTS`
        :param timeout: seconds until it has to be healthy again
        """
        self.stop_component(name)
        self._start_component(name)
        self._wait_until_healthy(timeout)

    def stop_component(self, name: str, grace: float = 5.0) -> None:
        """End one component; a `grace` of 0 seconds is a SIGKILL at once. `restart_component` brings it back."""
        self._started.pop(name, None)
        self._processes.stop([name], grace=grace)

    def start_another(self, name: str) -> str:
        """
        Start a second process of a component, as a deployment with two schedulers or triggerers has.

        :param name: one of `COMPONENTS`, but not the api-server
        :returns: the name by which `stop_component` ends it
        """
        other = f"{name} 2"
        self._run(other, *COMPONENTS[name])
        return other

    def component_pid(self, name: str) -> int:
        """Return the id of the process of a component."""
        return self._processes[name].pid

    def component_log(self, name: str) -> Path:
        """Return the file that holds the output of a component."""
        return self.home / f"{name.replace(' ', '-')}.log"

    def wait_for_dag(self, dag_id: str, timeout: float = 240.0) -> None:
        """
        Wait until the DAG is there.

        :raises CannotRun: with the stack trace if a file of the folder cannot be imported, or after `timeout` s
        """

        def is_there() -> bool:
            if self.client.has_dag(dag_id):
                return True
            errors = self.client.import_errors()
            if errors:
                raise CannotRun(f"the DAG file cannot be imported:\n{errors[0].rstrip()}")
            return False

        self._wait_for(is_there, timeout, f"DAG {dag_id!r} is not parsed")

    def trigger_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Wait for the DAG, start a run of it and return the run_id; `conf` overrides its parameters."""
        self.wait_for_dag(dag_id)
        return self.client.trigger_dag(dag_id, conf)

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 600.0) -> str:
        """
        Wait for the end of a run and return its state.

        :raises CannotRun: if a component ends meanwhile, or after `timeout` seconds, naming what is unfinished
        """

        def final_state() -> str | None:
            state = str(self.client.dag_run(dag_id, run_id)["state"])
            return state if state in FINAL_STATES else None

        return self._wait_for(
            final_state, timeout, lambda: self._unfinished(dag_id, run_id), pause=_RUN_PAUSE_S
        )

    def task_starts(self) -> list[str]:
        """
        Return the id of the task instance for each start of a task on a worker so far, in order.

        Read from the requests that the api-server logged, since a worker has to ask there before it may run a
        task. Airflow's own records keep only the last start of a try. The id changes with each try.
        """
        return _TASK_START.findall(self.component_log("api-server").read_text(errors="replace"))

    def _finish_migration(self, timeout: float) -> None:
        migration = self._processes["db migrate"]
        if migration.wait(timeout) != 0:
            raise CannotRun(f"`airflow db migrate` failed; its last lines:\n{migration.tail()}")
        if self._is_sqlite:
            # Readers and a writer at the same time; the mode is a property of the file.
            path, _, _ = self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].partition("?")
            connection = sqlite3.connect(path.removeprefix("sqlite:///"))
            connection.execute("PRAGMA journal_mode=WAL")
            connection.close()

    def _start_component(self, name: str) -> None:
        self._started[name] = datetime.now(timezone.utc)
        self._run(name, *COMPONENTS[name])

    def _run(self, name: str, *arguments: str) -> None:
        log = self.component_log(name)
        program = _AIRFLOW.format(more=self._imported_ahead(name))
        command = [sys.executable, "-c", program, *arguments]
        self._processes.start(name, command, env=self.env, log=log, cwd=self.home)

    def _imported_ahead(self, name: str) -> str:  # noqa: ARG002 - there are others that import something
        """Return statements that import what the processes that this component forks would import anew; none by default."""
        return ""

    def _wait_until_healthy(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        # While the other components are still being loaded.
        self._wait_for(self._api_server_answers, timeout, "the api-server does not answer")
        self._wait_for(
            lambda: not self._unhealthy(),
            deadline - time.monotonic(),
            lambda: f"Airflow is not healthy ({', '.join(self._unhealthy())})",
        )

    def _api_server_answers(self) -> bool:
        try:
            self.client.warm_up()
        except httpx.TransportError:
            return False
        return True

    def _unhealthy(self) -> list[str]:
        """Return the components that run and have not given a sign of life since they were started."""
        try:
            health = self.client.health()
        except (httpx.TransportError, RestError):
            return ["api-server"]
        told = {name: health.get(name.replace("-", "_")) for name in self._started if name != "api-server"}
        return [
            name
            for name, one in told.items()
            if not (one and one.is_healthy and one.heartbeat and one.heartbeat >= self._started[name])
        ]

    def _wait_for(
        self,
        condition: Callable[[], T | None],
        timeout: float,
        what: str | Callable[[], str],
        *,
        pause: float = 0.2,
    ) -> T:
        """Wait as `wait_for` does, as long as all components run; :raises CannotRun: when one does not."""

        def checked() -> T | None:
            self.check()
            return condition()

        return wait_for(checked, timeout, what, pause=pause)

    def _unfinished(self, dag_id: str, run_id: str) -> str:
        states = {ti.task_id: ti.state for ti in self.client.task_instances(dag_id, run_id)}
        waiting = ", ".join(f"{task} is {state}" for task, state in states.items() if state not in OVER)
        return f"the run is not finished ({waiting or 'all tasks are'})"


def free_port() -> int:
    """Return a TCP port of loopback that is free now."""
    with hold_port() as holder:
        return int(holder.getsockname()[1])


def hold_port() -> socket.socket:
    """
    Bind a free TCP port of loopback, which nobody else is given by chance before the returned socket is closed.

    On Linux a server may listen there meanwhile, if it sets SO_REUSEADDR as servers do.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder
