"""Workers that die, workers that are asked to end, tasks that are stopped, and producers that need no worker."""

import contextlib
import functools
import json
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest
from harness import Run, dags_in, until

from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
IMAGE = "jaffle-shop:producer"
PRODUCER = "shop.dbt_build"
# A query that takes longer than any test, and lets itself be interrupted. One core is enough for it.
SLOW = """
{{ config(materialized='table', pre_hook='set threads = 1') }}
-- depends_on: {{ ref('raw_orders') }}
select count(*) as n from range(1000000) as a, range(1000000) as b where hash(a.range * b.range) % 7 = 3
"""


pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def slow_project(project, parse, tmp_path_factory):
    """The example project with a model that never ends, and one behind it."""
    directory = tmp_path_factory.mktemp("producer") / "jaffle_shop"
    shutil.copytree(project, directory, ignore=shutil.ignore_patterns("target", "logs"))
    (directory / "models/marts/slow.sql").write_text(SLOW)
    (directory / "models/marts/after_slow.sql").write_text("select * from {{ ref('slow') }}")
    return parse(directory)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    return tmp_path_factory.mktemp("warehouse")


@pytest.fixture(scope="module")
def kube(slow_project, warm_dbt, warehouse, pytestconfig):
    if pytestconfig.getoption("--kubeconfig"):
        pytest.skip("looks into localkube")
    image = Image(
        venv=sys.prefix,
        mounts={
            **warm_dbt,
            "/usr/app/jaffle_shop": slow_project,
            "/warehouse": Mount(warehouse, shared=True),
        },
        workdir="/usr/app/jaffle_shop",
    )
    with LocalKube(images={IMAGE: image}) as kube:
        if not kube.isolated:
            pytest.skip("hooks run in namespaces only")
        yield kube


@pytest.fixture(scope="module")
def place(airflow, kube, slow_project):
    """Return a function that puts a DAG of these tests into the folder of the Airflow."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kube.kubeconfig)}}
    environment = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "PRODUCER_MANIFEST": str(slow_project / "target/manifest.json"),
        "PRODUCER_IMAGE": IMAGE,
    }
    with contextlib.ExitStack() as placed:

        @functools.cache
        def place(dag_id):
            alone = {HERE / "producer_dags/producer_cases.py": [dag_id]}
            placed.enter_context(dags_in(airflow, env=environment, modules=HERE, alone=alone))

        yield place


class WatchedRun(Run):
    """A run of a DAG of `producer_dags`, with its gate, its pods and its processes; tasks go without their group."""

    def in_the_middle(self):
        """Wait until dbt has built something, and its pod is held at the gate."""

        def has_built_a_seed():
            return any(name.startswith("shop.raw_") for name in self.with_state("success"))

        until(has_built_a_seed, "a first seed that is built")
        return self

    def nodes(self):
        """Return the states of the tasks, by their names in the group."""
        return {task_id.removeprefix("shop."): state for task_id, state in self.states.items()}

    def producer(self):
        return self.tasks[PRODUCER]

    def pods(self):
        new = [pod for pod in self.kube.pods() if pod.name not in self.others]
        mine = {"dag_id": self.dag_id}
        if self.map_index is not None:
            mine["map_index"] = str(self.map_index)
        return [pod for pod in new if mine.items() <= pod.labels.items()]

    def open_gate(self):
        self.gate.touch()

    def processes(self):
        """Return the process of the producer and its supervisor."""
        pid = until(lambda: self.producer().pid, "the producer's process")
        assert pid in self.airflow.pids()
        task = psutil.Process(pid)
        return task, task.parent()


@pytest.fixture
def run_of(airflow, place, kube, warehouse):
    started = []

    def start(dag_id):
        gate, others = warehouse / f"{dag_id}.gate", {pod.name for pod in kube.pods()}
        gate.unlink(missing_ok=True)
        place(dag_id)
        run = WatchedRun.start(airflow, dag_id)
        run.kube, run.gate, run.others = kube, gate, others
        started.append(run)
        return run

    yield start
    for run in started:
        run.open_gate()


def is_one_at_a_time(pods):
    """Tell whether no pod was made before the one before it had ended."""
    ends = [pod.finished_at or pod.deleted_at for pod in pods]
    return all(
        end is not None and end <= after.created_at for end, after in zip(ends, pods[1:], strict=False)
    )


def built_lines(log):
    """Return the lines that tell of a node's end, without their time."""
    return [line.split(" ", 1)[1] for line in log.splitlines() if " OK" in line or " PASS" in line]


def nodes_told(log):
    return {line.split(" ")[0] for line in built_lines(log)}


def kill_worker(run):
    task, supervisor = run.processes()
    supervisor.kill()
    with contextlib.suppress(psutil.NoSuchProcess):  # which has seen by itself that it is alone
        task.kill()


