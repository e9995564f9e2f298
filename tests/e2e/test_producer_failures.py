"""Workers that die, workers that are asked to end, tasks that are stopped, and producers that need no worker."""

import copy
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.airflow.rest import RestError
from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
IMAGE = "jaffle-shop:producer"
PATIENCE_S = 240
PRODUCER = "shop.dbt_build"
# A query that takes longer than any test, and lets itself be interrupted.
SLOW = """
{{ config(materialized='table') }}
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
def kube(slow_project, warehouse, pytestconfig):
    if pytestconfig.getoption("--kubeconfig"):
        pytest.skip("looks into localkube")
    image = Image(
        venv=sys.prefix,
        mounts={"/usr/app/jaffle_shop": slow_project, "/warehouse": Mount(warehouse, shared=True)},
        workdir="/usr/app/jaffle_shop",
    )
    with LocalKube(images={IMAGE: image}) as kube:
        if not kube.isolated:
            pytest.skip("hooks run in namespaces only")
        yield kube


@pytest.fixture(scope="module")
def airflow(kube, slow_project, tmp_path_factory):
    dags = tmp_path_factory.mktemp("producer_dags")
    shutil.copytree(HERE / "producer_dags", dags, dirs_exist_ok=True)
    shutil.copy(HERE / "gated.py", dags)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kube.kubeconfig)}}
    environment = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "PRODUCER_MANIFEST": str(slow_project / "target/manifest.json"),
        "PRODUCER_IMAGE": IMAGE,
        "AIRFLOW__CORE__PARALLELISM": "10",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "180",  # on a machine with much to do
        # So that a worker's death is noticed within seconds instead of five minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    }
    with LocalAirflow(dags, env=environment, keep_home=bool(os.environ.get("KEEP_AIRFLOW"))) as running:
        yield running


def until(condition, what, patience=PATIENCE_S):
    """Poll until something is true, and give it."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
    return found


class Run:
    """A run of a DAG of `producer_dags`, as a test looks at it; of a mapped project one element at a time."""

    def __init__(self, airflow, kube, warehouse, dag_id):
        self.airflow, self.kube, self.dag_id, self.map_index = airflow, kube, dag_id, -1
        self.gate = warehouse / f"{dag_id}.gate"
        self.gate.unlink(missing_ok=True)
        self._others = {pod.name for pod in kube.pods()}
        self.run_id = airflow.trigger_dag(dag_id)

    def element(self, map_index):
        """Return the same run, seen from one element of a mapped project."""
        element = copy.copy(self)
        element.map_index = map_index
        return element

    def tasks(self):
        tasks = self.airflow.client.task_instances(self.dag_id, self.run_id)
        return {item.task_id: item for item in tasks if item.map_index == self.map_index}

    def states(self):
        return {name.removeprefix("shop."): item.state for name, item in self.tasks().items()}

    def producer(self):
        return self.tasks()[PRODUCER]

    def pods(self):
        new = [pod for pod in self.kube.pods() if pod.name not in self._others]
        mine = {"dag_id": self.dag_id} | ({} if self.map_index < 0 else {"map_index": str(self.map_index)})
        return [pod for pod in new if mine.items() <= pod.labels.items()]

    def log(self, task_id="dbt_build", attempt=1):
        try:
            which = (self.dag_id, self.run_id, f"shop.{task_id}", attempt, self.map_index)
            return self.airflow.client.task_log(*which)
        except RestError:
            return ""  # there is no such attempt yet

    def wait_for_log(self, words, task_id="dbt_build", attempt=1):
        return until(
            lambda: (text := self.log(task_id, attempt)) and words in text and text,
            f"{words!r} in the log of {task_id}",
        )

    def in_the_middle(self):
        """Wait until dbt has built something, and its pod is held at the gate."""

        def has_built_a_seed():
            return any(state == "success" for name, state in self.states().items() if name.startswith("raw_"))

        until(has_built_a_seed, "a first seed that is built")
        return self

    def open_gate(self):
        self.gate.touch()

    def processes(self):
        """Return the process of the producer and its supervisor."""
        pid = until(lambda: self.producer().pid, "the producer's process")
        assert pid in self.airflow.pids()
        task = psutil.Process(pid)
        return task, task.parent()

    def end(self):
        return self.airflow.wait_for_run(self.dag_id, self.run_id, PATIENCE_S)

    def is_over(self, **states):
        """Wait for states of tasks."""
        return until(
            lambda: all(self.states().get(name) == state for name, state in states.items()),
            f"{states}, not {self.states()}",
        )


@pytest.fixture
def run_of(airflow, kube, warehouse):
    started = []

    def start(dag_id):
        started.append(Run(airflow, kube, warehouse, dag_id))
        return started[-1]

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
    task.kill()


