"""What the events of one attempt are made of beside dbt's log: a worker makes it, and may hand it to a trigger as a text."""

from __future__ import annotations

import base64
import zlib

import msgspec

from dbt_watch.lineage.facts import ProjectFacts


class ParentRun(msgspec.Struct, frozen=True, array_like=True):
    """
    The run of the Airflow task that runs dbt, and the root of all runs above it, as Airflow's provider names them.

    :param namespace: of the task's job
    :param job: the name of that job
    :param run_id: a UUID
    :param root_namespace: the same of the root, which is the DAG run or whatever has started that
    """

    namespace: str
    job: str
    run_id: str
    root_namespace: str
    root_job: str
    root_run_id: str


class LineagePlan(msgspec.Struct, frozen=True, array_like=True):
    """
    What the events of one attempt are made of.

    :param parent: the run that dbt's is a part of
    :param namespace: of the datasets
    :param facts: what is known of the nodes
    """

    parent: ParentRun
    namespace: str
    facts: ProjectFacts


def pack_plan(plan: LineagePlan) -> str:
    """Return a plan as a short text: the arguments of a trigger lie in Airflow's database."""
    return base64.b64encode(zlib.compress(msgspec.msgpack.encode(plan))).decode()


def unpack_plan(text: str) -> LineagePlan:
    """
    Read what `pack_plan` has returned.

    :raises Exception: when it is something else, such as what another version has written
    """
    return msgspec.msgpack.decode(zlib.decompress(base64.b64decode(text)), type=LineagePlan)
