"""What Airflow's KubernetesExecutor asks of an API, by the unmodified clients: watches, label patches, metadata, claims."""

from __future__ import annotations

import asyncio
import contextlib

import kubernetes_asyncio
import pytest
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import LocalKube
from dbt_watch.local.localkube.api import objects
from dbt_watch.local.localkube.store import CONFIG_MAPS, HISTORY, Store

from .conftest import TIMINGS, container, create, eventually, finished, manifest, run

METADATA_ONLY = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
OWNER = "airflow-worker"


def labelled(name, **labels):
    body = manifest(name, "sleep 600", terminationGracePeriodSeconds=0)
    body["metadata"]["labels"] = {label.replace("_", "-"): value for label, value in labels.items()}
    return body


def events_until(api, *, selector, since, end, timeout=240):
    """Return the events of a watch up to the first of some kind."""
    found = []
    watcher = watch.Watch()
    for event in watcher.stream(
        api.list_namespaced_pod,
        "default",
        label_selector=selector,
        resource_version=since,
        timeout_seconds=timeout,
    ):
        found.append(event)
        if event["type"] == end:
            watcher.stop()
    return found


def version_of(api):
    return api.list_namespaced_pod("default").metadata.resource_version


def test_a_pod_that_another_scheduler_adopts_leaves_one_watch_and_comes_into_the_other(api):
    create(api, labelled("adopted", airflow_worker="1"))
    eventually(lambda: api.read_namespaced_pod("adopted", "default").status.phase == "Running")
    since = version_of(api)
    api.patch_namespaced_pod("adopted", "default", {"metadata": {"labels": {OWNER: "2"}}})
    (left,) = events_until(api, selector=f"{OWNER}=1", since=since, end="DELETED")
    (came,) = events_until(api, selector=f"{OWNER}=2", since=since, end="ADDED")
    assert left["object"].metadata.deletion_timestamp is None
    assert left["object"].metadata.labels[OWNER] == "1", "as it was before it left"
    assert came["object"].metadata.labels[OWNER] == "2"
    assert left["object"].metadata.resource_version == came["object"].metadata.resource_version


def test_a_pod_that_is_marked_as_done_leaves_the_watch_that_looks_for_what_is_not(api):
    create(api, labelled("done", airflow_worker="1"))
    since = version_of(api)
    api.patch_namespaced_pod("done", "default", {"metadata": {"labels": {"airflow_executor_done": "True"}}})
    selector = f"{OWNER}=1,airflow_executor_done!=True"
    last = events_until(api, selector=selector, since=since, end="DELETED")[-1]
    assert "airflow_executor_done" not in last["object"].metadata.labels


def test_a_patch_of_labels_and_annotations_leaves_the_others(api):
    body = labelled("patched", airflow_worker="1", tier="a")
    body["metadata"]["annotations"] = {"dag_id": "shop"}
    create(api, body)
    change = {"metadata": {"labels": {OWNER: "2"}, "annotations": {"id": "7"}}}
    api.patch_namespaced_pod("patched", "default", change)
    metadata = api.read_namespaced_pod("patched", "default").metadata
    assert metadata.labels == {OWNER: "2", "tier": "a"}
    assert metadata.annotations == {"dag_id": "shop", "id": "7"}


def test_a_watch_from_the_beginning_gives_what_is_there_and_then_what_comes(api):
    create(api, labelled("first", airflow_worker="7"))
    watcher, seen = watch.Watch(), []
    for event in watcher.stream(
        api.list_namespaced_pod,
        "default",
        label_selector=f"{OWNER}=7",
        resource_version="0",
        timeout_seconds=240,
    ):
        if event["type"] != "ADDED":
            continue
        seen.append(event["object"].metadata.name)
        if seen == ["first"]:
            create(api, labelled("second", airflow_worker="7"))
        else:
            watcher.stop()
    assert seen == ["first", "second"]


def test_a_version_that_is_too_old_is_an_event_with_a_status(api, kube):
    since = version_of(api)
    create(api, labelled("later", airflow_worker="1"))
    kube.forget_history()
    with pytest.raises(ApiException) as raised:
        events_until(api, selector=OWNER, since=since, end="ADDED")
    assert raised.value.status == 410
    assert "too old resource version" in raised.value.reason
    # Who lists again goes on from there.
    since = version_of(api)
    create(api, labelled("again", airflow_worker="1"))
    assert events_until(api, selector=OWNER, since=since, end="ADDED")[-1]["object"].metadata.name == "again"


def test_the_history_is_bounded():
    store = Store()
    oldest = store.version
    for number in range(HISTORY + 1):
        store.create(CONFIG_MAPS, {"metadata": {"namespace": "default", "name": f"c{number}"}})
    with pytest.raises(objects.ApiError) as raised, store.subscribe(oldest):
        pass
    assert raised.value.code == 410
    with store.subscribe(oldest + 1) as queue:
        assert queue.qsize() == HISTORY


async def follow(kube, do, since=None, **query):
    """Watch with kubernetes_asyncio; what it is to see is done once it watches."""
    configuration = kubernetes_asyncio.client.Configuration()
    await kubernetes_asyncio.config.load_kube_config(str(kube.kubeconfig), client_configuration=configuration)
    async with kubernetes_asyncio.client.ApiClient(configuration) as connection:
        core = kubernetes_asyncio.client.CoreV1Api(connection)
        since = since or (await core.list_namespaced_pod("default")).metadata.resource_version
        await do(core)
        async with kubernetes_asyncio.watch.Watch() as watcher:
            async for event in watcher.stream(
                core.list_namespaced_pod, "default", resource_version=since, timeout_seconds=240, **query
            ):
                yield event


