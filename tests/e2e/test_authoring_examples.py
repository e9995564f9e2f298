"""The examples of the documentation, each run as it stands on a real Airflow and a real dbt."""

import itertools
import json

import pytest
from example_runs import WITHOUT_SHELL
from harness import Run, until
from kubernetes import client, config

KILLED = 137


@pytest.fixture(scope="session")
def kube(example_cluster):
    return example_cluster


@pytest.fixture(scope="session")
def core(kube):
    return client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))


@pytest.fixture(scope="session")
def run_of(run_of_example):
    """Return the finished run of an example."""
    return run_of_example


def until_deleted(kube, name):
    """Wait until a pod is gone, and return what became of it."""
    return until(
        lambda: next((pod for pod in kube.pods() if pod.name == name and pod.deleted_at), None),
        f"pod {name} is still there",
    )


def as_told(run):
    """Return the tasks as the API tells them, by their ids."""
    tasks = run.airflow.client.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances")["task_instances"]
    return {task["task_id"]: task for task in tasks}


def container_of(core, run, task_id):
    pod = core.read_namespaced_pod(run.xcom(task_id, "pod_name"), "default")
    return next(item for item in pod.spec.containers if item.name == "base")


def test_each_element_of_a_mapping_has_a_pod_and_sensors_of_its_own(run_of, kube):
    run = run_of("regions")
    assert run.state == "success"
    assert {index for task_id, index in run.instances if task_id == "build.raw_orders"} == {0, 1}
    assert {item.state for item in run.instances.values()} == {"success"}
    assert len([pod for pod in kube.pods() if pod.labels.get("dag_id") == "regions"]) == 2


def test_results_of_a_mapped_project_are_those_of_all_its_runs(run_of):
    names = run_of("regions").xcom("report")
    assert names == ["stg_orders", "stg_orders"]


def test_a_sensor_of_a_mapped_project_goes_by_the_pod_of_its_own(run_of):
    run = run_of("one_region_fails")
    assert run.state == "failed"
    for task_id in ("shop.stg_orders", "shop.dbt_build"):
        assert [run.instances[task_id, index].state for index in (0, 1)] == ["success", "failed"]
    assert [run.instances["shop.raw_orders", index].state for index in (0, 1)] == ["success", "success"]


def test_what_is_known_only_when_it_runs_reaches_dbt(run_of, core):
    run = run_of("values")
    assert run.state == "success"
    container = container_of(core, run, "build.dbt_build")
    arguments, env = container.args, {item.name: item.value for item in container.env}
    given = dict(itertools.pairwise(arguments))
    assert json.loads(env["DBT_WATCH_VARS"])["batch"] == "batch-9"
    assert (given["--threads"], given["--target"]) == ("2", "dev")
    assert given["--event-time-start"] < given["--event-time-end"]
    assert {"--fail-fast", "--no-partial-parse"} <= set(arguments)
    assert not {"--full-refresh", "--empty"} & set(arguments)


def test_tasks_of_nodes_that_a_run_leaves_out_are_skipped_with_the_reason(run_of):
    run = run_of("values of a part")
    assert run.state == "success"
    skipped = {task_id for task_id, state in run.states.items() if state == "skipped"}
    assert skipped == {
        "build.raw_payments", "build.stg_payments", "build.stg_payments.test",
    }  # fmt: skip
    words = "left out of this run by --select raw_orders+"
    assert words in run.log("build.stg_payments", until=words)
    assert run.states["build.stg_orders"] == "success"


def test_tasks_in_groups_of_folders_run_as_any_others(run_of):
    run = run_of("values")
    assert {"build.stg_payments", "build.stg_orders", "build.raw_orders"} <= set(run.states)
    assert set(run.states.values()) == {"success"}


def test_functions_for_successes_run_and_those_for_failures_are_skipped(run_of):
    run = run_of("watchers")
    assert run.state == "success"
    assert run.states["build.apologise"] == "skipped"
    assert run.xcom("build.count") == "150 orders"
    assert run.xcom("build.note.customers") == "customers: success"
    assert run.states["publish"] == "success"