@pytest.mark.quick
def test_the_next_attempt_follows_the_pod_that_still_runs(run_of):
    run = run_of("killed").in_the_middle()
    kill_worker(run)
    run.wait_for_log("dbt still runs in pod", attempt=2)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 1
    log = run.log(attempt=2)
    assert "of attempt 1: following it" in log
    assert "Building" not in log.replace("Building pod", "")
    lines = built_lines(log)
    assert len(lines) == len(set(lines)) >= 20
    assert nodes_told(log) >= nodes_told(run.log(attempt=1))


def test_in_a_mapped_project_the_next_attempt_follows_the_pod_of_its_own_element(run_of):
    run = run_of("mapped")
    struck, other = run.element(0).in_the_middle(), run.element(1).in_the_middle()
    kill_worker(struck)
    log = struck.wait_for_log("dbt still runs in pod", attempt=2)
    ((own,), (others,)) = struck.pods(), other.pods()
    assert own.name in log
    assert others.name not in log
    run.open_gate()
    assert run.end() == "success"
    assert set(struck.states().values()) == set(other.states().values()) == {"success"}
    assert len(run.pods()) == 2
    assert (struck.producer().try_number, other.producer().try_number) == (2, 1)


def test_a_task_whose_supervisor_was_killed_leaves_the_pod_alone(run_of):
    run = run_of("orphaned").in_the_middle()
    task, supervisor = run.processes()
    supervisor.kill()
    until(lambda: not task.is_running() or task.status() == psutil.STATUS_ZOMBIE, "the end of the orphan")
    run.wait_for_log("dbt still runs in pod", attempt=2)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 1


def test_a_pod_that_ended_well_while_nobody_looked_is_not_run_again(run_of):
    run = run_of("ended_well").in_the_middle()
    kill_worker(run)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 1
    assert "dbt has ended well in pod" in run.log(attempt=2)


def test_after_a_pod_that_ended_badly_while_nobody_looked_just_the_rest_is_built(run_of):
    run = run_of("ended_badly").in_the_middle()
    kill_worker(run)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert is_one_at_a_time(run.pods())
    assert len(run.pods()) == 2
    log = run.log(attempt=2)
    assert "dbt has ended badly in pod" in log
    read, built = log.split("nodes that are not done")
    assert "stg_orders OK" in read
    assert "raw_orders OK" not in built
    assert "\norders OK" not in read
    assert any(line.startswith("orders OK") for line in built_lines(built))


def test_without_taking_over_the_old_pod_ends_before_there_is_a_new_one(run_of):
    run = run_of("not_taken_over").in_the_middle()
    kill_worker(run)
    run.wait_for_log("Stopping dbt in pod", attempt=2)
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 2
    assert is_one_at_a_time(run.pods())


def test_what_was_cleared_starts_anew_when_the_old_pod_has_ended(run_of, airflow):
    run = run_of("cleared_meanwhile").in_the_middle()
    kill_worker(run)
    assert run.end() == "failed"
    assert len(run.pods()) == 1
    run.open_gate()  # too late for the first: its log is not read any more
    airflow.client.clear_tasks(run.dag_id, run.run_id)
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 2
    assert is_one_at_a_time(run.pods())
    assert "raw_orders OK" in run.log(attempt=2)


def test_a_producer_that_is_cleared_while_it_runs_begins_anew_when_dbt_has_ended(run_of, airflow):
    run = run_of("cleared_running").in_the_middle()
    airflow.client.clear_tasks(run.dag_id, run.run_id)
    until(lambda: len(run.pods()) == 2, "a second pod")
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 2
    assert is_one_at_a_time(run.pods())


def test_a_producer_that_is_marked_success_ends_dbt(run_of, airflow):
    run = working_on_the_slow_model(run_of("marked_success"))
    airflow.client.set_task_state(run.dag_id, run.run_id, PRODUCER, "success")
    is_gone(run)
    run.end()
    states = run.states()
    assert (states["dbt_build"], states["raw_orders"]) == ("success", "success")
    # Along the lineage a sensor comes late enough to learn that dbt has reported the interruption.
    assert {states["slow"], states["after_slow"]} <= {"skipped", "failed"}


@pytest.mark.quick
def test_a_worker_that_is_asked_to_end_does_not_take_the_build_with_it(run_of):
    run = run_of("asked_to_end").in_the_middle()
    task, _ = run.processes()
    task.send_signal(signal.SIGTERM)
    run.wait_for_log("The pod is left alone")
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 1
    assert run.producer().try_number == 1


DBT_WAS_INTERRUPTED = {1, 2}


