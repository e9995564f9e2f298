"""What a DAG asks for, as `loading` has found it out and `preparation` reads it: plain data, which goes from process to process as JSON."""

from __future__ import annotations

import msgspec


class AskedNeed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """See `localkube.needs.Need`."""

    kind: str
    name: str
    key: str | None = None


class AskedTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    A task that runs a pod, or dbt.

    :param task_id: its whole id
    :param operator: the name of its class
    :param needs: what its pod needs and is known before it is made
    :param connection: the id of its connection to Kubernetes
    :param runs_dbt: whether it builds nodes that other tasks stand for
    :param project: the name of the dbt project
    :param project_dir: where it looks for that in the image; None where nobody says, or only a template does
    :param group: the task group of the project
    :param refusal: why it cannot run on this machine
    """

    task_id: str
    operator: str
    needs: tuple[AskedNeed, ...] = ()
    connection: str | None = None
    runs_dbt: bool = False
    project: str | None = None
    project_dir: str | None = None
    group: str = ""
    refusal: str | None = None


class AskedDag(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    A DAG of a file.

    :param file: where it is written
    :param params: the names of its parameters
    :param pools: the pools of its tasks
    :param tasks: those that run pods or dbt
    :param select_error: what is wrong with the selection of this run
    """

    dag_id: str
    file: str
    params: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    tasks: tuple[AskedTask, ...] = ()
    select_error: str | None = None


class AskedDags(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The DAGs of some files.

    :param errors: the stack trace of each file that could not be imported, by its path
    """

    dags: tuple[AskedDag, ...] = ()
    errors: dict[str, str] = {}