@pytest.mark.quick
def test_the_next_attempt_follows_the_pod_that_still_runs(run_of):
    run = run_of("worker_killed").in_the_middle()
    kill_worker(run)
    run.wait_for_log(PRODUCER, "dbt is still running in pod", attempt=2)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 1
    log = run.log(PRODUCER, 2, until="Completed successfully")
    assert "of attempt 1: following it" in log
    assert "Building" not in log.replace("Building pod", "")
    lines = built_lines(log)
    assert len(lines) == len(set(lines)) >= 20
    assert nodes_told(log) >= nodes_told(run.log(PRODUCER, 1))


def test_in_a_mapped_project_the_next_attempt_follows_the_pod_of_its_own_element(run_of):
    run = run_of("mapped")
    struck, other = run.element(0).in_the_middle(), run.element(1).in_the_middle()
    kill_worker(struck)
    log = struck.wait_for_log(PRODUCER, "dbt is still running in pod", attempt=2)
    ((own,), (others,)) = struck.pods(), other.pods()
    assert own.name in log
    assert others.name not in log
    run.open_gate()
    assert run.end() == "success"
    assert set(struck.nodes().values()) == set(other.nodes().values()) == {"success"}
    assert len(run.pods()) == 2
    assert (struck.producer().try_number, other.producer().try_number) == (2, 1)


def test_a_task_whose_supervisor_was_killed_leaves_the_pod_alone(run_of):
    run = run_of("orphaned").in_the_middle()
    task, supervisor = run.processes()
    supervisor.kill()
    until(lambda: not task.is_running() or task.status() == psutil.STATUS_ZOMBIE, "the end of the orphan")
    run.wait_for_log(PRODUCER, "dbt is still running in pod", attempt=2)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 1


def test_a_pod_that_ended_well_while_nobody_looked_is_not_run_again(run_of):
    run = run_of("ended_well").in_the_middle()
    kill_worker(run)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 1
    words = "dbt succeeded in pod"
    assert words in run.log(PRODUCER, 2, until=words)


def test_after_a_pod_that_ended_badly_while_nobody_looked_just_the_rest_is_built(run_of):
    run = run_of("ended_badly").in_the_middle()
    kill_worker(run)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert is_one_at_a_time(run.pods())
    assert len(run.pods()) == 2
    log = run.log(PRODUCER, 2, until="Completed successfully")
    assert "dbt failed in pod" in log
    read, built = log.split("nodes that are not done")
    assert "stg_orders OK" in read
    assert "raw_orders OK" not in built
    assert "\norders OK" not in read
    assert any(line.startswith("orders OK") for line in built_lines(built))


def test_without_taking_over_the_old_pod_ends_before_there_is_a_new_one(run_of):
    run = run_of("not_taken_over").in_the_middle()
    kill_worker(run)
    run.wait_for_log(PRODUCER, "Stopping dbt in pod", attempt=2)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 2
    assert is_one_at_a_time(run.pods())


def test_what_was_cleared_starts_anew_when_the_old_pod_has_ended(run_of, airflow):
    run = run_of("cleared_meanwhile").in_the_middle()
    kill_worker(run)
    assert run.end() == "failed"
    assert len(run.pods()) == 1
    run.open_gate()  # too late for the first: its log is not read any more
    run.clear()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 2
    assert is_one_at_a_time(run.pods())
    assert "raw_orders OK" in run.log(PRODUCER, 2, until="raw_orders OK")


def test_a_producer_that_is_cleared_while_it_runs_begins_anew_when_dbt_has_ended(run_of, airflow):
    run = run_of("cleared_running").in_the_middle()
    run.clear()
    until(lambda: len(run.pods()) == 2, "a second pod")
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 2
    assert is_one_at_a_time(run.pods())


def test_a_producer_that_is_marked_success_ends_dbt(run_of, airflow):
    run = working_on_the_slow_model(run_of("marked_success"))
    run.mark(PRODUCER, "success")
    is_gone(run)
    run.end()
    states = run.nodes()
    assert (states["dbt_build"], states["raw_orders"]) == ("success", "success")
    # Along the lineage a sensor comes late enough to learn that dbt has reported the interruption.
    assert {states["slow"], states["after_slow"]} <= {"skipped", "failed"}


@pytest.mark.quick
def test_a_worker_that_is_asked_to_end_does_not_take_the_build_with_it(run_of):
    run = run_of("asked_to_end").in_the_middle()
    task, _ = run.processes()
    task.send_signal(signal.SIGTERM)
    run.wait_for_log(PRODUCER, "The pod keeps running")
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 1
    assert run.producer().try_number == 1


DBT_WAS_INTERRUPTED = {1, 2}


def working_on_the_slow_model(run):
    """Wait until the database works on what never ends."""
    until(lambda: run.nodes().get("raw_orders") == "success", "the seed")
    return run


def is_gone(run):
    """Wait until the pod is gone, and give what it ended as: not killed, but by dbt itself."""
    (pod,) = run.pods()
    pod = until(lambda: next((item for item in run.pods() if item.deleted_at), None), "the end of the pod")
    assert pod.exit_codes["base"] in DBT_WAS_INTERRUPTED
    return pod