def test_a_function_for_failures_runs_when_the_node_failed(run_of):
    run = run_of("watchers with a failure")
    assert run.state == "failed"
    assert run.xcom("build.apologise") == "orders is late: error"
    assert run.xcom("build.note.customers") == "customers: skipped"
    assert run.states["build.count"] == "success"
    assert run.states["publish"] == "upstream_failed"


def test_a_warning_is_told_with_what_dbt_reported(run_of):
    run = run_of("watchers")
    assert run.xcom("build.look_into") == "stg_payments has warnings"
    words = "warned: dear_payments"
    assert words in run.log("build.stg_payments.test", until=words)
    assert "warned: " not in run.log("build.stg_orders.test")


def test_callbacks_of_airflow_get_what_dbt_reported_and_change_no_outcome(run_of, told):
    run = run_of("told")
    assert {task_id for task_id, state in run.states.items() if state == "failed"} == {
        "shop.dbt_build", "shop.stg_orders",
    }  # fmt: skip
    expected = {
        "shop.dbt_build: raw_orders stg_orders",
        "shop.stg_orders: stg_orders",
        "well.dbt_build: raw_orders",
        "well.raw_orders: raw_orders",
    }
    # The dag-processor calls those for failures that a trigger has found.
    until(lambda: told() == expected, lambda: f"{told()}, not {expected}")


def test_all_results_are_an_argument_for_another_task(run_of):
    assert run_of("watchers").xcom("report")["orders"] == "success"
    broken = run_of("watchers with a failure").xcom("report")
    assert (broken["orders"], broken["customers"], broken["stg_orders"]) == ("error", "skipped", "success")


def test_a_function_without_a_project_has_a_pod_for_its_node(run_of):
    run = run_of("one_node")
    assert run.states == dict.fromkeys(
        ("arrived.dbt_build", "arrived.raw_customers", "arrived.raw_customers.test", "arrived.arrived"),
        "success",
    )
    assert run.xcom("arrived.arrived") is True


def test_other_commands_of_dbt_run_beside_the_build_and_tell_what_they_did(run_of):
    run = run_of("operations")
    assert run.state == "success"
    assert run.xcom("drop_schema_named")["status"] == "success"
    docs = run.xcom("docs_generate")
    assert docs["message"] == "Catalog written to /usr/app/jaffle_shop/target/catalog.json"
    assert run.xcom("announce").endswith(docs["message"])
    assert "Building catalog" in run.log("docs_generate", until="Building catalog")


def test_tests_are_tasks_of_nodes_part_of_them_one_task_or_none(run_of):
    run = run_of("tests")
    groups = {}
    for task_id, state in run.states.items():
        assert state == "success", task_id
        group, name = task_id.split(".", 1)
        groups.setdefault(group, set()).add(name)
    nodes = {"dbt_build", "raw_orders", "stg_orders"}
    assert groups == {
        "after_each": nodes | {"stg_orders.test"}, "build": nodes, "after_all": nodes | {"tests"}, "none": nodes,
    }  # fmt: skip
    assert len(run.xcom("build.stg_orders")["nodes"]) == 3
    assert "nodes" not in run.xcom("none.stg_orders")


def test_a_project_can_be_used_twice_with_different_selections(run_of):
    run = run_of("twice")
    assert run.state == "success"
    assert set(run.states) == {
        "shop.dbt_build", "shop.raw_orders", "again.dbt_build", "again.dbt_build.assets", "again.raw_payments",
    }  # fmt: skip
    first, second = (run.instances[f"{group}.dbt_build", -1] for group in ("shop", "again"))
    assert second.start_date >= first.end_date


def test_entrypoint_packages_secret_init_container_and_another_one_around_one_call_of_dbt(run_of, kube):
    run = run_of("container")
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    log = run.log("build.dbt_build", until="Completed successfully")
    assert "fetched the secrets" in log
    assert "Installing helpers" in log or "Installed from" in log
    pod = until_deleted(kube, run.xcom("build.dbt_build", "pod_name"))
    assert pod.labels["team"] == "shop"
    assert pod.exit_codes == {"prepare": 0, "base": 0, "beside": 0}


