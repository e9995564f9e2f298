"""GKE's and EKS's own operators, each with its own way to the cluster, on a real Airflow; see `conftest.py` for what stands in."""

import re

import pytest

pytest.importorskip("moto", reason="the providers are large; `nox -s clouds` installs them")

import yaml
from amazon import Amazon
from conftest import EXAMPLES, ON_WORKERS, ROOT
from google_cloud import ACCOUNT, CLUSTER
from harness import until

CASES = [*EXAMPLES, *ON_WORKERS]
HELD = ("gke_held", "eks_held", "gke_held_deferred", "eks_held_deferred")
NOT_BUILT = {"customers", "customers.test", "daily_revenue", "daily_revenue.test", "orders.test"}


@pytest.fixture(params=CASES)
def run(request, run_of):
    return run_of(request.param)


def in_group(run, state):
    return {task_id.removeprefix("build.") for task_id in run.with_state(state)}


def test_a_broken_model_fails_its_task_and_what_depends_on_it_with_dbts_words(run):
    assert run.state == "failed"
    relationships = {name for name in in_group(run, "failed") if "relationships" in name}
    assert in_group(run, "failed") == {"dbt_build", "orders"} | NOT_BUILT | relationships
    assert {"raw_orders", "stg_orders", "stg_orders.test"} <= in_group(run, "success")
    log = run.log("build.orders", until="Candidate bindings")
    assert "order_totl" in log
    words = "not built: upstream `orders` failed"
    assert words in run.log("build.customers", until=words)
    of_producer = run.log("build.dbt_build", 2)
    assert "dbt ended with exit code 1: orders: Runtime Error in model orders" in of_producer


def test_a_warning_is_told_and_fails_nothing(run):
    words = "test dear_payments: warn"
    assert words in run.log("build.stg_payments.test", until=words)
    assert "stg_payments.test" in in_group(run, "success")


def test_the_second_attempt_builds_what_is_not_done_and_the_sensors_wait_for_it(run):
    assert run.tasks["build.dbt_build"].try_number == 2
    assert {item.try_number for item in run.sensors().values()} == {1}
    first, second = (run.log("build.dbt_build", attempt) for attempt in (1, 2))
    assert "raw_orders OK" in first
    assert "raw_orders OK" not in second
    assert "late OK" not in first
    assert "late OK" in second
    assert "the next attempt will build it again" in run.log("build.late", until="model late: success")


def test_the_sensors_end_while_dbt_runs(run):
    seed, producer = run.tasks["build.raw_orders"], run.tasks["build.dbt_build"]
    # Those of the producer are the second attempt's.
    assert seed.end_date < producer.start_date


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_deferred_producer_leaves_its_worker_before_dbt_begins(run_of, name):
    log = run_of(name).log("build.dbt_build", 1)
    assert log.index("Pausing task as DEFERRED") < log.index("raw_orders OK")


@pytest.mark.parametrize("name", ["gke", "gke_on_worker"])
def test_gke_links_to_the_pod_in_googles_console(run_of, name):
    link = run_of(name).xcom("build.dbt_build", "kubernetes_pod_conf")
    assert "shop" in str(link)


def test_the_control_plane_is_asked_for_the_cluster_that_the_dag_names(run_of, google):
    run_of("gke")
    assert {*google.asked} == {CLUSTER}


def test_nothing_is_left_in_the_cluster(run_of, kube):
    for name in CASES:
        run_of(name)
    pods = [pod for pod in kube.pods() if pod.labels["dag_id"] in CASES]
    assert len(pods) == 2 * len(CASES)
    until(
        lambda: all(pod.deleted_at for pod in kube.pods() if pod.labels["dag_id"] in CASES),
        "the end of the pods",
    )


def test_a_build_goes_on_with_new_tokens_when_those_that_there_were_are_refused(hold, kube):
    held = hold(*HELD)
    kube.faults.expire_credentials()
    for each in held:
        run = each.let_go()
        assert set(run.states.values()) == {"success"}
        assert run.log("build.dbt_build").count("raw_orders OK") == 1


def test_the_pod_of_a_deferred_producer_that_a_person_stops_is_deleted(hold, kube):
    for each in hold("gke_held_deferred", "eks_held_deferred"):
        name = each.run.xcom("build.dbt_build", "pod_name")
        each.run.mark("build.dbt_build", "failed")
        until(
            lambda name=name: any(pod.name == name and pod.deleted_at for pod in kube.pods()),
            f"the end of {name}",
        )


def test_a_node_whose_task_is_cleared_alone_is_built_in_a_pod_of_its_own(hold):
    for each in hold("gke_held", "eks_held"):
        run = each.let_go().cleared("build.stg_orders")
        assert run.state == "success"
        assert "stg_orders OK" in run.log("build.stg_orders", 2)


def role_binding(page):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.DOTALL)
    return yaml.safe_load(block)


@pytest.mark.parametrize(("page", "kind", "name"), [("gke", "User", ACCOUNT), ("eks", "Group", "dbt-watch")])
def test_the_page_binds_the_role_that_these_runs_had(page, kind, name):
    binding = role_binding(page)
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": "dbt-watch",
    }
    assert binding["metadata"]["namespace"] == "dbt"
    assert binding["subjects"] == [{"kind": kind, "name": name}]
    if kind == "Group":
        assert f"--kubernetes-groups {name}" in (ROOT / f"docs/{page}.md").read_text()


def test_who_signs_in_is_the_user_of_the_connection(google, amazon):
    assert isinstance(amazon, Amazon)
    assert {*google._tokens.values()} == {ACCOUNT}