@pytest.mark.quick(dag_id="marked_failed")
@pytest.mark.parametrize("dag_id", ["marked_failed", "marked_failed_beside_others"])
def test_a_producer_that_is_marked_failed_ends_dbt(run_of, airflow, dag_id):
    run = working_on_the_slow_model(run_of(dag_id))
    run.mark(PRODUCER, "failed")
    is_gone(run)
    assert run.end() == "failed"
    assert run.nodes() == {
        "dbt_build": "failed", "raw_orders": "success", "slow": "failed", "after_slow": "failed"
    }  # fmt: skip
    words = "Stopping dbt: the task was stopped; its state in Airflow is failed"
    assert words in run.log(PRODUCER, until=words)


def test_a_run_that_is_marked_failed_ends_dbt(run_of, airflow):
    run = working_on_the_slow_model(run_of("run_failed"))
    airflow.client.set_dag_run_state(run.dag_id, run.run_id, "failed")
    is_gone(run)
    assert run.nodes()["raw_orders"] == "success"
    assert not {"success", "running", "deferred", None} & {
        state for name, state in run.nodes().items() if name != "raw_orders"
    }


def test_a_producer_that_takes_too_long_ends_dbt_and_says_so(run_of):
    run = working_on_the_slow_model(run_of("timed_out"))
    is_gone(run)
    assert run.end() == "failed"
    assert run.nodes()["slow"] == "failed"
    run.wait_for_log("shop.slow", "execution_timeout")
    run.wait_for_log("shop.after_slow", "execution_timeout")


def test_a_run_that_takes_too_long_ends_dbt(run_of):
    run = working_on_the_slow_model(run_of("run_timed_out"))
    is_gone(run)
    assert run.end() == "failed"
    states = run.nodes()
    assert (states["dbt_build"], states["raw_orders"], states["slow"]) == ("skipped", "success", "skipped")
    # Along the lineage Airflow has not come to it, and leaves it at that.
    assert states["after_slow"] in {"skipped", None}


def test_a_deferred_producer_that_is_marked_failed_ends_dbt(run_of, airflow):
    run = working_on_the_slow_model(run_of("deferred_marked_failed"))
    assert run.producer().state == "deferred"
    run.mark(PRODUCER, "failed")
    is_gone(run)
    assert run.end() == "failed"
    assert run.nodes()["slow"] == "failed"


def test_a_deferred_producer_that_takes_too_long_ends_dbt_and_says_so(run_of):
    run = working_on_the_slow_model(run_of("deferred_timed_out"))
    is_gone(run)
    assert run.end() == "failed"
    assert run.nodes()["slow"] == "failed"
    run.wait_for_log("shop.slow", "execution_timeout")


@pytest.mark.quick
def test_a_deferred_producer_needs_no_worker_while_dbt_runs(run_of, airflow):
    run = run_of("deferred").in_the_middle()
    assert run.producer().state == "deferred"
    run.open_gate()
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 1
    starts = airflow.task_starts()
    assert starts.count(run.producer().id) == 2  # one before dbt runs, one to clean up
    lines = built_lines(run.log(PRODUCER, until="Completed successfully"))
    assert len(lines) == len(set(lines)) >= 20


def test_a_producer_stays_on_its_worker_where_those_of_another_run_could_take_all_places(run_of):
    first = run_of("many_sensors").in_the_middle()
    assert first.producer().state == "deferred"
    second = run_of("many_sensors").in_the_middle()
    assert second.producer().state == "running"
    second.wait_for_log(PRODUCER, "The worker follows dbt")
    second.open_gate()
    assert (first.end(), second.end()) == ("success", "success")


def test_a_deferred_producer_outlives_its_triggerer(run_of, airflow):
    run = run_of("deferred").in_the_middle()
    airflow.stop_component("triggerer", grace=0)
    run.open_gate()
    airflow.restart_component("triggerer")
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 1
    told = built_lines(run.log(PRODUCER, until="Completed successfully"))
    assert len(told) == len(set(told)) >= 20


def test_a_deferred_producer_is_tried_again_and_builds_the_rest(run_of):
    run = run_of("deferred_broken")
    assert run.end() == "success"
    assert set(run.nodes().values()) == {"success"}
    assert len(run.pods()) == 2
    run.wait_for_log(PRODUCER, "dbt ended with exit code 1")
    second = run.wait_for_log(PRODUCER, "Completed successfully", attempt=2)
    assert "raw_orders OK" not in second
    assert "orders OK" in second


def test_a_pod_that_is_evicted_under_a_deferred_producer_fails_what_it_had_not_built(run_of, kube):
    run = run_of("deferred_evicted").in_the_middle()
    (pod,) = run.pods()
    kube.faults.evict(pod)
    assert run.end() == "failed"
    run.wait_for_log(PRODUCER, "Evicted")
    run.wait_for_log("shop.orders", "Evicted")
    assert run.nodes()["dbt_build"] == "failed"
    assert set(run.nodes().values()) == {"success", "failed"}
