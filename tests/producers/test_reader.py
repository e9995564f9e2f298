"""The log reader, with the official client against a Kubernetes API: whole, cut, late and lost logs."""

import asyncio
import contextlib
import random
import sys
import threading

import pytest
from harness import until
from kubernetes import client, config
from kubernetes.client import models as k8s
from kubernetes_asyncio import client as async_client
from kubernetes_asyncio import config as async_config

from dbt_watch.local.localkube import Image, LocalKube
from dbt_watch.producers.pods import log_following
from dbt_watch.producers.pods.async_log_reader import AsyncPodLogReader
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.log_reader import PodLogReader

NAMESPACE = "default"
# So many connections to a bad proxy are cut before they can have brought all that the log of a test has.
SOON = 5


@pytest.fixture(scope="module")
def kube():
    with LocalKube(images={"python:3": Image(venv=sys.prefix)}) as kube:
        yield kube


@pytest.fixture
def api(kube):
    return client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))


@pytest.fixture
def start(api):
    """Start a pod that runs a Python script."""
    pods = []

    def start(script):
        spec = k8s.V1PodSpec(
            restart_policy="Never",
            termination_grace_period_seconds=0,
            containers=[
                k8s.V1Container(name="base", image="python:3", command=["python", "-u", "-c", script])
            ],
        )
        body = k8s.V1Pod(metadata=k8s.V1ObjectMeta(generate_name="reader-"), spec=spec)
        pod = api.create_namespaced_pod(NAMESPACE, body)
        pods.append(pod.metadata.name)
        until(
            lambda: api.read_namespaced_pod(pod.metadata.name, NAMESPACE).status.phase != "Pending",
            "the pod does not start",
            pause=0.05,
        )
        return pod

    yield start
    for name in pods:
        with contextlib.suppress(client.ApiException):
            api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)


class Reading:
    """A reader and what it has handed over."""

    def __init__(self, api, pod, position=None):
        self.new = []
        self.again = []
        self.reader = PodLogReader(
            api,
            lambda pod: api.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace),
            pod,
            "base",
            position=position or Position(),
            on_lines=lambda lines, is_new: (self.new if is_new else self.again).extend(lines),
            on_tick=lambda: None,
        )

    def follow(self):
        return self.reader.follow()


COUNT = "import time\nfor n in range({count}):\n    print('line', n)\n    time.sleep({pause})\nraise SystemExit({code})"


def expected(count):
    return [f"line {number}".encode() for number in range(count)]


def test_every_line_is_handed_over_once_and_the_exit_code_is_told(api, start):
    reading = Reading(api, start(COUNT.format(count=50, pause=0.01, code=3)))
    end = reading.follow()
    assert reading.new == expected(50)
    assert (end.exit_code, end.reason) == (3, None)


def test_a_line_is_handed_over_when_it_is_written_not_when_the_next_one_is(api, start):
    script = "import time; print('first'); time.sleep(600)"
    pod = start(script)
    reading = Reading(api, pod)
    thread = threading.Thread(target=reading.follow, daemon=True)
    thread.start()
    until(lambda: reading.new, "nothing is handed over", pause=0.02)
    api.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    thread.join(240)
    assert reading.new == [b"first"]
    assert not thread.is_alive()


def test_bytes_of_any_kind_arrive_as_they_were_written(api, start):
    script = (
        "import os\nos.write(1, b'\\xff\\x00\\x1b[31m\\n' + b'y' * 1_000_000 + b'\\n\\n'"
        " + 'a\\u2028b'.encode() + b'\\nlast, without an end')"
    )
    reading = Reading(api, start(script))
    reading.follow()
    assert reading.new == [
        b"\xff\x00\x1b[31m",
        b"y" * 1_000_000,
        b"",
        "a\u2028b".encode(),
        b"last, without an end",
    ]


def test_whoever_breaks_off_does_not_wait_for_the_next_line(api, start):
    class BrokenOffError(Exception):
        pass

    reading = Reading(api, start("import time; print('first'); time.sleep(600)"))
    left = threading.Event()

    def break_off():
        if reading.new:
            raise BrokenOffError

    def follow():
        with contextlib.suppress(BrokenOffError):
            reading.follow()
        left.set()

    reading.reader._on_tick = break_off
    threading.Thread(target=follow, daemon=True).start()
    assert left.wait(log_following.READ_TIMEOUT / 2)


def test_ticks_go_on_while_nothing_is_written(api, start):
    class EnoughError(Exception):
        pass

    def tick():
        ticks.append(1)
        if len(ticks) == 5:
            raise EnoughError

    ticks = []
    reading = Reading(api, start("import time; time.sleep(600)"))
    reading.reader._on_tick = tick
    with pytest.raises(EnoughError):
        reading.follow()


def test_a_deleted_pod_ends_the_reading_with_that_reason(api, start):
    pod = start("import time; print('x'); time.sleep(600)")
    timer = threading.Timer(
        1.0, api.delete_namespaced_pod, (pod.metadata.name, NAMESPACE), {"grace_period_seconds": 0}
    )
    timer.start()
    end = Reading(api, pod).follow()
    assert end.exit_code in {None, 137}
    if end.exit_code is None:
        assert "deleted" in end.reason


