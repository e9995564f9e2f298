"""The Roles of docs/security.md are enough for a build, and none of their rights is too much."""

from __future__ import annotations

import asyncio
import json

import pytest
from harness import until
from kubernetes import client, config

from .conftest import IMAGE

# Each runs a DAG in a real Airflow, on a machine that may be slow.
pytestmark = pytest.mark.timeout(1800)

# What is enough for a build, for one that fails and whose pod is kept, and for one that does not start.
WITH_THE_ROLE = ("plain", "kept", "unpullable")
WITH_ANOTHER_ROLE = {
    "with_xcom": "dbt-watch-xcom", "with_profile": "dbt-watch-profile", "refused_profile": "dbt-watch-profile"
}  # fmt: skip
WAREHOUSE = {"conn_type": "duckdb", "host": "/tmp/jaffle_shop.duckdb"}  # noqa: S108 - in the pod


@pytest.fixture(scope="module")
def kubeconfigs(kube, roles):
    files = {
        dag_id: kube.kubeconfig_for(roles["dbt-watch"], namespace="dbt", name=dag_id)
        for dag_id in WITH_THE_ROLE
    }
    for dag_id, more in WITH_ANOTHER_ROLE.items():
        both = [*roles["dbt-watch"], *roles[more]]
        files[dag_id] = kube.kubeconfig_for(both, namespace="dbt", name=dag_id.replace("_", "-"))
    return files


@pytest.fixture(scope="module")
def outcomes(run_dags, kubeconfigs):
    return run_dags("rights", kubeconfigs, AIRFLOW_CONN_WAREHOUSE=json.dumps(WAREHOUSE))


def granted(rules):
    return {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}


def test_a_build_succeeds_with_the_role(outcomes):
    assert outcomes["plain"].state == "success"
    assert set(outcomes["plain"].states.values()) == {"success"}


def test_a_pod_is_cleaned_up(outcomes, kube):
    assert outcomes["plain"].state == "success"

    def has_gone():
        (pod,) = [pod for pod in kube.pods() if pod.labels["dag_id"] == "plain"]
        return pod.deleted_at

    until(has_gone, "the pod is still there")


def test_a_build_that_fails_says_what_dbt_said_and_its_pod_is_marked_as_done(outcomes, kube):
    assert outcomes["kept"].state == "failed"
    assert "dbt ended with exit code 1" in outcomes["kept"].log
    (pod,) = [pod for pod in kube.pods() if pod.labels["dag_id"] == "kept"]
    assert pod.labels["already_checked"] == "True"


def test_a_pod_that_does_not_start_says_why(outcomes):
    assert outcomes["unpullable"].state == "failed"
    assert "not found" in outcomes["unpullable"].log


@pytest.mark.parametrize("dag_id", [*WITH_THE_ROLE, *WITH_ANOTHER_ROLE])
def test_nothing_was_refused(outcomes, dag_id):
    assert "is forbidden" not in outcomes[dag_id].log


def test_the_result_of_a_pod_is_read_with_the_other_role(outcomes):
    assert outcomes["with_xcom"].state == "success"


@pytest.fixture(scope="module")
def all_secrets_go(outcomes, kube):
    """Return a function that waits until no Secret of a profile is left: each goes a moment after its pod."""

    def left():
        with config.new_client_from_config(str(kube.kubeconfig)) as connection:
            found = client.CoreV1Api(connection).list_namespaced_secret("dbt").items
        return [item.metadata.name for item in found if item.metadata.name.startswith("dbt-profile-")]

    return lambda: until(lambda: not left(), lambda: f"these are left: {left()}")


def test_a_pod_has_its_profile_with_the_third_role_and_takes_it_along(outcomes, all_secrets_go):
    assert outcomes["with_profile"].state == "success"
    all_secrets_go()


def test_a_pod_that_the_api_refuses_leaves_no_secret(outcomes, all_secrets_go):
    assert outcomes["refused_profile"].state == "failed"
    assert "volumeMounts" in outcomes["refused_profile"].log
    all_secrets_go()


def test_every_right_is_used_and_no_other(outcomes, kubeconfigs, recorder, roles):
    """What the role grants and nobody has asked for would not be the least."""
    used = {dag_id: recorder.by(path) for dag_id, path in kubeconfigs.items()}
    assert set().union(*(used[dag_id] for dag_id in WITH_THE_ROLE)) == granted(roles["dbt-watch"])
    # This cluster is older than 1.35, and asks for one of the two.
    assert used["with_xcom"] - granted(roles["dbt-watch"]) == {("get", "pods/exec")}
    of_profiles = (used["with_profile"] | used["refused_profile"]) - granted(roles["dbt-watch"])
    assert of_profiles == granted(roles["dbt-watch-profile"])


@pytest.fixture
def async_hook(kube, roles, tmp_path_factory, monkeypatch):
    """The way of a triggerer to the cluster, with the role."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow_home")))
    # Airflow makes its home directory when it is imported.
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook  # noqa: PLC0415 - as said

    file = kube.kubeconfig_for(roles["dbt-watch"], namespace="dbt", name="triggerer")
    return AsyncKubernetesHook(conn_id=None, in_cluster=False, config_dict=json.loads(file.read_text()))


def test_a_triggerer_that_follows_a_pod_needs_no_more(kube, async_hook):
    script = "import time; print('hello', flush=True); time.sleep(600)"
    container = {"name": "base", "image": IMAGE, "command": ["python", "-c", script]}
    body = {"metadata": {"name": "deferred"}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
    api.create_namespaced_pod("dbt", body)
    until(
        lambda: api.read_namespaced_pod("deferred", "dbt").status.phase != "Pending",
        "the pod does not start",
        pause=0.05,
    )
    stream = api.read_namespaced_pod_log("deferred", "dbt", follow=True, _preload_content=False)
    assert next(stream.stream()) == b"hello\n"
    stream.close()
    api.api_client.close()

    async def follow():
        pod = await async_hook.get_pod("deferred", "dbt")
        lines = await async_hook.read_logs("deferred", "dbt", container_name="base", since_seconds=3600)
        # It would rather watch, and asks again and again where it may not.
        events = async_hook.watch_pod_events("deferred", "dbt", timeout_seconds=5)
        reason = (await anext(events)).reason
        await events.aclose()
        await async_hook.delete_pod("deferred", "dbt")
        return pod.status.phase, "".join(lines), reason

    phase, log, reason = asyncio.run(follow())
    assert (phase, "hello" in log, reason) == ("Running", True, "Scheduled")
