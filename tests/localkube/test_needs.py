"""What pods need before they start: what is there for every namespace, and what is told to be missing."""

from __future__ import annotations

import pytest
from kubernetes import client, config

from dbt_watch.local.localkube import LocalKube, Missing, Need
from dbt_watch.local.localkube.needs import needs_of

from .conftest import eventually

SECRETS = {"warehouse": {"password": "s3cret", "key.pem": b"\x00\xff"}}
CONFIG_MAPS = {"settings": {"threads": "4", "blob": b"\x00"}}


@pytest.fixture(scope="module")
def furnished():
    with LocalKube({}, isolation="none", secrets=SECRETS, config_maps=CONFIG_MAPS, namespaces=None) as kube:
        yield kube


@pytest.fixture
def api(furnished):
    with config.new_client_from_config(str(furnished.kubeconfig)) as connection:
        yield client.CoreV1Api(connection)


def pod(name, spec):
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", **spec}}


def secret_variable(name, key, **more):
    return {"name": "X", "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


def test_a_pod_needs_its_images_and_what_it_refers_to_each_once():
    spec = {
        "initContainers": [{"name": "a", "image": "init:1"}],
        "containers": [
            {
                "name": "b",
                "image": "main:1",
                "env": [secret_variable("warehouse", "password"), {"name": "Y", "value": "1"}],
                "envFrom": [{"secretRef": {"name": "warehouse"}}, {"configMapRef": {"name": "settings"}}],
            },
            {"name": "c", "image": "main:1"},
        ],
        "volumes": [
            {"name": "d", "secret": {"secretName": "tls", "items": [{"key": "crt", "path": "crt"}]}},
            {"name": "e", "configMap": {"name": "files"}},
            {"name": "f", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "g", "emptyDir": {}},
        ],
    }
    assert needs_of({"spec": spec}) == (
        Need("image", "init:1"),
        Need("image", "main:1"),
        Need("secret", "warehouse"),
        Need("config map", "settings"),
        Need("secret", "warehouse", "password"),
        Need("secret", "tls", "crt"),
        Need("config map", "files"),
        Need("claim", "data"),
    )


def test_what_is_optional_is_not_needed():
    spec = {
        "containers": [
            {
                "name": "a",
                "image": "main:1",
                "env": [secret_variable("warehouse", "password", optional=True)],
                "envFrom": [{"configMapRef": {"name": "settings", "optional": True}}],
            }
        ],
        "volumes": [{"name": "b", "secret": {"secretName": "tls", "optional": True}}],
    }
    assert needs_of({"spec": spec}) == (Need("image", "main:1"),)


def test_a_namespace_is_made_for_the_first_object_in_it_and_has_what_every_namespace_has(api):
    api.create_namespaced_config_map("made", {"metadata": {"name": "first"}})
    assert api.read_namespace("made").status.phase == "Active"
    for namespace in ("made", "default"):
        secret = api.read_namespaced_secret("warehouse", namespace)
        assert secret.data == {"password": "czNjcmV0", "key.pem": "AP8="}
        settings = api.read_namespaced_config_map("settings", namespace)
        assert (settings.data, settings.binary_data) == ({"threads": "4"}, {"blob": "AA=="})


def test_a_pod_that_waits_is_told_with_what_it_waits_for(api, furnished):
    container = {
        "name": "a",
        "image": "unheard-of:1",
        "env": [secret_variable("warehouse", "password"), secret_variable("warehouse", "user")],
    }
    api.create_namespaced_pod("default", pod("waits", {"containers": [container]}))
    assert furnished.missing() == [
        Missing("default/waits", Need("image", "unheard-of:1")),
        Missing("default/waits", Need("secret", "warehouse", "user")),
    ]
    api.delete_namespaced_pod("waits", "default", grace_period_seconds=0)
    eventually(lambda: furnished.missing() == [])