def test_another_reader_goes_on_where_the_first_one_left_off(api, start):
    pod = start(COUNT.format(count=30, pause=0.02, code=0))
    position = Position()
    first = Reading(api, pod, position)

    class ExpiredError(Exception):
        pass

    def cut():
        if len(first.new) >= 10:
            raise ExpiredError

    first.reader._on_tick = cut
    with pytest.raises(ExpiredError):
        first.follow()
    second = Reading(api, pod, position)
    second.follow()
    assert first.new + second.new == expected(30)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_cut_at_random_points_loses_and_doubles_nothing(
    api, kube, start, seed, monkeypatch, tmp_path
):
    monkeypatch.setattr(log_following, "RECONNECT_FIRST", 0.05)
    pod = start(COUNT.format(count=300, pause=0.005, code=0))
    with cutting_proxy(kube, random.Random(seed)) as (port, cuts):
        kubeconfig = tmp_path / "config"
        kubeconfig.write_text(kube.kubeconfig.read_text().replace(kube.url, f"https://127.0.0.1:{port}"))
        through_proxy = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        reading = Reading(through_proxy, pod)
        reading.reader._read_pod = lambda pod: api.read_namespaced_pod(pod.metadata.name, NAMESPACE)
        end = reading.follow()
    assert cuts[0] >= SOON
    assert reading.new == expected(300)
    assert end.exit_code == 0


class AsyncReading:
    """The reader of a triggerer, run to its end as the other one is."""

    def __init__(self, kubeconfig, pod):
        self.new = []
        self.again = []
        self._kubeconfig = kubeconfig
        self.reader = AsyncPodLogReader(
            self._connect,
            pod.metadata.name,
            pod.metadata.namespace,
            "base",
            position=Position(),
            on_lines=lambda lines, is_new: (self.new if is_new else self.again).extend(lines),
        )

    @contextlib.asynccontextmanager
    async def _connect(self):
        configuration = async_client.Configuration()
        await async_config.load_kube_config(str(self._kubeconfig), client_configuration=configuration)
        async with async_client.ApiClient(configuration) as connection:
            yield connection

    def follow(self):
        return asyncio.run(asyncio.wait_for(self.reader.follow(), 480))


def test_in_a_triggerer_every_line_is_handed_over_once_too(kube, start):
    reading = AsyncReading(kube.kubeconfig, start(COUNT.format(count=50, pause=0.01, code=3)))
    end = reading.follow()
    assert reading.new == expected(50)
    assert (end.exit_code, end.reason) == (3, None)


def test_in_a_triggerer_a_line_is_handed_over_when_it_is_written(api, kube, start):
    pod = start("import time; print('first'); time.sleep(600)")
    reading = AsyncReading(kube.kubeconfig, pod)
    thread = threading.Thread(target=reading.follow, daemon=True)
    thread.start()
    until(lambda: reading.new, "nothing is handed over", pause=0.02)
    assert reading.reader.started.is_set()
    api.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    thread.join(240)
    assert reading.new == [b"first"]
    assert not thread.is_alive()


def test_in_a_triggerer_a_pod_that_is_not_there_is_an_end(api, kube, start):
    pod = start("pass")
    api.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    with contextlib.suppress(client.ApiException):
        until(
            lambda: not api.read_namespaced_pod(pod.metadata.name, NAMESPACE), "the pod is there", pause=0.05
        )
    end = AsyncReading(kube.kubeconfig, pod).follow()
    assert (end.exit_code, end.reason) == (None, "the pod was deleted")


@pytest.mark.parametrize("seed", range(2))
def test_in_a_triggerer_a_stream_cut_at_random_points_loses_and_doubles_nothing(
    kube, start, seed, monkeypatch, tmp_path
):
    monkeypatch.setattr(log_following, "RECONNECT_FIRST", 0.05)
    pod = start(COUNT.format(count=300, pause=0.005, code=0))
    with cutting_proxy(kube, random.Random(seed)) as (port, cuts):
        kubeconfig = tmp_path / "config"
        kubeconfig.write_text(kube.kubeconfig.read_text().replace(kube.url, f"https://127.0.0.1:{port}"))
        reading = AsyncReading(kubeconfig, pod)
        end = reading.follow()
    assert cuts[0] >= 2
    assert reading.new == expected(300)
    assert end.exit_code == 0


@contextlib.contextmanager
def cutting_proxy(kube, chance):
    """
    Pass connections on to the API and cut each after a random number of bytes: soon at first, so that a log is cut though all of
    it is there when it is asked for, and later and later then.
    """
    cuts = [0]
    target = int(kube.url.rsplit(":", 1)[1].rstrip("/"))
    ready = threading.Event()
    state = {}

    async def pump(reader, writer, budget):
        while data := await reader.read(256):
            writer.write(data)
            await writer.drain()
            budget -= len(data)
            if budget < 0:
                cuts[0] += 1
                break
        writer.close()

    async def connect(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", target)
        ways = [
            pump(reader, back, 10**9),
            pump(there, writer, chance.randint(2_500, 4_000 if cuts[0] < SOON else 6_000 * cuts[0])),
        ]
        tasks = [asyncio.ensure_future(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, back):
            each.transport.abort()
        for task in tasks:
            task.cancel()

    async def serve():
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        state["port"] = server.sockets[0].getsockname()[1]
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await state["stop"].wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(240)
    yield state["port"], cuts
    state["loop"].call_soon_threadsafe(state["stop"].set)
    thread.join(240)
