"""
Measure what it costs Airflow's triggerer to start triggers of a large Dag, and to end tasks from them.

Run it with the Python of an Airflow 3.3.2; with the patches, put the patched copy first on PYTHONPATH (see README.md).
It calls the methods of the triggerer's two processes in the order in which they call each other, in one process and on
an SQLite database of its own. Times are CPU seconds, so another load on the machine does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
KINDS = {
    "worker": "deferred by a worker",
    "plain": "start from their trigger",
    "templated": "the same, with a template",
}
EVENTS = ("TaskSuccessEvent", "TaskFailedEvent")


def main() -> None:
    """Run each case in a process of its own, and print what they measured as two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[90, 180, 360], help="sizes of the Dag")
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=list(KINDS), help="how triggers start")
    parser.add_argument("--case", nargs=2, metavar=("KIND", "TASKS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        kind, tasks = arguments.case
        print(json.dumps(measure(kind, int(tasks))))
        return
    print(
        "| tasks of the Dag | kB | triggers | build, s | send, s | MB | receive, s | create, s | in all, s | peak, MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        for tasks in arguments.tasks:
            case = run_case(kind, tasks)
            took = case["build"] + case["send"] + case["receive"] + case["create"]
            print(
                f"| {tasks} | {case['dag_bytes'] / 1e3:.0f} | {KINDS[kind]} | {case['build']:.2f}"
                f" | {case['send']:.2f} | {case['bytes'] / 1e6:.2f} | {case['receive']:.2f}"
                f" | {case['create']:.2f} | {took:.2f} | {case['peak']:.0f} |",
                flush=True,
            )
    print()
    print("| tasks of the Dag | events | ms each | requests to the Dag processor |")
    print("|---|---|---|---|")
    for tasks in arguments.tasks:
        for name in EVENTS:
            case = run_case(name, tasks)
            print(
                f"| {tasks} | {tasks} {name} | {1e3 * case['end'] / tasks:.1f} | {case['requests']} |",
                flush=True,
            )


def run_case(kind: str, tasks: int) -> dict[str, Any]:
    """Return what a new process measured, with an Airflow home of its own."""
    with tempfile.TemporaryDirectory() as home:
        env = {
            **os.environ,
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        }
        command = [sys.executable, __file__, "--case", kind, str(tasks)]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind: str, tasks: int) -> dict[str, Any]:
    """Return the costs of one case."""
    import structlog  # Airflow and what it needs: not in the process that prints the tables
    from airflow.utils.db import initdb

    logging.disable(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    initdb()
    dag_bytes, trigger_ids = make_triggers(kind, tasks)
    measured = measure_ends(kind, trigger_ids) if kind in EVENTS else asyncio.run(measure_starts(trigger_ids))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"dag_bytes": dag_bytes, "peak": peak, **measured}


def make_triggers(kind: str, tasks: int) -> tuple[int, list[int]]:
    """Return how many bytes the serialized Dag has, and the triggers that all of its tasks wait for."""
    from airflow.models import DagModel, Trigger
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    serialized = LazyDeserializedDAG.from_dag(make_dag(kind, tasks))
    dag_id = serialized.dag_id
    with create_session() as session:
        session.add(DagBundleModel(name="benchmark"))
        session.flush()
        session.add(DagModel(dag_id=dag_id, bundle_name="benchmark", relative_fileloc="benchmark.py"))
        session.flush()
        SerializedDagModel.write_dag(serialized, bundle_name="benchmark", session=session)
        session.commit()
        dag = SerializedDagModel.get_dag(dag_id, session=session)
        dag_run = dag.create_dagrun(
            run_id="benchmark",
            run_type=DagRunType.MANUAL,
            state=DagRunState.RUNNING,
            logical_date=WHEN,
            data_interval=(WHEN, WHEN),
            run_after=WHEN,
            triggered_by=DagRunTriggeredByType.TEST,
            session=session,
        )
        trigger_ids = []
        for task_instance in dag_run.get_task_instances(session=session):
            trigger = Trigger(classpath="benchmark.PathTrigger", kwargs={"path": "/tmp/{{ ds }}"})
            session.add(trigger)
            session.flush()
            task_instance.state = TaskInstanceState.DEFERRED
            task_instance.trigger_id = trigger.id
            trigger_ids.append(trigger.id)
    return len(json.dumps(serialized.data)), trigger_ids


def make_dag(kind: str, tasks: int) -> Any:
    """Return a Dag in which each task has two upstream tasks and a text, as in a Dag that a tool has written."""
    from airflow.sdk import DAG, BaseOperator
    from airflow.triggers.base import StartTriggerArgs

    class Operator(BaseOperator):
        template_fields = ("path",) if kind == "templated" else ()
        start_from_trigger = kind in {"plain", "templated"}
        start_trigger_args = StartTriggerArgs(
            trigger_cls="benchmark.PathTrigger",
            trigger_kwargs={"path": "/tmp/{{ ds }}"},
            next_method="done",
        )

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.path = "/tmp/{{ ds }}"

    with DAG("benchmark", schedule=None, start_date=WHEN) as dag:
        made: list[Any] = []
        for number in range(tasks):
            task = Operator(task_id=f"task_{number}", doc_md="What this task does, and why. " * 8)
            task.set_upstream(made[-2:])
            made.append(task)
    return dag


def make_trigger_class() -> type[Any]:
    """Return a trigger that waits until it is cancelled."""
    from airflow.triggers.base import BaseTrigger

    class PathTrigger(BaseTrigger):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

        def serialize(self) -> tuple[str, dict[str, Any]]:
            return "benchmark.PathTrigger", {"path": self.path}

        async def run(self) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

    return PathTrigger


def make_supervisor(send: Any) -> Any:
    """Return the supervisor of the triggers, which hands what it sends to a function."""
    from airflow.jobs.job import Job
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

    process = Mock(pid=1)
    stdin = SimpleNamespace(sendall=send)
    return TriggerRunnerSupervisor(
        process_log=Mock(), id=1, job=Job(id=1), pid=1, stdin=stdin, process=process, capacity=1000
    )


async def measure_starts(trigger_ids: list[int]) -> dict[str, Any]:
    """
    Return what the supervisor and the runner need until all triggers run.

    As in a triggerer, they go from one to the other in batches of `[triggerer] max_trigger_to_select_per_loop`.
    """
    from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder, TriggerRunner, messages
    from airflow.models import Trigger

    frames: list[bytes] = []
    supervisor = make_supervisor(frames.append)
    decoder = TriggerCommsDecoder(socket=None, async_writer=None, async_reader=None)

    async def receive(_: Any) -> Any:
        return decoder._from_frame(decoder.resp_decoder.decode(frames.pop()[4:]))

    runner = TriggerRunner()
    runner.trigger_cache["benchmark.PathTrigger"] = make_trigger_class()
    runner.comms_decoder = SimpleNamespace(asend=receive)
    took = dict.fromkeys(("build", "send", "receive", "create"), 0.0)
    sent = 0
    size = Trigger.max_trigger_to_select_per_loop
    for start in range(0, len(trigger_ids), size):
        with timed(took, "build"):
            supervisor.update_triggers(set(trigger_ids[: start + size]))
        with timed(took, "send"):
            supervisor._handle_request(messages.TriggerStateChanges(), Mock(), 1)
        sent += len(frames[-1])
        with timed(took, "receive"):
            await runner.sync_state_to_supervisor([])
        with timed(took, "create"):
            await runner.create_triggers()
            await asyncio.sleep(0)
    running = [details["task"] for details in runner.triggers.values()]
    if len(running) != len(trigger_ids) or runner.failed_triggers or any(task.done() for task in running):
        sys.exit(f"Not all triggers run: {runner.failed_triggers}")
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return {**took, "bytes": sent}


def measure_ends(event: str, trigger_ids: list[int]) -> dict[str, Any]:
    """Return what the supervisor needs to end tasks that have no callbacks, and how many requests it left behind."""
    from airflow.models.db_callback_request import DbCallbackRequest
    from airflow.triggers import base
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    supervisor = make_supervisor(None)
    took = {"end": 0.0}
    for trigger_id in trigger_ids:
        with timed(took, "end"):
            supervisor.on_trigger_event(trigger_id=trigger_id, event=getattr(base, event)())
    with create_session() as session:
        requests = session.scalar(select(func.count()).select_from(DbCallbackRequest))
    return {**took, "requests": requests}


@contextmanager
def timed(took: dict[str, float], name: str) -> Iterator[None]:
    """Add the CPU seconds of a block."""
    start = time.process_time()
    yield
    took[name] += time.process_time() - start


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
