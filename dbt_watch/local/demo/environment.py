"""
Everything that the demo's run needs: the project, its manifest, the cluster and Airflow.

Used by `command`. It is taken down in the reverse of the order in which it was set up.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.airflow.processes import ProcessSet, interrupts_held, python_module
from dbt_watch.local.airflow.waiting import CannotRun
from dbt_watch.local.localkube import Image, LocalKube, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

PROJECT: Final = "jaffle_shop"
IMAGE: Final = "jaffle-shop:demo"
NAMESPACE: Final = "jaffle"
PROJECT_DIR: Final = f"/usr/app/{PROJECT}"
WAREHOUSE_DIR: Final = "/warehouse"
DATABASE: Final = f"{WAREHOUSE_DIR}/{PROJECT}.duckdb"
_PARSE_TIMEOUT_S: Final = 120.0


class DemoEnvironment:
    """
    The example project on a local cluster, with an Airflow beside it.

    :ivar airflow: there after `set_up`
    :ivar kube: the same
    """

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
        step("preparing the project, the cluster and Airflow's database")
        workspace = self._exits.enter_context(_workspace())
        project, dags = _copy_example(workspace)
        self.kube = _cluster(workspace, project)
        with interrupts_held():
            self.kube.start()
            self._exits.callback(self.kube.stop)
        self.airflow = LocalAirflow(dags, env=_variables(workspace, self.kube))
        self._exits.callback(self.airflow.stop)
        self.airflow.prepare()
        _parse(workspace, project)
        step("starting Airflow: scheduler, triggerer, dag-processor, api-server")
        self.airflow.start(timeout)
        step(f"waiting for the DAG {PROJECT}")
        self.airflow.wait_for_dag(PROJECT)


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


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    def remove() -> None:
        if created:
            shutil.rmtree(created[0], ignore_errors=True)

    created: list[Path] = []
    try:
        with interrupts_held():
            created.append(Path(tempfile.mkdtemp(prefix="dbt-watch-demo-")))
            atexit.register(remove)
        yield created[0]
    finally:
        remove()
        atexit.unregister(remove)


def _copy_example(workspace: Path) -> tuple[Path, Path]:
    """Copy the example, so that a run alters nothing in the clone; return the project and the folder of DAGs."""
    examples = examples_directory()
    project, dags = workspace / PROJECT, workspace / "dags"
    made_by_dbt = shutil.ignore_patterns("target", "logs", "*.duckdb*")
    shutil.copytree(examples / PROJECT, project, ignore=made_by_dbt)
    dags.mkdir()
    shutil.copy(examples / f"{PROJECT}_dag.py", dags)
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


def _variables(workspace: Path, kube: LocalKube) -> dict[str, str]:
    """Return what the DAG file and the tasks read from their environment."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kube.kubeconfig)}}
    return {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "JAFFLE_SHOP_MANIFEST": str(workspace / PROJECT / "target" / "manifest.json"),
        "JAFFLE_SHOP_IMAGE": IMAGE,
        "JAFFLE_SHOP_NAMESPACE": NAMESPACE,
        "JAFFLE_SHOP_DB": DATABASE,
    }
