"""An Airflow with Postgres and localkube on which something is measured, for `bench_load` and `bench_scale`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2

from dbt_watch.local.airflow.deployment import LocalAirflow

HERE = Path(__file__).parent
# Of the log of a task that has failed.
LOG_LINES = 30
sys.path.append(str(HERE.parent))  # where the fault tests have their Postgres from
from local_postgres import airflow_on, local_postgres  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dbt_watch.local.localkube import LocalKube


@dataclass
class AirflowBench:
    """
    An Airflow, and what is asked of its processes and its database.

    :ivar database: a connection to its database
    """

    airflow: LocalAirflow
    kube: LocalKube
    database: Any

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """Ask the database; not the API, which many workers may keep busy."""
        with self.database.cursor() as cursor:
            cursor.execute(query, arguments)
            return list(cursor.fetchall() if cursor.description else ())

    def until(self, condition: Callable[[], object], timeout: float, pause: float = 1.0) -> bool:
        """
        Wait for something; return whether it came true within so many seconds.

        :raises CannotRun: when a component of Airflow has ended
        """
        deadline = time.monotonic() + timeout
        while not condition():
            self.airflow.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
        return True

    def failures(self, dag_id: str) -> str:
        """Return the states of the tasks of a run that did not end well, and the ends of the logs of those that failed."""
        ((run_id,),) = self.rows("select run_id from dag_run where dag_id = %s", dag_id)
        client, told = self.airflow.client, []
        for task in client.task_instances(dag_id, run_id):
            if task.state == "failed":
                lines = client.task_log(dag_id, run_id, task.task_id, task.try_number).splitlines()
                told += [f"{task.task_id} has failed:", *lines[-LOG_LINES:]]
            elif task.state != "success":
                told.append(f"{task.task_id} is {task.state}")
        return "\n".join(told)

    def component(self, name: str) -> psutil.Process:
        """Return the process of a component of Airflow, or of the server of its database."""
        if name != "database":
            return psutil.Process(self.airflow.component_pid(name))
        return psutil.Process(int((self.data_directory / "postmaster.pid").read_text().split()[0]))

    @property
    def data_directory(self) -> Path:
        """Where the server of the database has its files."""
        ((data,),) = self.rows("show data_directory")
        return Path(data)


def cpu_seconds(*processes: psutil.Process) -> float:
    """Return the CPU seconds of processes, those of their children not included."""
    times = [process.cpu_times() for process in processes]
    return float(sum(item.user + item.system for item in times))


def cpu_seconds_of_tree(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and of all that it has started, what has ended by now included."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(
            psutil.NoSuchProcess
        ):  # it ends just now, and is in its parent's sum the next time
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@contextlib.contextmanager
def airflow_bench(
    dags: Path, kube: LocalKube, env: Mapping[str, str], *, logs_queries: bool = False
) -> Iterator[AirflowBench]:
    """
    Start an Airflow on a Postgres of its own, whose default connection to Kubernetes is the local one.

    :param dags: the folder of the DAG files
    :param env: more environment variables
    :param logs_queries: have Postgres log each query, in the file `log` among its own
    """
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kube.kubeconfig)}}
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(local_postgres("airflow"))
        database = stack.enter_context(
            contextlib.closing(psycopg2.connect(host=host, user="postgres", dbname="airflow"))
        )
        database.autocommit = True
        if logs_queries:
            with database.cursor() as cursor:
                cursor.execute("alter database airflow set log_statement = 'all'")
        environment = {
            **airflow_on(host),
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
            **env,
        }
        airflow = stack.enter_context(LocalAirflow(dags, env=environment))
        yield AirflowBench(airflow, kube, database)
