"""Objects through the official client: create, read, list, watch, patch, delete, and every refusal."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

from dbt_watch.local.localkube import LocalKube

from .conftest import container, create, eventually, finished, manifest


def refusal(call: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(ApiException) as raised:
        call()
    status = json.loads(raised.value.body)
    assert status["kind"] == "Status"
    assert status["status"] == "Failure"
    assert status["code"] == raised.value.status
    return raised.value.status, status


def test_a_name_is_made_from_generate_name(api):
    body = manifest("", "true")
    body["metadata"] = {"generateName": "job-"}
    names = {create(api, body).metadata.name for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("job-") for name in names)


def test_a_missing_object_is_a_404_that_names_it(api):
    code, status = refusal(lambda: api.read_namespaced_pod("nobody", "default"))
    assert (code, status["reason"]) == (404, "NotFound")
    assert status["message"] == 'pods "nobody" not found'
    assert status["details"] == {"name": "nobody", "kind": "pods"}


def test_a_taken_name_is_a_409(api):
    create(api, manifest("twice", "true"))
    code, status = refusal(lambda: create(api, manifest("twice", "true")))
    assert (code, status["reason"]) == (409, "AlreadyExists")


def test_an_update_of_an_outdated_version_is_a_409(api):
    name = api.create_namespaced_config_map("default", {"metadata": {"generateName": "c-"}}).metadata.name
    stale = api.read_namespaced_config_map(name, "default")
    api.patch_namespaced_config_map(name, "default", {"data": {"a": "1"}})
    stale.data = {"a": "2"}
    code, status = refusal(lambda: api.replace_namespaced_config_map(name, "default", stale))
    assert (code, status["reason"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"containers": []}, "spec.containers"),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
        ({"containers": [{"name": "base"}]}, "spec.containers[0].image"),
        ({"containers": [container("true", restartPolicy="Always")]}, "spec.containers[0].restartPolicy"),
        ({"containers": [container("true"), container("true")]}, "spec.containers[1].name"),
        (
            {"containers": [container("true", volumeMounts=[{"name": "v", "mountPath": "/v"}])]},
            "spec.containers[0].volumeMounts[0].name",
        ),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "spec.volumes[0]"),
    ],
)
def test_a_wrong_pod_is_a_422_that_names_the_field(api, change, field):
    body = manifest("wrong", "true")
    body["spec"].update(change)
    code, status = refusal(lambda: create(api, body))
    assert (code, status["reason"]) == (422, "Invalid")
    assert field in [cause["field"] for cause in status["details"]["causes"]]


def test_what_a_pod_runs_cannot_be_altered(api):
    create(api, manifest("fixed", "sleep 600"))
    patch = {"spec": {"containers": [{"name": "base", "command": ["true"]}]}}
    code, status = refusal(lambda: api.patch_namespaced_pod("fixed", "default", patch))
    assert code == 422
    assert "pod updates may not change fields other than" in status["message"]


def test_no_token_and_a_wrong_one_are_401(kube):
    for token in (None, "Bearer wrong"):
        configuration = client.Configuration()
        config.load_kube_config(str(kube.kubeconfig), client_configuration=configuration)
        configuration.refresh_api_key_hook = None
        configuration.api_key = {"authorization": token} if token else {}
        with client.ApiClient(configuration) as connection:
            code, status = refusal(lambda c=connection: client.CoreV1Api(c).list_namespaced_pod("default"))
        assert (code, status["reason"]) == (401, "Unauthorized")


def test_a_client_that_does_not_know_the_authority_is_not_served(kube):
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{kube.url}/version")  # noqa: S310 - the address is ours


def test_the_kubeconfig_is_private(kube):
    assert kube.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_the_version_is_told(api):
    assert client.VersionApi(api.api_client).get_code().major == "1"


def test_namespaces_come_and_go_with_what_is_in_them(api):
    api.create_namespace({"metadata": {"name": "dbt"}})
    assert "dbt" in [item.metadata.name for item in api.list_namespace().items]
    # The signal may come before the shell has set its trap.
    inside = manifest(
        "inside", "trap 'exit 0' TERM; while :; do sleep 0.05; done", terminationGracePeriodSeconds=1
    )
    api.create_namespaced_pod("dbt", inside)
    eventually(lambda: api.read_namespaced_pod("inside", "dbt").status.phase == "Running")
    api.delete_namespace("dbt")
    eventually(lambda: "dbt" not in [item.metadata.name for item in api.list_namespace().items])
    assert refusal(lambda: api.read_namespaced_pod("inside", "dbt"))[0] == 404


def test_the_default_namespace_is_kept_with_a_403(api):
    code, status = refusal(lambda: api.delete_namespace("default"))
    assert (code, status["reason"]) == (403, "Forbidden")


def test_a_pod_in_a_namespace_that_is_not_there_is_a_404(api):
    code, status = refusal(lambda: api.create_namespaced_pod("nowhere", manifest("a", "true")))
    assert code == 404
    assert status["message"] == 'namespaces "nowhere" not found'


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("team=a", {"one", "two"}),
        ("team!=a", {"three"}),
        ("team in (a,b),tier=front", {"one", "three"}),
        ("tier notin (front)", {"two"}),
        ("!extra,team", {"one", "two"}),
        ("extra", {"three"}),
    ],
)
def test_label_selectors_take_what_they_say(api, selector, found):
    labels = {
        "one": {"team": "a", "tier": "front"},
        "two": {"team": "a"},
        "three": {"team": "b", "tier": "front", "extra": "x"},
    }
    for name, own in labels.items():
        api.create_namespaced_config_map(
            "default", {"metadata": {"name": name, "labels": own | {"set": "x"}}}
        )
    try:
        items = api.list_namespaced_config_map("default", label_selector=f"{selector},set=x").items
        assert {item.metadata.name for item in items} == found
    finally:
        api.delete_collection_namespaced_config_map("default", label_selector="team")
    assert not api.list_namespaced_config_map("default", label_selector="team").items


def test_field_selectors_take_what_they_say(api):
    create(api, manifest("good", "true"))
    create(api, manifest("bad", "false"))
    finished(api, "good")
    finished(api, "bad")
    failed = api.list_namespaced_pod("default", field_selector="status.phase=Failed").items
    assert [pod.metadata.name for pod in failed] == ["bad"]
    named = api.list_pod_for_all_namespaces(field_selector="metadata.name=good").items
    assert [pod.metadata.name for pod in named] == ["good"]


@pytest.mark.parametrize("query", [{"label_selector": "a b c"}, {"field_selector": "spec.color=red"}])
def test_a_selector_that_cannot_be_understood_is_a_400(api, query):
    code, status = refusal(lambda: api.list_namespaced_pod("default", **query))
    assert (code, status["reason"]) == (400, "BadRequest")


def test_a_long_list_is_given_in_pages(api):
    for number in range(5):
        api.create_namespaced_secret("default", {"metadata": {"name": f"s{number}", "labels": {"page": "y"}}})
    names, token = [], None
    while True:
        page = api.list_namespaced_secret("default", label_selector="page", limit=2, _continue=token)
        assert len(page.items) <= 2
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"s{number}" for number in range(5)]


def send_patch(api, name, patch, content_type):
    """Patch a pod with a content type of the test's choice, which not all versions of the client offer."""
    api.api_client.call_api(
        f"/api/v1/namespaces/default/pods/{name}",
        "PATCH",
        header_params={"Content-Type": content_type, "Accept": "application/json"},
        body=patch,
        _preload_content=False,
        auth_settings=["BearerToken"],
    )


