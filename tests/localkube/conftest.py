"""A localkube with namespaces, one without, official clients for both, and pods to try things with."""

from __future__ import annotations

import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import client, config

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube import Image, LocalKube, Mount, Timings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMINGS = Timings(pull_error=0.3, restart=0.05)


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Host directories that the images show: `project` as a copy, `data` shared."""
    base = tmp_path_factory.mktemp("places")
    found = {name: base / name for name in ("project", "data", "programs")}
    for path in found.values():
        path.mkdir()
    (found["project"] / "dbt_project.yml").write_text("name: shop\n")
    return found


@pytest.fixture(scope="session")
def images(places: dict[str, Path]) -> dict[str, Image]:
    mounts = {"/usr/app/shop": str(places["project"]), "/data": Mount(places["data"], shared=True)}
    return {
        "tools": Image(),
        "registry.example/python:1": Image(
            venv=sys.prefix,
            mounts=mounts,
            env={"FROM_IMAGE": "yes"},
            entrypoint=["python"],
            workdir="/usr/app/shop",
        ),
        "programs": Image(directory=places["programs"]),
    }


@pytest.fixture(scope="session")
def kube(images: dict[str, Image]) -> Iterator[LocalKube]:
    """With a PID namespace per container."""
    running = LocalKube(images, isolation="namespaces", timings=TIMINGS)
    try:
        running.start()
    except ArgumentError as error:
        pytest.skip(str(error))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def bare(images: dict[str, Image]) -> Iterator[LocalKube]:
    """Without any namespace."""
    with LocalKube(images, isolation="none", timings=TIMINGS) as running:
        yield running


@pytest.fixture
def api(kube: LocalKube) -> Iterator[client.CoreV1Api]:
    yield from _client(kube)


@pytest.fixture
def bare_api(bare: LocalKube) -> Iterator[client.CoreV1Api]:
    yield from _client(bare)


def _client(kube: LocalKube) -> Iterator[client.CoreV1Api]:
    with config.new_client_from_config(str(kube.kubeconfig)) as connection:
        api = client.CoreV1Api(connection)
        yield api
        for pod in api.list_namespaced_pod("default").items:
            _delete(api, pod.metadata.name)
        eventually(lambda: not api.list_namespaced_pod("default").items)


def _delete(api: client.CoreV1Api, name: str) -> None:
    try:
        api.delete_namespaced_pod(name, "default", grace_period_seconds=0)
    except client.ApiException as error:
        # It may have gone since it was listed.
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def eventually(condition: Callable[[], Any], *, seconds: float = 240.0) -> Any:
    """Return the first truth that the condition gives, or fail."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.01)
    return result


def container(script: str, name: str = "base", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "tools", "command": ["sh", "-c", script], **more}


def manifest(name: str, *containers: dict[str, Any] | str, **spec: Any) -> dict[str, Any]:
    made = [container(each) if isinstance(each, str) else each for each in containers]
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": made, **spec}}


def create(api: client.CoreV1Api, body: dict[str, Any]) -> Any:
    return api.create_namespaced_pod("default", body)


def finished(api: client.CoreV1Api, name: str) -> Any:
    """Wait for the end of a pod and return it."""

    def ended() -> Any:
        pod = api.read_namespaced_pod(name, "default")
        return pod if pod.status.phase in ("Succeeded", "Failed") else None

    return eventually(ended)


def running(api: client.CoreV1Api, name: str) -> Any:
    """Wait until all containers of a pod run."""

    def runs() -> Any:
        pod = api.read_namespaced_pod(name, "default")
        states = pod.status.container_statuses or []
        return pod if states and all(state.state.running for state in states) else None

    return eventually(runs)


def says(api: client.CoreV1Api, name: str, words: bytes) -> None:
    """Wait until the only container of a pod has written some words: a script runs a moment after its container does."""
    running(api, name)
    eventually(lambda: words in log(api, name))


def log(api: client.CoreV1Api, name: str, **query: Any) -> bytes:
    response = api.read_namespaced_pod_log(name, "default", _preload_content=False, **query)
    return bytes(response.data)


def run(api: client.CoreV1Api, name: str, *containers: dict[str, Any] | str, **spec: Any) -> str:
    """Run a pod to its end and return the log of its only container."""
    create(api, manifest(name, *containers, **spec))
    finished(api, name)
    return log(api, name).decode()
