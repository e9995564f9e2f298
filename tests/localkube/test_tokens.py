"""Tokens that the server has not made itself, and who is let in with them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import LocalKube

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


@pytest.fixture
def cloud() -> Iterator[LocalKube]:
    """A server of its own: what it accepts stays accepted."""
    with LocalKube(isolation="none") as running:
        yield running


@pytest.fixture
def with_token(cloud, tmp_path: Path):
    """Return the API as who has just this token and the authority's certificate sees it."""
    certificate = tmp_path / "ca.pem"
    certificate.write_bytes(base64.b64decode(cloud.authority))

    def with_token(token: str) -> client.CoreV1Api:
        configuration = client.Configuration(host=cloud.url)
        configuration.ssl_ca_cert = str(certificate)
        header = {"header_name": "Authorization", "header_value": f"Bearer {token}"}
        return client.CoreV1Api(client.ApiClient(configuration, **header))

    return with_token


def status(call, *args) -> int:
    with pytest.raises(ApiException) as raised:
        call(*args)
    return raised.value.status


def test_who_is_known_by_a_token_that_others_have_made_is_let_in(cloud, with_token):
    cloud.accept_tokens({"of-a-cloud": "airflow@shop"}.get)
    assert with_token("of-a-cloud").list_namespaced_pod("default").items == []
    assert status(with_token("of-nobody").list_namespaced_pod, "default") == 401


def test_nobody_is_let_in_before_tokens_of_others_are_accepted(with_token):
    assert status(with_token("of-a-cloud").list_namespaced_pod, "default") == 401


def test_they_may_do_what_the_rules_say_and_nothing_else(cloud, with_token):
    cloud.accept_tokens({"of-a-cloud": "airflow@shop"}.get, [READ_PODS], namespace="default")
    api = with_token("of-a-cloud")
    api.list_namespaced_pod("default")
    with pytest.raises(ApiException, match='User \\\\"airflow@shop\\\\" cannot list resource \\\\"secrets'):
        api.list_namespaced_secret("default")
    assert status(api.list_namespaced_pod, "kube-system") == 403


def test_a_token_is_reviewed_once_in_a_while_only(cloud, with_token):
    reviewed = []
    cloud.accept_tokens(lambda token: reviewed.append(token) or "airflow")
    api = with_token("of-a-cloud")
    for _ in range(3):
        api.list_namespaced_pod("default")
    assert reviewed == ["of-a-cloud"]


def test_a_token_that_has_expired_stays_expired_and_a_new_one_is_let_in(cloud, with_token):
    cloud.accept_tokens(lambda token: token)
    with_token("old").list_namespaced_pod("default")
    cloud.faults.expire_credentials()
    assert status(with_token("old").list_namespaced_pod, "default") == 401
    with_token("new").list_namespaced_pod("default")


def test_rules_for_them_of_another_form_are_refused(cloud):
    with pytest.raises(ArgumentError, match="rules="):
        cloud.accept_tokens({}.get, ["pods"])