PATCHES = [
    ("application/merge-patch+json", {"metadata": {"labels": {"a": None, "c": "3"}}}),
    ("application/strategic-merge-patch+json", {"metadata": {"labels": {"a": None, "c": "3"}}}),
    (
        "application/json-patch+json",
        [
            {"op": "remove", "path": "/metadata/labels/a"},
            {"op": "add", "path": "/metadata/labels/c", "value": "3"},
        ],
    ),
]


@pytest.mark.parametrize(("content_type", "patch"), PATCHES, ids=[kind for kind, _ in PATCHES])
def test_each_kind_of_patch_alters_the_labels(api, content_type, patch):
    body = manifest("patched", "sleep 600")
    body["metadata"]["labels"] = {"a": "1", "b": "2"}
    create(api, body)
    send_patch(api, "patched", patch, content_type)
    assert api.read_namespaced_pod("patched", "default").metadata.labels == {"b": "2", "c": "3"}


def test_a_strategic_patch_merges_containers_by_name(api):
    create(api, manifest("merged", container("sleep 600", "one"), container("sleep 600", "two")))
    patch = {"spec": {"containers": [{"name": "two", "image": "other"}]}}
    send_patch(api, "merged", patch, "application/strategic-merge-patch+json")
    spec = api.read_namespaced_pod("merged", "default").spec
    assert [(each.name, each.image) for each in spec.containers] == [("one", "tools"), ("two", "other")]


def test_a_directive_in_a_strategic_patch_is_refused_not_ignored(api):
    create(api, manifest("directed", "sleep 600"))
    patch = {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}
    strategic = "application/strategic-merge-patch+json"
    assert refusal(lambda: send_patch(api, "directed", patch, strategic))[0] == 400


