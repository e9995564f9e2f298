"""
Loads a DAG file in a process of its own and writes what its DAGs ask for: `python -m dbt_watch.local.run.loading FILE RESULT`.

`environment.load` starts it, with the environment that the local Airflow will have, so that what a DAG file does here it does there.
Pods are made as the operators make them, as far as that is known before there is a run: a text with a template in it is not.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.airflow.dag_files import load_dags
from dbt_watch.core.command import is_literal
from dbt_watch.core.selection.run_time import nodes_left
from dbt_watch.exceptions import ArgumentError, SelectionError
from dbt_watch.local.localkube.needs import needs_of
from dbt_watch.local.run.asked import AskedDag, AskedDags, AskedNeed, AskedTask
from dbt_watch.local.run.connections import connection_variable
from dbt_watch.local.run.policy import SELECT, builds_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KUBECONFIG: Final = "KUBECONFIG"
# What signs in to a cloud on its own, whatever its connection says.
_CLOUDS: Final = {"google": "Google", "amazon": "Amazon", "microsoft": "Microsoft"}


def main(argv: list[str]) -> None:
    """Load the DAG file, or the folder, that is the first argument; write the result to the file that is the second."""
    path, result = map(Path, argv)
    dags, errors = load_dags(path)
    asked = AskedDags(dags=tuple(asked_by(dag) for dag in dags.values()), errors=dict(errors))
    result.write_bytes(msgspec.json.encode(asked))


def asked_by(dag: Any) -> AskedDag:
    """Return what a DAG asks for."""
    tasks = [_task(task) for task in dag.tasks if _makes_pods(task) or builds_nodes(task)]
    return AskedDag(
        dag_id=dag.dag_id,
        file=str(dag.fileloc),
        params=tuple(dag.params),
        pools=tuple(sorted({task.pool for task in dag.tasks if isinstance(task.pool, str)})),
        tasks=tuple(tasks),
        select_error=_select_error(dag) if os.environ.get(SELECT) else None,
    )


def _task(task: Any) -> AskedTask:
    graph = getattr(task, "graph", None)
    project_dir = getattr(task, "project_dir", None)
    connection = _argument(task, "kubernetes_conn_id")
    return AskedTask(
        task_id=task.task_id,
        operator=task.task_type,
        needs=tuple(_needs(task, connection)) if _makes_pods(task) else (),
        connection=connection if isinstance(connection, str) and is_literal(connection) else None,
        runs_dbt=builds_nodes(task),
        project=getattr(graph, "project_name", None),
        project_dir=project_dir if isinstance(project_dir, str) and is_literal(project_dir) else None,
        group=getattr(task, "project_group", ""),
        refusal=_refusal(task),
    )


def _makes_pods(task: Any) -> bool:
    return hasattr(_class_of(task), "build_pod_request_obj")


def _needs(task: Any, connection: Any) -> Iterable[AskedNeed]:
    pod = None if _refusal(task) else _pod(task, connection)
    if pod is None:
        image = _argument(task, "image")
        pod = {"spec": {"containers": [{"image": image}]}} if isinstance(image, str) else {}
    for need in needs_of(pod):
        if is_literal(need.name) and (need.key is None or is_literal(need.key)):
            yield AskedNeed(kind=need.kind, name=need.name, key=need.key)


def _pod(task: Any, connection: Any) -> Mapping[str, Any] | None:
    """Return the pod of a task as it goes over the wire; None where it takes more than the DAG file to make it."""
    from kubernetes.client import ApiClient  # noqa: PLC0415 - not every DAG has pods

    if connection is not None:
        os.environ[f"AIRFLOW_CONN_{connection.upper()}"] = connection_variable(os.environ[KUBECONFIG])
    try:
        operator = task.unmap({}) if hasattr(task, "partial_kwargs") else task
        # As `execute` does first; a name may also come from the template of the pod.
        pod: Mapping[str, Any] = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj())
    except Exception as error:  # noqa: BLE001 - whatever an operator needs that a running task has
        sys.stderr.write(f"the pod of {task.task_id} is not known yet: {type(error).__name__}: {error}\n")
        return None
    return pod


def _argument(task: Any, name: str) -> Any:
    return task.partial_kwargs.get(name) if hasattr(task, "partial_kwargs") else getattr(task, name, None)


def _class_of(task: Any) -> Any:
    return task.operator_class if hasattr(task, "partial_kwargs") else type(task)


def _refusal(task: Any) -> str | None:
    for kind in _class_of(task).__mro__:
        _, _, provider = kind.__module__.partition("airflow.providers.")
        cloud = _CLOUDS.get(provider.partition(".")[0])
        if cloud is not None and hasattr(kind, "build_pod_request_obj"):
            return f"{kind.__name__} signs in to {cloud} to find its cluster"
    return None


def _select_error(dag: Any) -> str | None:
    """Return why the selection of this run leaves nothing of any project; None when it does, or when only a run can tell."""
    told = None
    for task in filter(builds_nodes, dag.tasks):
        try:
            nodes_left(task.graph, task.selected, task.selection, {"select": task.build.get("select")})
        except SelectionError as error:  # noqa: PERF203 - there are few
            told = str(error)
        except ArgumentError:
            return None
        else:
            return None
    return told


if __name__ == "__main__":
    main(sys.argv[1:])
