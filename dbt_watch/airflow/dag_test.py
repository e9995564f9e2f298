"""
Runs the DAG of a file in `dag.test()`, in this process, and says what has become of it. `dbt_watch.testing` starts the process.

Usage: python -m dbt_watch.airflow.dag_test REQUEST ANSWER, two files of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import DAG


def dags_of(path: str) -> dict[str, DAG]:
    """
    Return the DAGs of a file by their ids, as the DAG processor finds them.

    :raises ImportError: with the stack trace, when the file cannot be imported
    """
    try:
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 - where it is since Airflow 3.2
    except ImportError:
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef] # noqa: PLC0415

    bag = DagBag(path)
    if bag.import_errors:
        raise ImportError("\n".join(bag.import_errors.values()))
    return dict(bag.dags)


def hurry(tasks: Iterable[Any]) -> None:
    """Have retries come at once, since nobody waits for minutes in a test."""
    for task in tasks:
        task.retry_delay = timedelta(0)
        task.retry_exponential_backoff = 0


def run_sensors_last(dag: DAG) -> None:
    """
    Have the tasks of nodes run when their producer is done.

    In `dag.test()` each would otherwise look before there is anything to see, and again seconds later. What becomes of them
    does not depend on the order: they go by the journal.
    """
    for task in dag.tasks:
        producer = dag.task_dict.get(getattr(task, "producer_task_id", None) or "")
        if producer is not None and not task.is_mapped and task.get_closest_mapped_task_group() is None:
            task.trigger_rule = TriggerRule.ALL_DONE
            task.upstream_task_ids.add(producer.task_id)
            producer.downstream_task_ids.add(task.task_id)


def connect(tasks: Iterable[Any], connection: str) -> None:
    """Have the connections by which tasks reach Kubernetes lead to one cluster, unless they are set already."""
    for task in tasks:
        conn_id = getattr(task, "kubernetes_conn_id", None)
        if isinstance(conn_id, str):
            os.environ.setdefault(f"AIRFLOW_CONN_{conn_id.upper()}", connection)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """
    Run a DAG.

    :param request: `path` of the file, `dag_id` or None for the only one, `conf` and `connection`
    :returns: `dag_id`, `state`, and of each task `task_id`, `map_index`, `state` and `value`; or an `error`
    """
    try:
        dags = dags_of(request["path"])
    except ImportError as error:
        return {"error": f"the DAG file cannot be imported:\n{error}"}
    dag_id = request["dag_id"] or (next(iter(dags)) if len(dags) == 1 else None)
    if dag_id not in dags:
        return {"error": f"name one of the DAGs of {request['path']}: {', '.join(dags) or 'it has none'}"}
    dag = dags[dag_id]
    connect(dag.tasks, request["connection"])
    hurry(dag.tasks)
    run_sensors_last(dag)
    done = dag.test(run_conf=request["conf"])
    tasks = [
        {
            "task_id": ti.task_id,
            "map_index": ti.map_index,
            "state": None if ti.state is None else str(ti.state),
            "value": ti.xcom_pull(
                task_ids=ti.task_id, map_indexes=ti.map_index if ti.map_index >= 0 else None, run_id=ti.run_id
            ),
        }
        for ti in done.get_task_instances()
    ]
    return {"dag_id": dag_id, "state": str(done.state), "tasks": tasks}


def main() -> None:
    """Answer the request of the one file with the other."""
    request, answer = map(Path, sys.argv[1:])
    answered = run(json.loads(request.read_text(encoding="utf-8")))
    answer.write_text(json.dumps(answered, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