def test_a_json_patch_that_does_not_fit_is_a_422(api):
    create(api, manifest("unfit", "sleep 600"))
    patch = [{"op": "remove", "path": "/metadata/labels/none"}]
    assert refusal(lambda: api.patch_namespaced_pod("unfit", "default", patch))[0] == 422


def test_a_watch_tells_the_whole_life_of_a_pod(api):
    seen: list[tuple[str, str]] = []
    version = api.list_namespaced_pod("default").metadata.resource_version
    create(api, manifest("watched", "true"))
    for event in watch.Watch().stream(
        api.list_namespaced_pod, "default", resource_version=version, timeout_seconds=240
    ):
        seen.append((event["type"], event["object"].status.phase))
        if event["object"].status.phase == "Succeeded" and not event["object"].metadata.deletion_timestamp:
            api.delete_namespaced_pod("watched", "default")
        if event["type"] == "DELETED":
            break
    assert seen[0] == ("ADDED", "Pending")
    assert ("MODIFIED", "Running") in seen
    assert seen[-1] == ("DELETED", "Succeeded")


def test_a_watch_resumes_after_the_version_it_names(api):
    names = [
        api.create_namespaced_config_map("default", {"metadata": {"generateName": "w-"}}).metadata
        for _ in range(3)
    ]
    stream = watch.Watch().stream(
        api.list_namespaced_config_map,
        "default",
        resource_version=names[0].resource_version,
        timeout_seconds=1,
    )
    assert [event["object"].metadata.name for event in stream] == [names[1].name, names[2].name]


def test_a_watch_with_a_selector_sees_objects_enter_and_leave_it(api):
    meta = api.create_namespaced_config_map("default", {"metadata": {"generateName": "e-"}}).metadata
    for value in ("yes", "no"):
        api.patch_namespaced_config_map(meta.name, "default", {"metadata": {"labels": {"seen": value}}})
    stream = watch.Watch().stream(
        api.list_namespaced_config_map,
        "default",
        label_selector="seen=yes",
        resource_version=meta.resource_version,
        timeout_seconds=1,
    )
    assert [event["type"] for event in stream] == ["ADDED", "DELETED"]


def test_a_watch_from_a_forgotten_version_is_a_410(images):
    with LocalKube(images, isolation="none") as kube:
        kube.forget_history()
        with config.new_client_from_config(str(kube.kubeconfig)) as connection:
            api = client.CoreV1Api(connection)
            stream = watch.Watch().stream(
                api.list_namespaced_pod, "default", resource_version="1", timeout_seconds=5
            )
            with pytest.raises(ApiException) as raised:
                next(stream)
            assert raised.value.status == 410


def test_bookmarks_carry_the_version_to_resume_from(api):
    stream = watch.Watch().stream(
        api.list_namespaced_secret,
        "default",
        field_selector="metadata.name=none",
        allow_watch_bookmarks=True,
        timeout_seconds=1,
    )
    kinds = [(event["type"], event["raw_object"]["metadata"]["resourceVersion"]) for event in stream]
    assert [kind for kind, _ in kinds] == ["BOOKMARK"]
    assert int(kinds[0][1]) > 0


def test_a_watch_that_is_left_open_delivers_at_once(api):
    arrived = threading.Event()

    def follow() -> None:
        for event in watch.Watch().stream(
            api.list_namespaced_config_map, "default", label_selector="live", timeout_seconds=240
        ):
            if event["type"] == "ADDED":
                arrived.set()
                return

    thread = threading.Thread(target=follow)
    thread.start()
    api.create_namespaced_config_map("default", {"metadata": {"generateName": "l-", "labels": {"live": ""}}})
    assert arrived.wait(240)
    thread.join()


def test_events_of_one_pod_tell_its_story_in_order(api):
    create(api, manifest("told", "true"))
    finished(api, "told")
    events = api.list_namespaced_event("default", field_selector="involvedObject.name=told").items
    assert [event.reason for event in events] == ["Scheduled", "Pulled", "Created", "Started"]
    assert events[-1].involved_object.field_path == "spec.containers{base}"


def test_a_secret_keeps_text_as_base64(api):
    name = api.create_namespaced_secret(
        "default", {"metadata": {"generateName": "s-"}, "stringData": {"password": "p"}}
    ).metadata.name
    assert api.read_namespaced_secret(name, "default").data == {"password": "cA=="}
    api.delete_namespaced_secret(name, "default")
    assert refusal(lambda: api.read_namespaced_secret(name, "default"))[0] == 404
