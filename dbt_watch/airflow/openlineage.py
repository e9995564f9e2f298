"""
Airflow's OpenLineage provider: whether it is there and wanted, how it names the run of a task, and its client.

`producers.lineage` calls it, on a worker and in a triggerer. Nothing of the provider is imported before it is known to be installed.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context


def is_installed() -> bool:
    """Return whether the provider is installed; this imports nothing of it."""
    try:
        return importlib.util.find_spec("airflow.providers.openlineage") is not None
    except ModuleNotFoundError:
        return False


def is_wanted(task: Any) -> bool:
    """
    Return whether events of a task are wanted: the provider has a transport, and nobody has excluded the task.

    :param task: as a DAG has it
    :raises Exception: whatever is wrong with the provider's configuration
    """
    from airflow.providers.openlineage import conf  # noqa: PLC0415 - only where it is installed

    if conf.is_disabled():
        return False
    from airflow.providers.openlineage.utils.utils import (  # noqa: PLC0415 - it imports much of Airflow
        is_operator_disabled,
        is_selective_lineage_enabled,
    )

    return not is_operator_disabled(task) and bool(is_selective_lineage_enabled(task))


def task_run(context: Context) -> dict[str, str]:
    """
    Return the namespace, job and run id by which the provider names the run of a task, and those of its root.

    :param context: the task's
    """
    from airflow.providers.openlineage import conf  # noqa: PLC0415 - as above
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter  # noqa: PLC0415
    from airflow.providers.openlineage.utils.utils import get_task_parent_run_facet  # noqa: PLC0415

    task_instance: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    date = dag_run.logical_date or dag_run.run_after
    dag_run_id = OpenLineageAdapter.build_dag_run_id(
        dag_id=task_instance.dag_id,
        logical_date=date,
        clear_number=getattr(dag_run, "clear_number", 0),
    )
    run_id = OpenLineageAdapter.build_task_instance_run_id(
        dag_id=task_instance.dag_id,
        task_id=task_instance.task_id,
        try_number=task_instance.try_number,
        logical_date=date,
        map_index=-1 if task_instance.map_index is None else task_instance.map_index,
    )
    # A DAG run may name what has started it in its configuration.
    above = get_task_parent_run_facet(
        parent_run_id=dag_run_id,
        parent_job_name=task_instance.dag_id,
        dr_conf=getattr(dag_run, "conf", None) or {},
    )["parent"].root
    return {
        "namespace": str(conf.namespace()),
        "job": f"{task_instance.dag_id}.{task_instance.task_id}",
        "run_id": str(run_id),
        "root_namespace": str(above.job.namespace),
        "root_job": str(above.job.name),
        "root_run_id": str(above.run.runId),
    }


def make_client() -> Any:
    """
    Return a client with the provider's transport; it may ask Airflow for a connection.

    :raises Exception: whatever is wrong with the configuration of the transport
    """
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter  # noqa: PLC0415 - as above

    return OpenLineageAdapter().get_or_create_openlineage_client()


def patience() -> float:
    """Return for how many seconds a task may be held up for its events."""
    from airflow.providers.openlineage import conf  # noqa: PLC0415 - as above

    return float(conf.execution_timeout())
