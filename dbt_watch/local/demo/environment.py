"""
Everything that the demo's run needs: the project, its manifest, the cluster or the dbt server, and Airflow.

Used by `command`. It is taken down in the reverse of the order in which it was set up.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from dbt_watch.core.extras import installation_of
from dbt_watch.local.airflow.deployment import LocalAirflow, free_port
from dbt_watch.local.airflow.processes import ProcessSet, interrupts_held, python_module, tethered
from dbt_watch.local.airflow.waiting import CannotRun, wait_for
from dbt_watch.local.following.workspace import temporary_workspace
from dbt_watch.local.localkube import Image, LocalKube, Mount

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from dbt_watch.local.localkube import PodFact

PROJECT: Final = "jaffle_shop"
IMAGE: Final = "jaffle-shop:demo"
NAMESPACE: Final = "jaffle"
PROJECT_DIR: Final = f"/usr/app/{PROJECT}"
WAREHOUSE_DIR: Final = "/warehouse"
DATABASE: Final = f"{WAREHOUSE_DIR}/{PROJECT}.duckdb"
_PARSE_TIMEOUT_S: Final = 120.0
_SERVER_TIMEOUT_S: Final = 120.0
# It says of itself how it lets dbt end.
_SERVER_GRACE_S: Final = 10.0


class DemoEnvironment:
    """
    The example project on a local cluster, with an Airflow beside it.

    :ivar airflow: there after `set_up`
    :ivar kube: the same
    """

    dag_id = PROJECT
    place = "the cluster"
    airflow: LocalAirflow
    kube: LocalKube

    def __init__(self) -> None:
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with interrupts_held():
            self._exits.close()

    def set_up(self, step: Callable[[str], None], *, timeout: float) -> None:
        """
        Start everything and wait until a run can begin.

        :param step: is told what is being done
        :param timeout: seconds for the start of Airflow
        :raises CannotRun: with what did not start, and why
        """
        step(f"preparing the project, {self.place} and Airflow's database")
        workspace = self._exits.enter_context(temporary_workspace("dbt-watch-demo-"))
        project, dags = _copy_example(workspace, self.dag_id)
        variables = self._start_place(workspace, project)
        manifest = {"JAFFLE_SHOP_MANIFEST": str(project / "target" / "manifest.json")}
        self.airflow = LocalAirflow(dags, env={**variables, **manifest})
        self._exits.callback(self.airflow.stop)
        self.airflow.prepare()
        _parse(workspace, project)
        step("starting Airflow: scheduler, triggerer, dag-processor, api-server")
        self.airflow.start(timeout)
        step(f"waiting for the DAG {self.dag_id}")
        self.airflow.wait_for_dag(self.dag_id)

    def pods(self) -> list[PodFact]:
        """Return the pods so far."""
        return self.kube.pods()

    def dbt_seconds(self) -> float | None:
        """Return how long dbt ran altogether; None while that is not known."""
        ended = [(pod.finished_at - pod.created_at).total_seconds() for pod in self.pods() if pod.finished_at]
        return sum(ended) if ended else None

    def _start_place(self, workspace: Path, project: Path) -> dict[str, str]:
        """Start what runs dbt; return what the DAG file and the tasks read from their environment."""
        self.kube = _cluster(workspace, project)
        with interrupts_held():
            self.kube.start()
            self._exits.callback(self.kube.stop)
        return _variables(self.kube)


class ServerEnvironment(DemoEnvironment):
    """The example project by a server of dbt, with an Airflow beside it."""

    dag_id = f"{PROJECT}_api"
    place = "the dbt server"
    _url = ""

    def pods(self) -> list[PodFact]:
        """Return none: a server makes none."""
        return []

    def dbt_seconds(self) -> float | None:
        """Return how long the server's invocations ran altogether."""
        listed = httpx.get(f"{self._url}/invocations", trust_env=False).json()["invocations"]
        ended = [each["ended_at"] - each["started_at"] for each in listed if each.get("ended_at")]
        return sum(ended) if ended else None

    def _start_place(self, workspace: Path, project: Path) -> dict[str, str]:
        if importlib.util.find_spec("huey") is None:
            raise CannotRun(f"the dbt server is not installed: {installation_of('dbt', 'huey')}")
        settings = {
            "state_dir": "server",
            "auth": "none",  # on loopback, and for as long as the demo lasts
            "projects": {
                PROJECT: {
                    "directory": str(project),
                    "dbt": str(Path(sys.executable).with_name("dbt")),
                    "env": {"JAFFLE_SHOP_DB": str(workspace / f"{PROJECT}.duckdb")},
                }
            },
        }
        # JSON is YAML, too.
        (workspace / "server.yml").write_text(json.dumps(settings))
        port, processes = free_port(), ProcessSet()
        self._exits.callback(processes.stop, grace=_SERVER_GRACE_S)
        arguments = ("server", "--config", str(workspace / "server.yml"), "--port", str(port))
        processes.start(
            "dbt-watch server",
            tethered(python_module("dbt_watch.cli", *arguments)),
            env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            log=workspace / "server.log",
            cwd=workspace,
        )
        self._url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            processes.check(["dbt-watch server"])
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{self._url}/readyz", trust_env=False).status_code == httpx.codes.OK
            return False

        wait_for(is_ready, _SERVER_TIMEOUT_S, "the dbt server is not ready")
        connection = {"conn_type": "http", "host": "127.0.0.1", "port": port}
        return {"AIRFLOW_CONN_DBT_API": json.dumps(connection), "JAFFLE_SHOP_RETRIES": "0"}


