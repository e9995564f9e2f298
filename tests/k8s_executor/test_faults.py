"""
Worker pods, dbt's pods, their node, the scheduler and the cluster fail at each stage of a producer.

Each time: never two pods of dbt at once, the outcome table holds, logs can be read, and no pod is left behind.
"""

import contextlib
import itertools
from collections import Counter
from pathlib import Path

import psycopg2
import pytest
from deployment import DBT_NAMESPACE, WORKER_NAMESPACE
from harness import Run, until
from psycopg2 import sql

pytestmark = pytest.mark.k8s_executor

PRODUCER = "shop.dbt_build"
MODELS = {f"{letter}{number}" for letter in "abc" for number in range(1, 5)} | {"last"}
ON_A_WORKER, DEFERRED = "on a worker", "deferred"
_number = itertools.count(1)


class Struck(Run):
    """
    A run that something happens to.

    :ivar schema: where it builds
    :ivar gate: the file that dbt waits for, where it does
    """

    @classmethod
    def begin(cls, deployment, dag_id, gates, **conf):
        schema = f"pods_{next(_number)}"
        run = cls.start(deployment.airflow, dag_id, {"schema": schema, **conf})
        run.deployment, run.schema, run.gate = deployment, schema, Path(gates, schema)
        return run

    def midway(self):
        """Wait until dbt has done about a third."""
        return self.when("shop.a1", "success")

    def worker(self, *phases, number=1):
        """Wait for the worker pod of some number, in one of these phases, and return what is known of it."""

        def found():
            pods = self.deployment.pods(self)
            return pods[number - 1] if len(pods) >= number and pods[number - 1].phase in phases else None

        return until(found, f"worker pod {number} is {phases}")

    def dbt_pod(self, *phases):
        """Wait for the first pod of dbt, in one of these phases, and return what is known of it."""

        def found():
            pods = self.deployment.pods(self, DBT_NAMESPACE)
            return pods[0] if pods and pods[0].phase in phases else None

        return until(found, f"a pod of dbt is {phases}")


@pytest.fixture
def faults(deployment):
    yield deployment.kube.faults
    deployment.kube.faults.end_all()


@pytest.fixture
def strike(deployment, gates, struck, gone, built, request):
    """Start a run; at the end of the test, compare it with an undisturbed one and note it in the table."""
    producer = (
        request.node.callspec.params.get("producer", ON_A_WORKER)
        if hasattr(request.node, "callspec")
        else ON_A_WORKER
    )

    def start(dag_id="steady", **conf):
        return Struck.begin(deployment, dag_id + ("_deferred" if producer == DEFERRED else ""), gates, **conf)

    def check(run, *, ends="success"):
        row = {"fault": fault_of(request.node), "producer": producer, "result": "wrong"}
        workers, pods = run_to_the_end(run), deployment.pods(run, DBT_NAMESPACE)
        row |= {"worker_pods": len(workers), "dbt_pods": len(pods), "at_once": at_once(pods), "left": 0}
        struck.append(row)
        assert run.state == ends, run.log(PRODUCER, run.tasks[PRODUCER].try_number)[-5000:]
        assert row["at_once"] <= 1, "two pods of dbt at once"
        if ends == "success":
            assert set(run.states.values()) == {"success"}, run.states
            counted = built(run.schema)
            assert set(counted) >= MODELS
            assert not {name for name, count in counted.items() if count > 1 and reported(run, name)}
            assert "OK" in run.log(PRODUCER, run.tasks[PRODUCER].try_number, until="Completed successfully")
            assert "model last: success" in run.log("shop.last", until="model last: success")
        try:
            gone(run)
        except AssertionError:
            row["left"] = len([pod for pod in [*workers, *pods] if pod.deleted_at is None])
            raise
        row["result"] = "as it was" if ends == "success" else "failed"
        return run

    def run_to_the_end(run):
        run.end()
        return deployment.pods(run)

    start.check = check
    start.producer = producer
    return start


