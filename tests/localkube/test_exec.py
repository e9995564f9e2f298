"""Exec through both official clients: streams, exit codes, and whose processes it sees."""

from __future__ import annotations

import asyncio
import json

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from kubernetes_asyncio import client as async_client
from kubernetes_asyncio import config as async_config
from kubernetes_asyncio import watch
from kubernetes_asyncio.stream import WsApiClient

from .conftest import container, create, eventually, manifest, running


def connect(api, name, command, *, stdin=False, **more):
    return stream(
        api.connect_get_namespaced_pod_exec,
        name,
        "default",
        command=command,
        stdin=stdin,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
        **more,
    )


@pytest.fixture
def pod(api):
    create(api, manifest("host", container("sleep 600", env=[{"name": "COLOR", "value": "red"}])))
    running(api, "host")
    return "host"


def test_streams_and_exit_code_arrive_apart(api, pod):
    response = connect(api, pod, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    response.run_forever(timeout=240)
    assert response.read_stdout() == "out\n"
    assert response.read_stderr() == "err\n"
    assert response.returncode == 3


def test_stdin_reaches_the_process(api, pod):
    response = connect(api, pod, ["head", "-n", "1"], stdin=True)
    response.write_stdin("typed\n")
    response.run_forever(timeout=240)
    assert response.read_stdout() == "typed\n"
    assert response.returncode == 0


def test_the_end_of_stdin_reaches_the_process_too(api, pod):
    response = connect(api, pod, ["cat"], stdin=True)
    if not hasattr(response, "close_channel"):
        pytest.skip("this version of the client cannot close stdin")
    response.close_channel(0)
    response.run_forever(timeout=240)
    assert response.returncode == 0


def test_it_has_the_environment_of_the_container(api, pod):
    response = connect(api, pod, ["sh", "-c", "echo $COLOR $(hostname)"])
    response.run_forever(timeout=240)
    assert response.read_stdout() == "red host\n"


def test_it_sees_the_processes_of_its_container_only(api, pod):
    response = connect(
        api, pod, ["sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; echo; ls -d /proc/[0-9]* | wc -l"]
    )
    response.run_forever(timeout=240)
    first, count = response.read_stdout().splitlines()
    assert first.strip() == "sh -c sleep 600"
    assert int(count) < 10


def test_a_program_that_is_not_there_is_told(api, pod):
    response = connect(api, pod, ["no-such-program"])
    response.run_forever(timeout=240)
    status = json.loads(response.read_channel(3))
    assert status["status"] == "Failure"
    assert "executable file not found" in status["message"]


def test_a_megabyte_comes_through(api, pod):
    response = connect(api, pod, ["sh", "-c", "head -c 1048576 /dev/zero | tr '\\0' x"])
    response.run_forever(timeout=240)
    assert response.read_stdout() == "x" * 1048576


def test_a_container_that_has_ended_takes_no_exec(api):
    create(api, manifest("over", "true", container("sleep 600", "other")))

    def one_has_ended():
        states = api.read_namespaced_pod("over", "default").status.container_statuses or []
        return any(state.state.terminated for state in states)

    eventually(one_has_ended)
    # Some versions of the client stumble over the refusal of a websocket, which has no body for them.
    with pytest.raises((ApiException, AttributeError)) as raised:
        connect(api, "over", ["true"], container="base")
    assert "container not found" in f"{raised.value} {raised.value.__context__}"


def test_the_asyncio_client_runs_commands_too(kube, pod):
    async def execute() -> str:
        await async_config.load_kube_config(str(kube.kubeconfig))
        async with WsApiClient() as connection:
            answer = await async_client.CoreV1Api(connection).connect_get_namespaced_pod_exec(
                pod,
                "default",
                command=["sh", "-c", "echo async; exit 2"],
                stdin=False,
                stdout=True,
                stderr=True,
                tty=False,
            )
            return str(answer)

    assert asyncio.run(execute()) == "async\n"


@pytest.mark.usefixtures("api")
def test_the_asyncio_client_watches_and_follows(kube):
    async def follow() -> list[str]:
        configuration = async_client.Configuration()
        await async_config.load_kube_config(str(kube.kubeconfig), client_configuration=configuration)
        async with async_client.ApiClient(configuration) as connection:
            core = async_client.CoreV1Api(connection)
            await core.create_namespaced_pod("default", manifest("async", "echo one; sleep 0.1; echo two"))
            async with watch.Watch() as events:
                async for event in events.stream(
                    core.list_namespaced_pod,
                    "default",
                    field_selector="metadata.name=async",
                    timeout_seconds=240,
                ):
                    if event["object"].status.phase != "Pending":
                        break
            async with watch.Watch() as lines:
                return [line async for line in lines.stream(core.read_namespaced_pod_log, "async", "default")]

    assert [line.strip() for line in asyncio.run(follow())] == ["one", "two"]
