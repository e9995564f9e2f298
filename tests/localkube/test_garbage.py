"""What is owned by an object goes with it."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from .conftest import create, eventually, log, manifest, running


def owner(pod: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}


def secret(api, name, *owners, data=None):
    metadata = {"name": name, "ownerReferences": list(owners)}
    return api.create_namespaced_secret("default", {"metadata": metadata, "stringData": data or {}})


def names(api):
    return {item.metadata.name for item in api.list_namespaced_secret("default").items}


def test_a_secret_that_a_pod_has_been_given_goes_with_it(api):
    secret(api, "profile", data={"profiles.yml": "shop: {}\n"})
    volume = {"name": "profile", "secret": {"secretName": "profile"}}
    mounts = [{"name": "profile", "mountPath": "/etc/shop-profile"}]
    body = manifest("owner", "cat /etc/shop-profile/profiles.yml; sleep 600", volumes=[volume])
    body["spec"]["containers"][0]["volumeMounts"] = mounts
    pod = create(api, body)
    api.patch_namespaced_secret("profile", "default", {"metadata": {"ownerReferences": [owner(pod)]}})
    secret(api, "another")
    running(api, "owner")
    eventually(lambda: b"shop: {}" in log(api, "owner"))
    assert names(api) >= {"profile", "another"}
    api.delete_namespaced_pod("owner", "default", grace_period_seconds=0)
    eventually(lambda: "profile" not in names(api))
    assert "another" in names(api)
    api.delete_namespaced_secret("another", "default")


def test_it_goes_with_the_last_of_its_owners(api):
    first, second = (create(api, manifest(name, "sleep 600")) for name in ("first", "second"))
    secret(api, "shared", owner(first), owner(second))
    api.delete_namespaced_pod("first", "default", grace_period_seconds=0)
    eventually(lambda: [pod.metadata.name for pod in api.list_namespaced_pod("default").items] == ["second"])
    assert "shared" in names(api)
    api.delete_namespaced_pod("second", "default", grace_period_seconds=0)
    eventually(lambda: "shared" not in names(api))


def test_an_owner_that_is_not_there_is_none(api):
    pod = create(api, manifest("short", "true"))
    api.delete_namespaced_pod("short", "default", grace_period_seconds=0)
    eventually(lambda: not api.list_namespaced_pod("default").items)
    secret(api, "late", owner(pod))
    eventually(lambda: "late" not in names(api))


def test_an_owner_without_an_identity_is_refused(api):
    with pytest.raises(ApiException) as raised:
        secret(api, "wrong", {"apiVersion": "v1", "kind": "Pod", "name": "x"})
    assert raised.value.status == 422
    assert "metadata.ownerReferences[0].uid" in raised.value.body