@pytest.mark.parametrize("group", ["deferred", "in_full"])
def test_a_container_that_never_ends_keeps_neither_the_task_nor_the_pod(run_of, kube, group):
    run = run_of("pods")
    assert run.states[f"{group}.dbt_build"] == run.states[f"{group}.raw_orders"] == "success"
    pod = until_deleted(kube, run.xcom(f"{group}.dbt_build", "pod_name"))
    killed = {name for name, code in pod.exit_codes.items() if code == KILLED}
    assert killed == {"deferred": {"beside", "before"}, "in_full": {"beside"}}[group]
    assert pod.exit_codes["base"] == 0


def test_logs_of_other_containers_are_shown_after_that_of_dbt(run_of):
    log = run_of("pods").log("in_full.dbt_build", until="here all the time")
    assert log.index("raw_orders OK") < log.index("here all the time")


def test_an_image_without_a_shell_in_a_pod_template_file(run_of, kube):
    run = run_of("pods")
    assert run.states["from_a_file.dbt_build"] == run.states["from_a_file.raw_orders"] == "success"
    pod = until_deleted(kube, run.xcom("from_a_file.dbt_build", "pod_name"))
    assert (pod.image, pod.labels["team"]) == (WITHOUT_SHELL, "shop")


def test_settings_of_a_node_are_those_of_its_task_and_of_a_pod_for_it_alone(run_of, kube):
    run = run_of("twice")
    settings = {task_id: (item["pool"], item["priority_weight"]) for task_id, item in as_told(run).items()}
    assert settings["again.raw_payments"] == ("warehouse", 7)
    assert settings["shop.raw_orders"][0] == settings["again.dbt_build"][0] == "default_pool"
    # Runs of other DAGs may go on beside this one.
    before = {pod.name for pod in kube.pods()}
    again = run.cleared("again.raw_payments")
    assert again.states == run.states
    (pod,) = [pod for pod in kube.pods() if pod.name not in before and pod.labels.get("dag_id") == "twice"]
    assert pod.image == WITHOUT_SHELL
    assert as_told(again)["again.raw_payments"]["pool"] == "warehouse"
    # It is built once more, and so told of by its asset once more.
    found = run.airflow.client.get("assets/events", source_dag_id="twice", source_run_id=run.run_id)
    told = [(event["source_task_id"], event["extra"]["unique_id"]) for event in found["asset_events"]]
    node = "seed.jaffle_shop.raw_payments"
    assert sorted(task for task, unique_id in told if unique_id == node) == [
        "again.dbt_build",
        "again.raw_payments",
    ]


BEHIND_PAYMENTS = {"order_payments", "order_payments.test", "revenue"}
SOURCES = {f"source.landing.{name}" for name in ("customers", "orders", "payments")}


def states_in(run, group):
    prefix = f"{group}."
    return {
        task_id.removeprefix(prefix): state
        for task_id, state in run.states.items()
        if task_id.startswith(prefix)
    }


@pytest.mark.parametrize(
    ("group", "behind", "producer"), [("build", "failed", "failed"), ("skip", "skipped", "success")]
)
def test_what_reads_from_a_stale_source_is_not_built_and_fails_or_is_skipped(run_of, group, behind, producer):
    run = run_of("freshness")
    assert run.state == "failed"
    expected = {
        "dbt_build": producer,
        "source.landing.payments": "failed",
        **dict.fromkeys(BEHIND_PAYMENTS, behind),
    }
    states = states_in(run, group)
    assert {task_id: state for task_id, state in states.items() if task_id in expected} == expected
    assert {state for task_id, state in states.items() if task_id not in expected} == {"success"}
    assert {"orders", "customers", "countries", "source.landing.orders.test", "fresh"} < set(states)
    words = "not built: source `landing.payments` is stale"
    assert words in run.log(f"{group}.revenue", until=words)


def test_a_project_whose_source_is_stale_says_which(run_of):
    run = run_of("freshness")
    words = "dbt ended with exit code 1: 1 source is stale: landing.payments"
    assert words in run.log("build.dbt_build", until=words)
    words = "landing.payments: error: stale"
    assert words in run.log("build.source.landing.payments", until=words)