def fault_of(item):
    """Return the name of a test and of its case in words."""
    params = getattr(item, "callspec", None)
    cases = [str(value) for name, value in params.params.items() if name != "producer"] if params else []
    return ", ".join([item.originalname.removeprefix("test_").replace("_", " "), *cases])


def at_once(pods):
    """Return how many of some pods ran at the same time."""
    moments = []
    for pod in pods:
        moments += [(pod.created_at, 1), (pod.finished_at or pod.deleted_at or pod.created_at, -1)]
    # One that begins when another ends comes after it.
    running, most = 0, 0
    for _, change in sorted(moments, key=lambda moment: (moment[0], moment[1])):
        running += change
        most = max(most, running)
    return most


def reported(run, name):
    """Tell whether dbt said that a model was built before the last attempt."""
    attempts = range(1, run.tasks[PRODUCER].try_number)
    return any(run.has_logged(PRODUCER, f" {name} OK", attempt) for attempt in attempts)


@pytest.fixture
def built(postgres):
    """Return a function that tells how often each model of a schema was built, as the warehouse itself knows it."""

    def count(schema):
        query = sql.SQL("select node, count(*) from {}.built group by node").format(sql.Identifier(schema))
        connected = psycopg2.connect(host=postgres, user="postgres", dbname="warehouse")
        with contextlib.closing(connected) as connection:
            cursor = connection.cursor()
            try:
                cursor.execute(query)
            except psycopg2.errors.UndefinedTable:
                return Counter()
            return Counter(dict(cursor.fetchall()))

    return count


def delete(deployment, pod):
    deployment.core.delete_namespaced_pod(pod.name, pod.namespace, grace_period_seconds=20)


