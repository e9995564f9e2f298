"""Runs under the KubernetesExecutor: whole ones, and how many pods they take."""

import importlib.util
import re

import pytest
from deployment import DBT_NAMESPACE
from harness import Run
from page import roles

from dbt_watch.airflow.compat import STARTS_FROM_TRIGGER

PRODUCER = "shop.dbt_build"
NEEDS_33 = pytest.mark.skipif(not STARTS_FROM_TRIGGER, reason="without Airflow 3.3 sensors need workers")
LONG = pytest.mark.k8s_executor
HAS_PEER = importlib.util.find_spec("cosmos") is not None
SYNC, DEFERRED = "the producer on a worker", "the producer deferred"
WIDTHS = (50, 200, 500)


@NEEDS_33
def test_the_example_takes_one_worker_pod_and_one_pod_of_dbt(run_of, deployment, count):
    run = run_of("sync")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    assert len(run.sensors()) > 6
    assert count(run, SYNC) == (1, 1)
    (worker,) = deployment.pods(run)
    assert worker.annotations["task_id"] == PRODUCER
    assert worker.exit_codes == {"base": 0}


@NEEDS_33
def test_logs_are_there_when_the_pods_are_gone(run_of, gone):
    run = run_of("sync")
    gone(run)
    assert "orders" in run.log(PRODUCER, until="Completed successfully")
    assert "model orders: success" in run.log("shop.orders", until="model orders: success")


@LONG
def test_a_task_in_python_and_one_in_bash_have_a_pod_each(run_of, count):
    run = run_of("plain")
    assert run.state == "success"
    assert run.xcom("python") == "of Python"
    assert count(run, "a Python and a Bash task") == (2, 0)


@LONG
@NEEDS_33
def test_a_deferred_producer_takes_two_short_worker_pods(run_of, deployment, count):
    run = run_of("deferred")
    assert set(run.states.values()) == {"success"}
    assert count(run, DEFERRED) == (2, 1)
    assert {pod.annotations["task_id"] for pod in deployment.pods(run)} == {PRODUCER}


@LONG
@NEEDS_33
def test_failed_nodes_take_no_worker_pod_either(run_of, deployment, count):
    run = run_of("broken")
    assert run.state == "failed"
    assert {PRODUCER, "shop.orders", "shop.customers"} <= run.with_state("failed")
    assert "order_totl" in run.log("shop.orders", until="Candidate bindings")
    assert count(run, "a model that is broken") == (1, 1)


@LONG
@NEEDS_33
@pytest.mark.parametrize(("how", "suffix", "expected"), [(SYNC, "", (1, 1)), (DEFERRED, "_deferred", (2, 1))])
@pytest.mark.parametrize("width", WIDTHS)
def test_hundreds_of_nodes_take_no_more_than_ten(run_of, count, width, how, suffix, expected):
    run = run_of(f"wide_{width}{suffix}")
    assert set(run.states.values()) == {"success"}
    assert len(run.sensors()) == width
    assert count(run, how) == expected


@LONG
@pytest.mark.skipif(not HAS_PEER, reason="astronomer-cosmos is not installed here")
@pytest.mark.parametrize("width", [50])
@pytest.mark.parametrize("mode", ["KUBERNETES", "WATCHER_KUBERNETES"])
def test_the_peer_takes_a_worker_pod_for_each_node(run_of, count, mode, width):
    run = run_of(f"peer_{mode.lower()}")
    assert run.state == "success", run.states
    workers, _ = count(run, f"astronomer-cosmos, `{mode}`", nodes=width)
    assert workers >= width


@LONG
@NEEDS_33
def test_a_node_that_is_cleared_alone_takes_one_worker_pod_which_builds_it(run_of, deployment):
    run = run_of("sync")
    before = {pod.uid for pod in deployment.kube.pods()}
    again = run.cleared("shop.customers")
    assert again.state == "success"
    new = [pod for pod in deployment.kube.pods() if pod.uid not in before]
    assert [(pod.namespace, pod.labels["task_id"]) for pod in new] == [
        ("airflow", "shop.customers"), ("dbt", "shop.customers"),
    ]  # fmt: skip


@LONG
@NEEDS_33
def test_a_callback_takes_a_worker_pod_for_each_node_that_has_one(run_of, count):
    run = run_of("a_callback")
    assert set(run.states.values()) == {"success"}
    sensors = len(run.sensors())
    assert count(run, "on_success_callback") == (1 + sensors, 1)


@LONG
@NEEDS_33
def test_along_the_lineage_each_node_takes_a_worker_pod(run_of, count):
    run = run_of("along_the_lineage")
    assert set(run.states.values()) == {"success"}
    sensors = len(run.sensors())
    workers, pods = count(run, 'sensors="lineage"')
    assert pods == 1
    assert 1 + sensors <= workers <= 1 + 2 * sensors


@LONG
@NEEDS_33
def test_isolated_nodes_take_a_worker_pod_each(run_of, count, deployment):
    run = run_of("pod_per_node")
    assert set(run.states.values()) == {"success"}
    own = {pod.labels["task_id"] for pod in deployment.pods(run, DBT_NAMESPACE)}
    assert count(run, 'isolate="*"') == (len(own), len(own))


@LONG
def test_the_worker_pod_of_a_producer_may_have_more_than_the_template(run_of, deployment):
    run = run_of("overridden")
    assert run.state == "success"
    assert run.xcom(PRODUCER, "found") == {"of-init": True, "of-sidecar": True, "TEAM": "shop"}
    (worker,) = deployment.pods(run)
    assert worker.exit_codes["fetch"] == 0


@LONG
def test_no_component_is_refused_what_it_asks_for_and_none_has_a_right_to_spare(run_of, deployment, gone):
    for dag_id in ("sync", "deferred"):
        gone(run_of(dag_id))
    # The log of a task that runs is read from its pod.
    run = Run.start(deployment.airflow, "sync").when(PRODUCER, "running")
    run.log(PRODUCER)
    run.ended()
    for component in ("scheduler", "api-server", "triggerer"):
        text = deployment.airflow.component_log(component).read_text(errors="replace")
        assert not re.findall(r"cannot \w+ resource", text)
    used = {name: deployment.recorder.by(path) for name, path in deployment.accounts.items()}
    assert used["airflow-api-server"] == granted("airflow-api-server")
    # What is patched is the label of a pod whose scheduler has died; `test_faults` has that.
    assert granted("airflow-scheduler") - used["airflow-scheduler"] <= {("patch", "pods")}
    assert used["airflow-worker"] | used["airflow-triggerer"] <= granted("airflow-worker")


def granted(name):
    rules = roles()[name]["rules"]
    return {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}
