"""
What a local run needs: a process that loads the DAG file, then localkube and an Airflow, both for this DAG alone. Used by `command`.

It is taken down in the reverse of the order in which it was set up.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.airflow.processes import ProcessSet, interrupts_held, python_module
from dbt_watch.local.airflow.settings import Login, airflow_environment
from dbt_watch.local.airflow.waiting import CannotRun
from dbt_watch.local.localkube import LocalKube
from dbt_watch.local.run import policy
from dbt_watch.local.run.asked import AskedDags
from dbt_watch.local.run.preparation import PreparationError, claims_of, option_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from dbt_watch.local.localkube import Image, Missing
    from dbt_watch.local.run.asked import AskedDag
    from dbt_watch.local.run.connections import TakenOver
    from dbt_watch.local.run.preparation import UserInput

_LOADING: Final = "dbt_watch.local.run.loading"
_LOADING_TIMEOUT_S: Final = 240.0
_SLOTS: Final = 128
_DEFAULT_POOL: Final = "default_pool"
# Leads nowhere: while a DAG file is loaded, no cluster is asked, and none of the user's either.
_NOWHERE: Final = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
}


def load(path: Path, workspace: Path, taken: TakenOver, select: Sequence[str] | None) -> AskedDags:
    """
    Return what the DAGs of a file or a folder ask for.

    :param path: the file or the folder
    :param workspace: for what comes and goes with the process that loads them
    :param select: the selection of this run
    :raises CannotRun: when that process ends otherwise than well, with the last lines that it wrote
    """
    home, result, kubeconfig = workspace / "loading", workspace / "asked.json", workspace / "nowhere.json"
    (home / "tmp").mkdir(parents=True)
    kubeconfig.write_text(json.dumps(_NOWHERE))  # JSON is YAML, too
    folder = path if path.is_dir() else path.parent
    variables = {
        **airflow_environment(home, folder, 1, Login()),
        # The whole stack trace of a file that cannot be imported.
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "50",
        **_variables(workspace, str(kubeconfig), taken, select=select),
    }
    processes = ProcessSet()
    try:
        loading = processes.start(
            f"loading {path.name}",
            python_module(_LOADING, str(path), str(result)),
            env=variables,
            log=workspace / "loading.log",
            cwd=home,
        )
        if loading.wait(_LOADING_TIMEOUT_S) != 0 or not result.exists():
            raise CannotRun(f"{path} cannot be loaded; the last lines of its output:\n{loading.tail()}")
    finally:
        processes.stop()
    return msgspec.json.decode(result.read_bytes(), type=AskedDags)


class RunEnvironment:
    """
    A localkube and an Airflow for one DAG.

    :param dag: what it asks for
    :param path: the file or the folder that the user named
    :param images: what stands for images
    :param given: secrets and config maps among it
    :param taken: what Airflow has of the user's environment
    :param select: the selection of this run
    :ivar airflow: there after `set_up`
    :ivar kube: the same
    """

    airflow: LocalAirflow
    kube: LocalKube

    def __init__(
        self,
        dag: AskedDag,
        path: Path,
        *,
        images: Mapping[str, Image],
        given: UserInput,
        taken: TakenOver,
        select: Sequence[str] | None,
    ) -> None:
        self._dag = dag
        self._path = path
        self._images = images
        self._given = given
        self._taken = taken
        self._select = select
        self._exits = contextlib.ExitStack()
        self._missing: list[Missing] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with interrupts_held():
            self._exits.close()

    def set_up(self, workspace: Path, step: Callable[[str], None], *, timeout: float) -> None:
        """
        Start everything and wait until a run can begin.

        :param workspace: a directory that goes with it
        :param step: is told what is being done
        :param timeout: seconds for the start of Airflow
        :raises CannotRun: with what did not start, and why
        """
        step("starting localkube")
        self._start_kube(workspace)
        step("starting Airflow: scheduler, triggerer, dag-processor, api-server")
        dag = self._dag
        connections = [task.connection for task in dag.tasks if task.connection]
        variables = _variables(
            workspace,
            str(self.kube.kubeconfig),
            self._taken,
            select=self._select,
            connections=connections,
            dag_file=dag.file,
        )
        self.airflow = LocalAirflow(self._path if self._path.is_dir() else self._path.parent, env=variables)
        self._exits.callback(self.airflow.stop)
        self.airflow.start(timeout)
        step(f"waiting for the DAG {dag.dag_id}")
        self.airflow.wait_for_dag(dag.dag_id)
        for pool in dag.pools:
            if pool != _DEFAULT_POOL:
                self.airflow.client.create_pool(pool, _SLOTS)
        self.airflow.client.unpause_dag(dag.dag_id)

    def check(self) -> None:
        """
        Look for pods that wait in vain; to be called again and again.

        :raises PreparationError: for what has been missing at two looks in a row, with the option that would give it
        """
        missing = self.kube.missing()
        # A pod may be a moment earlier than its Secret. An image is there, or never is.
        lasting = [one for one in missing if one in self._missing or one.need.kind == "image"]
        self._missing = missing
        if lasting:
            pod, need = lasting[0].pod, lasting[0].need
            what = f"{need.kind} {need.name}" + (f" with the key {need.key}" if need.key else "")
            raise PreparationError(
                f"the pod {pod} asks for the {what}, which was not given: {option_for(need)}"
            )

    def dbt_seconds(self) -> float | None:
        """Return how long the pods of dbt ran altogether; None while that is not known."""
        builders = {task.task_id for task in self._dag.tasks if task.runs_dbt}
        ended = [
            (pod.finished_at - pod.created_at).total_seconds()
            for pod in self.kube.pods()
            if pod.finished_at and pod.labels.get("task_id") in builders
        ]
        return sum(ended) if ended else None

    def _start_kube(self, workspace: Path) -> None:
        claims = {name: workspace / "claims" / name for name in claims_of(self._dag)}
        for directory in claims.values():
            directory.mkdir(parents=True)
        self.kube = LocalKube(
            self._images,
            claims=claims,
            secrets=self._given.secrets,
            config_maps=self._given.config_maps,
            namespaces=None,
        )
        with interrupts_held():
            self.kube.start()
            self._exits.callback(self.kube.stop)


def _variables(
    workspace: Path,
    kubeconfig: str,
    taken: TakenOver,
    *,
    select: Sequence[str] | None,
    connections: Sequence[str] = (),
    dag_file: str | None = None,
) -> dict[str, str]:
    """Return what Airflow's processes have on top of Airflow's own settings."""
    settings = workspace / "settings"
    settings.mkdir(exist_ok=True)
    (settings / f"{policy.MODULE}.py").write_text(policy.SOURCE)
    variables = {
        "KUBECONFIG": kubeconfig,
        "PYTHONPATH": os.pathsep.join([str(settings), *_python_path()]),
        # Empty rather than absent, so that none of the user's own counts.
        policy.SELECT: json.dumps(list(select)) if select else "",
    }
    if dag_file is not None:
        variables[policy.DAG_FILE] = dag_file
        variables["AIRFLOW__CORE__MIGHT_CONTAIN_DAG_CALLABLE"] = f"{policy.__name__}.is_chosen"
        # In seconds. The folder may hold much else, a virtual environment even, and to look through it once is enough.
        variables["AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL"] = "3600"
    return {**taken.variables, **taken.connections(connections, kubeconfig), **variables}


def _python_path() -> list[str]:
    """Return where the user's modules are; Airflow's processes work in directories of their own."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.abspath(entry) for entry in entries if entry]  # noqa: PTH100 - links stay as they are