def working_on_the_slow_model(run):
    """Wait until the database works on what never ends."""
    until(lambda: run.states().get("raw_orders") == "success", "the seed")
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
    airflow.client.set_task_state(run.dag_id, run.run_id, PRODUCER, "failed")
    is_gone(run)
    assert run.end() == "failed"
    assert run.states() == {
        "dbt_build": "failed", "raw_orders": "success", "slow": "failed", "after_slow": "failed"
    }  # fmt: skip
    assert "Stopping dbt: the task was stopped; Airflow has it as failed" in run.log()


def test_a_run_that_is_marked_failed_ends_dbt(run_of, airflow):
    run = working_on_the_slow_model(run_of("run_failed"))
    airflow.client.set_dag_run_state(run.dag_id, run.run_id, "failed")
    is_gone(run)
    assert run.states()["raw_orders"] == "success"
    assert not {"success", "running", "deferred", None} & {
        state for name, state in run.states().items() if name != "raw_orders"
    }


def test_a_producer_that_takes_too_long_ends_dbt_and_says_so(run_of):
    run = working_on_the_slow_model(run_of("timed_out"))
    is_gone(run)
    assert run.end() == "failed"
    assert run.states()["slow"] == "failed"
    run.wait_for_log("execution_timeout", "slow")
    run.wait_for_log("execution_timeout", "after_slow")


def test_a_run_that_takes_too_long_ends_dbt(run_of):
    run = working_on_the_slow_model(run_of("run_timed_out"))
    is_gone(run)
    assert run.end() == "failed"
    states = run.states()
    assert (states["dbt_build"], states["raw_orders"], states["slow"]) == ("skipped", "success", "skipped")
    # Along the lineage Airflow has not come to it, and leaves it at that.
    assert states["after_slow"] in {"skipped", None}


def test_a_deferred_producer_that_is_marked_failed_ends_dbt(run_of, airflow):
    run = working_on_the_slow_model(run_of("deferred_marked_failed"))
    assert run.producer().state == "deferred"
    airflow.client.set_task_state(run.dag_id, run.run_id, PRODUCER, "failed")
    is_gone(run)
    assert run.end() == "failed"
    assert run.states()["slow"] == "failed"


def test_a_deferred_producer_that_takes_too_long_ends_dbt_and_says_so(run_of):
    run = working_on_the_slow_model(run_of("deferred_timed_out"))
    is_gone(run)
    assert run.end() == "failed"
    assert run.states()["slow"] == "failed"
    run.wait_for_log("execution_timeout", "slow")


@pytest.mark.quick
def test_a_deferred_producer_needs_no_worker_while_dbt_runs(run_of, airflow):
    run = run_of("deferred").in_the_middle()
    assert run.producer().state == "deferred"
    run.open_gate()
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 1
    starts = airflow.task_starts()
    assert starts.count(run.producer().id) == 2  # one before dbt runs, one to clean up
    lines = built_lines(run.log())
    assert len(lines) == len(set(lines)) >= 20


def test_a_producer_stays_on_its_worker_where_those_of_another_run_could_take_all_places(run_of):
    first = run_of("crowded").in_the_middle()
    assert first.producer().state == "deferred"
    second = run_of("crowded").in_the_middle()
    assert second.producer().state == "running"
    assert "The worker follows dbt" in second.log()
    second.open_gate()
    assert (first.end(), second.end()) == ("success", "success")


def test_a_deferred_producer_outlives_its_triggerer(run_of, airflow):
    run = run_of("deferred").in_the_middle()
    airflow.stop_component("triggerer", grace=0)
    run.open_gate()
    airflow.restart_component("triggerer")
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 1
    told = built_lines(run.log())
    assert len(told) == len(set(told)) >= 20


def test_a_deferred_producer_is_tried_again_and_builds_the_rest(run_of):
    run = run_of("deferred_broken")
    assert run.end() == "success"
    assert set(run.states().values()) == {"success"}
    assert len(run.pods()) == 2
    assert "dbt ended with exit code 1" in run.log(attempt=1)
    assert "raw_orders OK" not in run.log(attempt=2)
    assert "orders OK" in run.log(attempt=2)


def test_a_pod_that_is_evicted_under_a_deferred_producer_fails_what_it_had_not_built(run_of, kube):
    run = run_of("deferred_evicted").in_the_middle()
    (pod,) = run.pods()
    kube.faults.evict(pod)
    assert run.end() == "failed"
    assert "Evicted" in run.log()
    run.wait_for_log("Evicted", "orders")
    assert run.states()["dbt_build"] == "failed"
    assert set(run.states().values()) == {"success", "failed"}