def test_the_asynchronous_client_sees_the_same(api, kube):
    create(api, labelled("moved", airflow_worker="1"))
    eventually(lambda: api.read_namespaced_pod("moved", "default").status.phase == "Running")

    async def adopt(core):
        await core.patch_namespaced_pod("moved", "default", {"metadata": {"labels": {OWNER: "2"}}})

    async def first():
        async for event in follow(kube, adopt, label_selector=f"{OWNER}=1"):
            return event["type"], event["object"].metadata.labels[OWNER]
        return None

    assert asyncio.run(first()) == ("DELETED", "1")


def test_the_asynchronous_client_is_told_of_a_version_that_is_too_old(api, kube):
    since = version_of(api)
    create(api, labelled("late", airflow_worker="1"))

    async def forget(core):
        kube.forget_history()
        await asyncio.sleep(0.1)

    async def all_events():
        return [event async for event in follow(kube, forget, since=since)]

    with pytest.raises(kubernetes_asyncio.client.ApiException) as raised:
        asyncio.run(all_events())
    assert raised.value.status == 410


def test_a_list_of_metadata_holds_nothing_else(api):
    create(api, labelled("bare", airflow_worker="9"))
    dynamically = dynamic.DynamicClient(api.api_client)
    pods = dynamically.resources.get(api_version="v1", kind="Pod")
    found = dynamically.get(
        resource=pods,
        namespace="default",
        label_selector=f"{OWNER}=9",
        field_selector="status.phase!=Succeeded",
        header_params=METADATA_ONLY,
    )
    assert found.kind == "PartialObjectMetadataList"
    (item,) = found.items
    assert (item.kind, item.apiVersion) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert item.metadata.name == "bare"
    assert item.to_dict().keys() == {"kind", "apiVersion", "metadata"}


# Claims


@pytest.fixture(scope="module")
def claims(tmp_path_factory):
    found = {name: tmp_path_factory.mktemp(name) for name in ("logs", "dags")}
    (found["dags"] / "shop.py").write_text("pass\n")
    return found


@contextlib.contextmanager
def serving(images, isolation, claims):
    """Serve with claims, and yield a client."""
    kube = LocalKube(images, isolation=isolation, timings=TIMINGS, claims=claims)
    try:
        kube.start()
    except ArgumentError as error:
        pytest.skip(str(error))
    try:
        with config.new_client_from_config(str(kube.kubeconfig)) as connection:
            yield client.CoreV1Api(connection)
    finally:
        kube.stop()


@pytest.fixture(scope="module", params=["namespaces", "none"])
def api_with_claims(request, images, claims):
    with serving(images, request.param, claims) as core:
        yield core


def python(script, *mounts):
    image = "registry.example/python:1"
    mounted = [{"name": name, "mountPath": path, **more} for name, path, more in mounts]
    return container("", image=image, command=["python", "-c", script], volumeMounts=mounted)


def claim(name):
    return {"name": name, "persistentVolumeClaim": {"claimName": name}}


def test_what_a_pod_writes_behind_a_claim_stays_when_it_is_gone(api_with_claims, claims):
    script = "import sys, pathlib; pathlib.Path(sys.argv[1], 'task.log').write_text('done')"
    writer = python(script, ("logs", "/opt/airflow/logs", {}))
    writer["command"].append("/opt/airflow/logs")
    run(api_with_claims, "writer", writer, volumes=[claim("logs")])
    api_with_claims.delete_namespaced_pod("writer", "default")
    assert (claims["logs"] / "task.log").read_text() == "done"


def test_a_part_of_a_claim_is_made_where_it_is_asked_for(api_with_claims, claims):
    script = "import sys, pathlib; pathlib.Path(sys.argv[1], 'a').touch()"
    writer = python(script, ("logs", "/logs", {"subPath": "team/a"}))
    writer["command"].append("/logs")
    run(api_with_claims, "part", writer, volumes=[claim("logs")])
    assert (claims["logs"] / "team/a/a").exists()


def test_a_claim_that_is_not_there_keeps_the_pod_pending(api_with_claims):
    create(api_with_claims, manifest("waits", "true", volumes=[claim("nowhere")]))

    def told():
        conditions = api_with_claims.read_namespaced_pod("waits", "default").status.conditions or []
        return [condition.message for condition in conditions if condition.reason == "Unschedulable"]

    assert 'persistentvolumeclaim "nowhere" not found' in eventually(told)[0]
    api_with_claims.delete_namespaced_pod("waits", "default")
    eventually(
        lambda: (
            "waits" not in {pod.metadata.name for pod in api_with_claims.list_namespaced_pod("default").items}
        )
    )


def test_a_claim_for_reading_cannot_be_written(images, claims):
    with serving(images, "namespaces", claims) as core:
        mount = {"name": "dags", "mountPath": "/opt/airflow/dags", "readOnly": True}
        body = manifest(
            "reader",
            container("cat /opt/airflow/dags/shop.py && touch /opt/airflow/dags/new", volumeMounts=[mount]),
            volumes=[claim("dags")],
        )
        create(core, body)
        assert finished(core, "reader").status.phase == "Failed"
    assert not (claims["dags"] / "new").exists()


def test_a_claim_without_a_directory_is_an_error_at_once(tmp_path):
    with pytest.raises(ArgumentError, match="claims"):
        LocalKube(claims={"logs": tmp_path / "missing"})
