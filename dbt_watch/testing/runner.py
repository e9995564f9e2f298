"""Runs a DAG for a test, and looks at what has become of it: `DagRunner`, which `plugin` hands to tests as a fixture."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.results import NodeResult
from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.airflow.rest import RestError
from dbt_watch.local.airflow.waiting import wait_for
from dbt_watch.testing.dag_run import DagRun
from dbt_watch.testing.desk import logs_of, named
from dbt_watch.testing.fake_dbt import FakeDbt

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from dbt_watch.local.airflow.deployment import LocalAirflow
    from dbt_watch.local.localkube import Image, LocalKube
    from dbt_watch.testing.desk import Desk

    Dbt = FakeDbt | Image | str | os.PathLike[str]

# In seconds.
_TIMEOUT: Final = 300.0


def connection_to(kube: LocalKube) -> str:
    """Return an Airflow connection to a cluster, as the value of an environment variable."""
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(kube.kubeconfig)}})


class DagRunner:
    """
    Runs DAGs, and waits for their end.

    :param kube: the cluster of their pods
    :param images: what pods find there, whatever a run adds
    :param desk: where `dag.test()` runs
    :param airflow: returns the Airflow with a scheduler, which is started when it is asked for
    :param root: what relative paths are relative to
    :param dags_folder: where the imports of DAG files are found
    :param env: environment variables of all runs
    """

    def __init__(
        self,
        kube: LocalKube,
        images: Mapping[str, Dbt],
        desk: Desk,
        airflow: Callable[[], LocalAirflow],
        *,
        root: Path,
        dags_folder: Path,
        env: Mapping[str, str],
    ) -> None:
        self._kube = kube
        self._images = images
        self._desk = desk
        self._airflow = airflow
        self._root = root
        self._dags_folder = dags_folder
        self._env = env

    def __call__(
        self,
        file: str | os.PathLike[str],
        dag_id: str | None = None,
        *,
        dbt: Dbt | Mapping[str, Dbt] | None = None,
        conf: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        scheduler: bool = False,
        timeout: float = _TIMEOUT,
    ) -> DagRun:
        """
        Run a DAG to its end.

        :param file: the DAG's file, relative to pytest's root directory
        :param dag_id: None for the only DAG of the file
        :param dbt: what stands for the images of pods: a `FakeDbt` (or an `Image` of localkube) for all of them, or a
            dict by their names
        :param conf: of the run; it overrides the DAG's parameters
        :param env: more environment variables for the DAG file and its tasks; not with a scheduler, which was started before
        :param scheduler: True for a whole Airflow; by default the DAG runs in `dag.test()`, one task after the other
        :param timeout: seconds
        :raises CannotRun: when the DAG cannot be loaded, or is not over in time
        """
        path = (self._root / file).resolve()
        if not path.is_file():
            raise ArgumentError("file", str(file), f"a file, absolute or in {self._root}")
        if scheduler and env:
            raise ArgumentError(
                "env",
                sorted(env),
                "to be left out with a scheduler; override the fixture dbt_watch_env instead",
            )
        given = dbt if isinstance(dbt, Mapping) else {} if dbt is None else {"*": dbt}
        images = {**self._images, **given}
        fakes = list({id(one): one for one in images.values() if isinstance(one, FakeDbt)}.values())
        for fake in fakes:
            fake.runs_on(self._kube)
        self._kube.replace_images({name: _image(one) for name, one in images.items()})
        known, began = len(self._kube.pods()), time.time()
        if scheduler:
            found = self._with_scheduler(path, dag_id, conf or {}, timeout)
        else:
            found = self._at_desk(path, dag_id, conf or {}, env or {}, timeout)
        commands = [command for fake in fakes for command in fake.commands if command.at >= began]
        return DagRun(
            **found,
            pods=self._kube.pods()[known:],
            commands=sorted(commands, key=lambda command: command.at),
        )

    def _at_desk(
        self, path: Path, dag_id: str | None, conf: Mapping[str, Any], env: Mapping[str, str], timeout: float
    ) -> dict[str, Any]:
        folder = self._dags_folder if path.is_relative_to(self._dags_folder) else path.parent
        answer, output = self._desk.run(
            path,
            dag_id,
            dags_folder=folder,
            conf=conf,
            env={"KUBECONFIG": str(self._kube.kubeconfig), **self._env, **env},
            connection=connection_to(self._kube),
            timeout=timeout,
        )
        logs = logs_of(output)
        tasks = answer["tasks"]
        return {
            "dag_id": answer["dag_id"],
            "state": answer["state"],
            "states": {named(task["task_id"], task["map_index"]): task["state"] for task in tasks},
            "nodes": _nodes(task["value"] for task in tasks),
            "log_of": lambda name: logs.get(name, ""),
        }

    def _with_scheduler(
        self, path: Path, dag_id: str | None, conf: Mapping[str, Any], timeout: float
    ) -> dict[str, Any]:
        airflow = self._airflow()
        deadline = time.monotonic() + timeout
        found = dag_id or wait_for(lambda: _dag_of(airflow, path), timeout, f"no DAG of {path} is parsed")
        airflow.wait_for_dag(found, timeout=timeout)
        run_id = airflow.client.trigger_dag(found, conf)
        state = airflow.wait_for_run(found, run_id, deadline - time.monotonic())
        instances = airflow.client.task_instances(found, run_id)
        by_name = {named(one.task_id, one.map_index): one for one in instances}

        def log_of(name: str) -> str:
            one = by_name[name]
            parts = []
            for attempt in range(1, one.try_number + 1):
                with contextlib.suppress(RestError):  # an attempt that never began has none
                    parts.append(airflow.client.task_log(found, run_id, one.task_id, attempt, one.map_index))
            return "\n".join(parts)

        values = (
            airflow.client.xcom(found, run_id, one.task_id, map_index=one.map_index) for one in instances
        )
        return {
            "dag_id": found,
            "state": state,
            "states": {name: one.state for name, one in by_name.items()},
            "nodes": _nodes(values),
            "log_of": log_of,
        }


def _image(one: Dbt) -> Image | str | os.PathLike[str]:
    return one.image() if isinstance(one, FakeDbt) else one


def _dag_of(airflow: LocalAirflow, path: Path) -> str | None:
    """Return the id of the only DAG of a file, once it is parsed."""
    airflow.check()
    dags = airflow.client.get("dags", limit=1000)["dags"]
    found = [str(dag["dag_id"]) for dag in dags if dag["fileloc"] == str(path)]
    if len(found) > 1:
        raise ArgumentError("dag_id", None, f"one of the DAGs of {path}: {', '.join(found)}")
    return found[0] if found else None


def _nodes(values: Iterable[Any]) -> dict[str, NodeResult]:
    """Return what the tasks of nodes have reported, by unique_id."""
    nodes: dict[str, NodeResult] = {}
    for value in values:
        if isinstance(value, dict):
            for one in value.get("nodes", [value]):
                if isinstance(one, dict) and "unique_id" in one:
                    with contextlib.suppress(msgspec.ValidationError):  # it may be another task's own value
                        nodes[one["unique_id"]] = NodeResult.from_dict(one)
    return nodes
