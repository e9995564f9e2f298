"""What a service account with few rights may do, and in which words the rest is refused to it."""

from __future__ import annotations

import json
import stat

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from dbt_watch.exceptions import ArgumentError

from .conftest import create, eventually, finished, log, manifest, running

READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
USER = 'User "system:serviceaccount:default:airflow"'


@pytest.fixture
def account(kube):
    """Return a client of an account with some rights."""
    connections = []

    def account(*rules, namespace="default", name="airflow"):
        path = kube.kubeconfig_for(rules, namespace=namespace, name=name)
        connections.append(config.new_client_from_config(str(path)))
        return client.CoreV1Api(connections[-1])

    yield account
    for connection in connections:
        connection.close()


def refused(call, *args, **kwargs):
    with pytest.raises(ApiException) as raised:
        call(*args, **kwargs)
    body = json.loads(raised.value.body)
    assert (raised.value.status, body["reason"], body["status"]) == (403, "Forbidden", "Failure")
    return body["message"]


def test_what_is_granted_is_done_and_nothing_else(api, account):
    limited = account(READ_PODS)
    create(api, manifest("readable", "true"))
    finished(api, "readable")
    assert limited.read_namespaced_pod("readable", "default").metadata.name == "readable"
    assert limited.list_namespaced_pod("default").items
    assert refused(limited.create_namespaced_pod, "default", manifest("new", "true")) == (
        f'pods is forbidden: {USER} cannot create resource "pods" in API group "" in the namespace "default"'
    )
    assert refused(limited.delete_namespaced_pod, "readable", "default") == (
        f'pods "readable" is forbidden: {USER} cannot delete resource "pods" in API group "" '
        'in the namespace "default"'
    )
    assert "cannot patch" in refused(limited.patch_namespaced_pod, "readable", "default", {})
    assert "cannot deletecollection" in refused(limited.delete_collection_namespaced_pod, "default")


def test_a_right_to_pods_is_none_to_their_logs_exec_and_status(api, account):
    limited = account({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]})
    create(api, manifest("parts", "while :; do sleep 0.05; done"))
    running(api, "parts")
    assert refused(limited.read_namespaced_pod_log, "parts", "default") == (
        f'pods "parts" is forbidden: {USER} cannot get resource "pods/log" in API group "" in the namespace "default"'
    )
    assert "pods/status" in refused(limited.patch_namespaced_pod_status, "parts", "default", {})
    assert "pods/exec" in refused(limited.connect_get_namespaced_pod_exec, "parts", "default", command="true")


def test_rights_to_parts_alone_and_to_all_parts(api, account):
    create(api, manifest("logged", "echo here"))
    finished(api, "logged")
    logs = account({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]})
    assert log(logs, "logged") == b"here\n"
    assert "cannot get" in refused(logs.read_namespaced_pod, "logged", "default")
    wild = account({"apiGroups": ["*"], "resources": ["*/log"], "verbs": ["*"]})
    assert log(wild, "logged") == b"here\n"


def test_the_rights_of_a_role_end_with_its_namespace(api, account):
    limited = account(READ_PODS, namespace="default")
    assert 'in the namespace "kube-system"' in refused(limited.list_namespaced_pod, "kube-system")
    assert refused(limited.list_pod_for_all_namespaces) == (
        f'pods is forbidden: {USER} cannot list resource "pods" in API group "" at the cluster scope'
    )
    assert 'namespaces "default" is forbidden' in refused(limited.read_namespace, "default")


def test_the_rights_of_a_cluster_role_hold_everywhere(account):
    limited = account(READ_PODS, namespace=None)
    limited.list_namespaced_pod("kube-system")
    limited.list_pod_for_all_namespaces()
    assert "cannot list" in refused(limited.list_namespaced_secret, "default")


def test_a_watch_is_a_right_of_its_own(account):
    limited = account({**READ_PODS, "verbs": ["list"]})
    limited.list_namespaced_pod("default")
    assert "cannot watch" in refused(limited.list_namespaced_pod, "default", watch=True, timeout_seconds=1)


def test_a_right_may_be_for_named_objects_only(api, account):
    limited = account({**READ_PODS, "resourceNames": ["mine"]})
    for name in ("mine", "theirs"):
        create(api, manifest(name, "true"))
    limited.read_namespaced_pod("mine", "default")
    assert 'pods "theirs"' in refused(limited.read_namespaced_pod, "theirs", "default")
    assert "cannot list" in refused(limited.list_namespaced_pod, "default")


def test_a_right_of_another_group_is_none(account):
    limited = account({**READ_PODS, "apiGroups": ["batch"]})
    assert "cannot list" in refused(limited.list_namespaced_pod, "default")


def test_no_rights_are_enough_to_ask_for_the_version(account):
    limited = account()
    assert client.VersionApi(limited.api_client).get_code().minor
    assert "cannot list" in refused(limited.list_namespaced_event, "default")


def test_a_refused_request_changes_nothing(kube, account):
    before = len(kube.pods())
    refused(account(READ_PODS).create_namespaced_pod, "default", manifest("never", "true"))
    assert len(kube.pods()) == before


def test_the_file_of_an_account_is_private_and_goes_with_the_server(kube):
    path = kube.kubeconfig_for([READ_PODS], namespace="default")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["contexts"][0]["context"]["namespace"] == "default"
    assert path.parent == kube.kubeconfig.parent


@pytest.mark.parametrize(
    "rules",
    [
        READ_PODS,
        "pods",
        ["pods"],
        [{"resources": ["pods"], "verbs": ["get"]}],
        [{**READ_PODS, "verbs": "get"}],
        [{**READ_PODS, "verb": ["get"]}],
    ],
)
def test_rules_of_another_form_are_refused(kube, rules):
    with pytest.raises(ArgumentError, match="rules="):
        kube.kubeconfig_for(rules)


def test_what_the_account_made_runs_like_any_other(kube, account):
    limited = account({**READ_PODS, "verbs": ["get", "create", "delete"]})
    create(limited, manifest("its-own", "true"))
    finished(limited, "its-own")
    limited.delete_namespaced_pod("its-own", "default")
    eventually(lambda: any(fact.name == "its-own" and fact.deleted_at for fact in kube.pods()))