ENDS = {
    "killed": lambda deployment, pod: deployment.kube.faults.kill(pod),
    "evicted": lambda deployment, pod: deployment.kube.faults.evict(pod),
    "deleted": delete,
    "out of memory": lambda deployment, pod: deployment.kube.faults.kill_for_memory(pod),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_worker_pod_comes_to_a_bad_end_while_dbt_runs(strike, deployment, end):
    run = strike().midway()
    ENDS[end](deployment, run.worker("Running"))
    strike.check(run)
    if end in {"killed", "out of memory"}:
        assert len(deployment.pods(run, DBT_NAMESPACE)) == 1, "the next attempt goes on with the pod of dbt"


@pytest.mark.parametrize("producer", [ON_A_WORKER, DEFERRED])
def test_the_worker_pod_is_killed_between_the_creation_of_the_pod_and_the_first_page_of_the_journal(
    strike, producer, faults
):
    run = strike("gated")
    run.dbt_pod("Running")
    if producer == DEFERRED:
        # The worker has gone by itself.
        run.when(PRODUCER, "deferred")
    else:
        faults.kill(run.worker("Running"))
        run.worker("Pending", "Running", number=2)
    run.gate.touch()
    strike.check(run)
    assert len(run.deployment.pods(run, DBT_NAMESPACE)) == 1


@pytest.mark.parametrize("producer", [ON_A_WORKER, DEFERRED])
def test_the_worker_pod_is_killed_after_the_last_page_of_the_journal(strike, producer, faults):
    with faults.hang(path=f"*/namespaces/{DBT_NAMESPACE}/pods/*", methods=["DELETE"]):
        run = strike().midway()
        until(lambda: len(run.with_state("success")) == len(run.sensors()), "all nodes are done")
        last = run.worker("Running", number=2 if producer == DEFERRED else 1)
        until(lambda: run.has_logged(PRODUCER, "Completed successfully"), "the worker has read all")
        faults.kill(last)
        until(lambda: run.states[PRODUCER] != "running", "Airflow knows of it")
    strike.check(run)


@pytest.mark.parametrize("producer", [ON_A_WORKER, DEFERRED])
def test_the_worker_pod_is_deleted_while_it_is_pending(strike, producer, deployment, faults):
    faults.no_room()
    run = strike()
    delete(deployment, run.worker("Pending"))
    faults.no_room(None)
    # Nobody tells the executor: the scheduler gives the task to it once more after `task_queued_timeout`.
    strike.check(run)


def test_the_image_of_the_worker_cannot_be_pulled(strike, deployment):
    run = Struck.begin(deployment, "no_image", "/nowhere")
    strike.check(run, ends="failed")
    assert run.with_state("failed") >= {PRODUCER}
    assert run.states["shop.raw_orders"] in {"failed", "skipped", "upstream_failed"}
    assert not deployment.pods(run, DBT_NAMESPACE)


@pytest.mark.parametrize("namespace", [WORKER_NAMESPACE, DBT_NAMESPACE])
def test_a_quota_is_used_up_for_a_while(strike, deployment, faults, namespace):
    faults.limit_pods(namespace, 0)
    run = strike()
    if namespace == DBT_NAMESPACE:
        until(
            lambda: run.tasks[PRODUCER].state == "up_for_retry" or run.tasks[PRODUCER].try_number > 1,
            "the first attempt has failed",
        )
    else:
        log = deployment.airflow.component_log("scheduler")
        began = len(log.read_text(errors="replace"))
        until(lambda: "exceeded quota" in log.read_text(errors="replace")[began:], "a worker pod was refused")
        assert run.states[PRODUCER] == "queued"
    faults.limit_pods(namespace, None)
    strike.check(run)


@pytest.mark.parametrize("producer", [ON_A_WORKER, DEFERRED])
def test_the_node_of_both_pods_is_lost(strike, producer, faults):
    run = strike().midway()
    pods = [run.dbt_pod("Running"), *([run.worker("Running")] if producer == ON_A_WORKER else [])]
    for pod in pods:
        faults.lose_node(pod)
    for pod in pods:
        faults.collect_lost_pod(pod)
    strike.check(run)


# The scheduler


@contextlib.contextmanager
def scheduler_away(deployment):
    """Kill the scheduler; bring another one when the block has ended."""
    deployment.airflow.stop_component("scheduler", grace=0)
    try:
        yield
    finally:
        deployment.airflow.restart_component("scheduler", timeout=240)


@pytest.mark.parametrize("producer", [ON_A_WORKER, DEFERRED])
def test_the_scheduler_is_killed_while_dbt_runs_and_the_versions_it_knew_are_too_old(
    strike, producer, deployment
):
    run = strike().midway()
    with scheduler_away(deployment):
        deployment.kube.forget_history()
    strike.check(run)
    assert run.tasks[PRODUCER].try_number == 1
    assert len(deployment.pods(run)) == (1 if producer == ON_A_WORKER else 2)


def test_the_scheduler_is_killed_while_the_worker_pod_is_pending(strike, deployment, faults):
    faults.no_room()
    run = strike()
    run.worker("Pending")
    with scheduler_away(deployment):
        faults.no_room(None)
    strike.check(run)
    assert run.tasks[PRODUCER].try_number == 1


def test_the_scheduler_is_killed_while_the_task_is_queued_and_has_no_pod(strike, deployment, faults):
    faults.limit_pods(WORKER_NAMESPACE, 0)
    run = strike().when(PRODUCER, "queued")
    with scheduler_away(deployment):
        faults.limit_pods(WORKER_NAMESPACE, None)
    strike.check(run)


def test_the_scheduler_is_away_until_the_worker_pod_has_ended(strike, deployment):
    run = strike().midway()
    with scheduler_away(deployment):
        run.worker("Succeeded")
    strike.check(run)
    assert len(deployment.pods(run)) == 1


def test_the_watch_of_the_executor_is_told_that_its_version_is_too_old(strike, deployment):
    deployment.recorder.too_old = 2
    run = strike(seconds=9).midway()
    strike.check(run)
    assert not deployment.recorder.too_old, "it has watched anew"
