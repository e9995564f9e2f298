"""
Runs of DAGs in `dag.test()`, each in a process of its own, with an Airflow of which no part runs: `Desk`. `plugin` has one.

The database is made once, and copied for each run; pytest's cache keeps it for the next session.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.local.airflow.settings import Login, airflow_environment
from dbt_watch.local.airflow.waiting import CannotRun

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DATABASE: Final = "airflow.db"
_STARTING: Final = re.compile(r"^.*\[DAG TEST\] starting task_id=(\S+) map_index=(-?\d+)", re.MULTILINE)
# In seconds.
_MIGRATION: Final = 300.0
_SHOWN: Final = 5_000


class Desk:
    """
    A place at which DAGs run in `dag.test()`.

    :param place: a directory of its own
    :param kept: where the database of earlier sessions is, and is left for later ones; None for nowhere
    """

    def __init__(self, place: Path, kept: Path | None = None) -> None:
        self._place = place
        self._kept = kept
        self._count = 0

    def run(
        self,
        path: Path,
        dag_id: str | None,
        *,
        dags_folder: Path,
        conf: Mapping[str, Any],
        env: Mapping[str, str],
        connection: str,
        timeout: float,
    ) -> tuple[dict[str, Any], str]:
        """
        Run a DAG, and return what `dbt_watch.airflow.dag_test` says of it, and all that was printed.

        :param path: the DAG's file
        :param dag_id: None for the only one of the file
        :param dags_folder: where the file's imports are found
        :param conf: of the run
        :param env: more environment variables
        :param connection: the Airflow connection of the cluster
        :param timeout: seconds
        :raises CannotRun: when the DAG cannot be loaded, or is not done in time
        """
        self._count += 1
        home = self._place / f"run-{self._count}"
        home.mkdir(parents=True)
        (home / "tmp").mkdir()
        shutil.copy(self._database(), home / _DATABASE)
        request, answer = home / "request.json", home / "answer.json"
        asked = {"path": str(path), "dag_id": dag_id, "conf": dict(conf), "connection": connection}
        request.write_text(json.dumps(asked), encoding="utf-8")
        variables = {**airflow_environment(home, dags_folder, 0, Login()), **env}
        command = [sys.executable, "-m", "dbt_watch.airflow.dag_test", str(request), str(answer)]
        output = _output(command, variables, home, timeout)
        if not answer.exists():
            raise CannotRun(f"`dag.test()` of {path} ended early; its last lines:\n{output[-_SHOWN:]}")
        answered: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in answered:
            raise CannotRun(answered["error"])
        return answered, output

    def _database(self) -> Path:
        """Return an empty database, made once."""
        place = self._kept or self._place
        database = place / _DATABASE
        if not database.exists():
            home = self._place / "empty"
            home.mkdir(parents=True)
            (home / "tmp").mkdir()
            variables = airflow_environment(home, home, 0, Login())
            output = _output([sys.executable, "-m", "airflow", "db", "migrate"], variables, home, _MIGRATION)
            if not (home / _DATABASE).exists():
                raise CannotRun(f"`airflow db migrate` failed; its last lines:\n{output[-_SHOWN:]}")
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(home / _DATABASE, place / f"{_DATABASE}.new")
            (place / f"{_DATABASE}.new").replace(database)  # another session may be about to do the same
        return database


def logs_of(output: str) -> dict[str, str]:
    """Return what was printed in `dag.test()` while each task ran, by the task's id and index."""
    starts = list(_STARTING.finditer(output))
    logs: dict[str, str] = {}
    for start, end in zip(starts, [*(start.start() for start in starts[1:]), len(output)], strict=True):
        name = named(start[1], int(start[2]))
        logs[name] = logs.get(name, "") + output[start.start() : end]
    return logs


def named(task_id: str, map_index: int) -> str:
    """Return how a task is named in a run."""
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"


def _output(command: list[str], env: Mapping[str, str], cwd: Path, timeout: float) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, and files of ours
            command,
            env=env,
            cwd=cwd,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""
        text = printed.decode(errors="replace") if isinstance(printed, bytes) else printed
        raise CannotRun(
            f"the run is not over after {timeout:.0f} s; its last lines:\n{text[-_SHOWN:]}"
        ) from error
    return done.stdout