def test_sources_can_be_checked_without_a_build(run_of):
    states = states_in(run_of("freshness"), "check")
    assert set(states) == {"dbt_build", "fresh", *SOURCES}
    assert {task_id for task_id, state in states.items() if state == "failed"} == {
        "dbt_build", "source.landing.payments",
    }  # fmt: skip


def test_a_source_that_is_a_little_late_is_told_as_a_warning(run_of):
    run = run_of("freshness")
    words = "late: customers, older than"
    assert words in run.log("build.source.landing.customers", until=words)
    assert run.xcom("build.fresh") == "orders: pass"


def test_the_next_attempt_checks_a_stale_source_again_and_builds_what_it_held_back(run_of, core):
    run = run_of("landed_late")
    assert run.state == "success"
    assert run.with_state("success") == set(run.states) - {"shop.dbt_build.assets"}
    arguments = container_of(core, run, "shop.dbt_build").args
    assert [word for word in arguments if word.startswith("source:")] == [
        "source:landed_shop.landing.payments"
    ]
    built = {word.split(",")[0] for word in arguments if word.startswith("fqn:landed_shop.")}
    assert {"fqn:landed_shop.order_payments", "fqn:landed_shop.revenue"} <= built
    assert not {"fqn:landed_shop.orders", "fqn:landed_shop.customers"} & built


def test_a_source_whose_task_is_cleared_alone_is_checked_alone(run_of, kube):
    run = run_of("freshness")
    task_id = "skip.source.landing.payments"
    again = run.cleared(task_id)
    assert again.states == run.states  # stale as before
    pods = [pod for pod in kube.pods() if pod.labels.get("dag_id") == "freshness"]
    assert sorted(pod.labels["task_id"] for pod in pods) == [
        "build.dbt_build", "check.dbt_build", "skip.dbt_build", task_id,
    ]  # fmt: skip


def test_what_dbt_has_written_lies_in_the_store_and_not_in_the_log(run_of, lake):
    run = run_of("artifacts")
    assert run.state == "success"
    (place,) = (path for path in (lake / "artifacts").iterdir() if path.name != "last_success")
    files = {path.name: path for path in (place / "1").iterdir()}
    assert set(files) == {
        "run_results.json",
        "manifest.json",
        "catalog.json",
        "index.html",
        "compiled.tar.gz",
    }
    built = {
        item["unique_id"]: item["status"]
        for item in json.loads(files["run_results.json"].read_bytes())["results"]
    }
    assert built["model.jaffle_shop.stg_orders"] == "success"
    assert "model.jaffle_shop.stg_orders" in json.loads(files["catalog.json"].read_bytes())["nodes"]
    assert json.loads((place / "run_results.json").read_bytes())["results"]
    told = run.xcom("build.dbt_build", "dbt_watch_artifacts")
    assert told["place"].endswith("/1")
    assert set(told["files"]) == set(files)
    log = run.log("build.dbt_build", until="Artifacts in ")
    assert "dbt-watch-file" not in log


def pods_of_both(kube):
    return sum(pod.labels.get("dag_id") in {"nightly", "pull_request"} for pod in kube.pods())


def test_what_has_not_changed_since_the_last_good_run_is_not_built(run_of, kube):
    first = run_of("nightly")
    assert set(first.states.values()) == {"success"}
    pods = pods_of_both(kube)
    for dag_id in ("nightly", "pull_request"):
        again = Run.start(first.airflow, dag_id).ended()
        states = dict(again.states)
        assert states.pop("build.dbt_build") == "success"
        assert set(states.values()) == {"skipped"}
        words = "unchanged since"
        assert words in again.log("build.stg_orders", until=words)
    assert pods == pods_of_both(kube)


def test_only_what_reads_newer_data_than_the_last_good_run_is_built(run_of):
    first = run_of("fresher")
    assert first.with_state("success") == set(first.states)
    again = Run.start(first.airflow, "fresher", {"orders_age": 5}).ended()
    assert again.state == "success"
    left_out = {"build.orders", "build.source.landing.orders.test", "build.countries"}
    assert again.with_state("skipped") == left_out
    assert again.with_state("success") == set(first.states) - left_out
    for task_id in left_out:
        words = "left out of this run by --select state:modified+ source_status:fresher+: unchanged since"
        assert words in again.log(task_id, until=words)