def examples_directory() -> Path:
    """
    Return where the examples are: inside an installed package, or beside it in a clone.

    :raises CannotRun: if they are in neither place
    """
    package = Path(__file__).resolve().parents[2]
    for directory in (package / "examples", package.parent / "examples"):
        if (directory / PROJECT).is_dir():
            return directory
    raise CannotRun(
        f"the example project is missing: neither {package} nor its parent has `examples/{PROJECT}`"
    )


def _copy_example(workspace: Path, dag_id: str) -> tuple[Path, Path]:
    """Copy the example, so that a run alters nothing in the clone; return the project and the folder of DAGs."""
    examples = examples_directory()
    project, dags = workspace / PROJECT, workspace / "dags"
    made_by_dbt = shutil.ignore_patterns("target", "logs", "*.duckdb*")
    shutil.copytree(examples / PROJECT, project, ignore=made_by_dbt)
    dags.mkdir()
    shutil.copy(examples / f"{dag_id}_dag.py", dags)
    return project, dags


def _parse(workspace: Path, project: Path) -> None:
    """Have dbt write the manifest that the DAG is made of."""
    processes = ProcessSet()
    try:
        parse = processes.start(
            "dbt parse",
            python_module("dbt.cli.main", "--no-use-colors", "parse", "--profiles-dir", str(project)),
            env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            log=workspace / "dbt-parse.log",
            cwd=project,
        )
        if parse.wait(_PARSE_TIMEOUT_S) != 0:
            raise CannotRun(f"`dbt parse` of the example failed; its last lines:\n{parse.tail()}")
    finally:
        processes.stop()


def _cluster(workspace: Path, project: Path) -> LocalKube:
    """Return a cluster that knows the one image, whose dbt is that of this interpreter's environment."""
    warehouse = workspace / "warehouse"
    warehouse.mkdir()
    image = Image(
        venv=sys.prefix,
        # The database outlives the pod, as a real warehouse does.
        mounts={PROJECT_DIR: project, WAREHOUSE_DIR: Mount(warehouse, shared=True)},
        workdir=PROJECT_DIR,
    )
    return LocalKube(images={IMAGE: image}, namespaces=[NAMESPACE])


def _variables(kube: LocalKube) -> dict[str, str]:
    """Return what the DAG file and the tasks read from their environment."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kube.kubeconfig)}}
    return {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "JAFFLE_SHOP_IMAGE": IMAGE,
        "JAFFLE_SHOP_NAMESPACE": NAMESPACE,
        "JAFFLE_SHOP_DB": DATABASE,
    }
