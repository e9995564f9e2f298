"""How both readers read one log, with a client that is scripted: what they ask for, and what they do between two pieces."""

import asyncio
import contextlib
import threading
import time
from types import SimpleNamespace

import pytest
from kubernetes.client import ApiException
from kubernetes.client import models as k8s
from kubernetes_asyncio.client import ApiException as AsyncApiException

from dbt_watch.producers.pods import async_log_reader, log_following, log_reader
from dbt_watch.producers.pods.async_log_reader import AsyncPodLogReader
from dbt_watch.producers.pods.container_end import ContainerEnd
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.log_reader import PodLogReader

REQUEST = {
    "name": "dbt", "namespace": "shop", "container": "base", "timestamps": True, "_preload_content": False,
    "_request_timeout": (30.0, 60.0),
}  # fmt: skip


def line(number):
    return f"2026-11-21T10:00:00.{number:09d}Z line {number}\n".encode()


def pod(exit_code=None, **state):
    """Return the pod as it is read, by default while its container runs."""
    if exit_code is not None:
        state["terminated"] = k8s.V1ContainerStateTerminated(exit_code=exit_code, reason="Error")
    elif not state:
        state["running"] = k8s.V1ContainerStateRunning()
    status = k8s.V1ContainerStatus(
        name="base",
        state=k8s.V1ContainerState(**state),
        image="",
        image_id="",
        ready=False,
        restart_count=0,
    )
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="dbt", namespace="shop"),
        status=k8s.V1PodStatus(phase="Running", container_statuses=[status]),
    )


class Response:
    """A stream of the log: pieces of bytes, functions that are called when it comes to them, and errors."""

    def __init__(self, pieces):
        self.pieces = pieces
        self.left = None

    def stream(self, *, amt, decode_content):
        assert (amt, decode_content) == (None, True)
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            if callable(piece):
                piece()
            else:
                yield piece

    def close(self):
        self.left = "closed"

    def release_conn(self):
        self.left = "released"


class OnAWorker:
    """A reader on a worker, whose API answers from lists; the last answer is given for ever."""

    def __init__(self, *streams, pods=None):
        self.responses = [stream if isinstance(stream, Exception) else Response(stream) for stream in streams]
        self.pods = pods or [pod(3)]
        self.asked = []
        self.told = []
        self.ticks = 0
        self.on_tick = lambda: None
        self.position = Position()
        self.thread = None
        self.reader = PodLogReader(
            SimpleNamespace(read_namespaced_pod_log=self.open),
            self.read_pod,
            pod(),
            "base",
            position=self.position,
            on_lines=lambda lines, is_new: self.told.append((lines, is_new)),
            on_tick=self.tick,
            rest_timeout=0.0,
        )

    def open(self, **request):
        self.thread = threading.current_thread()
        self.asked.append(request)
        number = min(len(self.asked), len(self.responses)) - 1
        response = self.responses[number]
        if isinstance(response, Exception):
            raise response
        return response

    def read_pod(self, asked_for):
        if (asked_for and asked_for.metadata.name) != "dbt":
            pytest.fail("it asks for another pod")
        if len(self.asked) > 20:
            pytest.fail("it goes on for ever")
        return self.pods.pop(0) if len(self.pods) > 1 else self.pods[0]

    def tick(self):
        self.ticks += 1
        self.on_tick()


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    monkeypatch.setattr(log_reader, "TICK", 0.01)
    monkeypatch.setattr(log_following, "REST_TIMEOUT", 0.05)
    for name, module in (
        ("RECONNECT_FIRST", log_following),
        ("RECONNECT_LIMIT", log_following),
        ("RECONNECT_LIMIT", async_log_reader),
        ("STARTED_POLL_S", async_log_reader),
    ):
        monkeypatch.setattr(module, name, 0.001)


def test_the_whole_log_is_read_and_then_its_rest():
    worker = OnAWorker([line(1), line(2) + line(3)[:20], line(3)[20:]], [line(3), line(4)[:-1]])
    assert worker.reader.follow() == ContainerEnd(3)
    assert worker.told == [
        ([b"line 1"], True), ([b"line 2"], True), ([b"line 3"], True), ([b"line 3"], False), ([b"line 4"], True)
    ]  # fmt: skip
    assert worker.asked[0] == {**REQUEST, "follow": True}
    assert worker.asked[1] == {**REQUEST, "follow": False, "since_seconds": worker.asked[1]["since_seconds"]}
    assert [response.left for response in worker.responses] == ["released"] * 2
    assert worker.thread.daemon, "it would keep a task that is broken off from ending"


def test_an_attempt_is_called_after_each_piece_and_while_there_is_none():
    here = threading.Event()
    worker = OnAWorker([line(1), line(2), here.wait, line(3)], [])
    seen = []

    def tick():
        seen.append(len(worker.told))
        if seen.count(2) >= 4:
            here.set()

    worker.on_tick = tick
    assert worker.reader.follow() == ContainerEnd(3)
    assert {1, 2, 3} <= set(seen)
    assert seen.count(2) >= 4


@pytest.mark.parametrize("error", [ConnectionError("reset"), ApiException(status=500)])
def test_a_stream_that_is_cut_or_refused_is_read_on(error):
    worker = OnAWorker([line(1), error], error, [line(1), line(2)], [], pods=[pod(), pod(), pod(0)])
    assert worker.reader.follow() == ContainerEnd(0)
    assert worker.told == [([b"line 1"], True), ([b"line 1"], False), ([b"line 2"], True)]
    assert worker.responses[0].left == "released"


def test_the_rest_of_a_log_is_tried_for_as_long_as_was_asked_for():
    worker = OnAWorker([line(1)], ConnectionError("reset"))
    assert worker.reader.follow() == ContainerEnd(3)
    assert len(worker.asked) <= 3


@pytest.mark.parametrize("streams", [[ApiException(status=401)], [[ApiException(status=401)]]])
def test_credentials_that_have_expired_are_for_the_caller(streams):
    with pytest.raises(ApiException):
        OnAWorker(*streams).reader.follow()


def test_a_task_goes_on_while_the_reader_waits_for_its_next_try(monkeypatch):
    now, seen = [100.0], []

    def sleep(seconds):
        seen.append(seconds)
        now[0] += seconds

    for module in (log_following, log_reader):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(log_reader, "TICK", 0.1)
    monkeypatch.setattr(log_following, "RECONNECT_FIRST", 0.45)
    worker = OnAWorker([line(1)], [], pods=[pod(), pod(0)])
    ticks = []
    worker.on_tick = lambda: ticks.append(now[0])
    worker.reader.follow()
    assert seen == [0.1] * 5
    assert [tick for tick in ticks if tick > 100.0] == pytest.approx([100.1, 100.2, 100.3, 100.4])


def test_who_breaks_off_waits_for_nothing_and_the_connection_is_closed_with_the_next_piece():
    class BrokenOffError(Exception):
        pass

    here = threading.Event()
    worker = OnAWorker([line(1), here.wait, line(2), line(3)])

    def break_off():
        if worker.told:
            raise BrokenOffError

    worker.on_tick = break_off
    with pytest.raises(BrokenOffError):
        worker.reader.follow()
    assert worker.responses[0].left is None
    here.set()
    worker.thread.join(240)
    assert not worker.thread.is_alive()
    assert worker.responses[0].left == "closed"
    assert worker.told == [([b"line 1"], True)]


def test_a_log_that_comes_faster_than_it_is_read_waits_and_is_not_kept_in_memory():
    read, go_on = [], threading.Event()
    pieces = [piece for number in range(1_000) for piece in (lambda: read.append(1), line(number))]
    worker = OnAWorker(pieces, [])
    worker.on_tick = lambda: go_on.wait(240)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(worker.reader.follow()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 240
    while len(read) < 258:  # one is looked at, 256 wait, and one has no place
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(1.2)  # longer than a try to find a place takes
    assert len(read) == 258
    go_on.set()
    thread.join(240)
    assert ended == [ContainerEnd(3)]
    assert [text for lines, _ in worker.told for text in lines] == [
        f"line {number}".encode() for number in range(1_000)
    ]


def test_a_stream_that_has_no_place_for_its_next_piece_ends_when_nobody_reads_it_any_more():
    class BrokenOffError(Exception):
        pass

    read = []
    pieces = [piece for number in range(1_000) for piece in (lambda: read.append(1), line(number))]
    worker = OnAWorker(pieces)

    def break_off():
        deadline = time.monotonic() + 240
        while len(read) < 258:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        raise BrokenOffError

    worker.on_tick = break_off
    with pytest.raises(BrokenOffError):
        worker.reader.follow()
    worker.thread.join(240)
    assert not worker.thread.is_alive()
    assert worker.responses[0].left == "closed"


class AsyncResponse:
    """A stream of the log, as the asynchronous client has it."""

    def __init__(self, pieces, status=200):
        self.pieces = pieces
        self.status = status
        self.is_closed = False
        self.content = SimpleNamespace(iter_any=self._iter_any)

    async def _iter_any(self):
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def text(self):
        return "x" * 300

    def close(self):
        self.is_closed = True


class InATriggerer:
    """A reader in a triggerer, likewise."""

    def __init__(self, *responses, pods=None, events=()):
        self.responses = responses
        self.pods = pods or [pod(), pod(3)]
        self.happened = events
        self.asked = []
        self.told = []
        self.opened = self.closed = 0

    @contextlib.asynccontextmanager
    async def connect(self):
        self.opened += 1
        if self.opened > 20:
            pytest.fail("it goes on for ever")
        try:
            yield self
        finally:
            self.closed += 1

    async def read_namespaced_pod_log(self, **request):
        self.asked.append(request)
        return self.responses[min(len(self.asked), len(self.responses)) - 1]

    async def read_namespaced_pod(self, name, namespace):
        if (name, namespace) != ("dbt", "shop"):
            pytest.fail("it asks for another pod")
        return self.pods.pop(0) if len(self.pods) > 1 else self.pods[0]

    async def list_namespaced_event(self, namespace, **how):
        self.asked.append((namespace, how))
        if isinstance(self.happened, Exception):
            raise self.happened
        return SimpleNamespace(items=self.happened)

    def read(self, what="follow", beside=None):
        """Have a reader follow the log, or read the events of the pod; `beside` runs meanwhile."""

        async def scene():
            self.reader = AsyncPodLogReader(
                self.connect,
                "dbt",
                "shop",
                "base",
                position=Position(),
                on_lines=lambda lines, is_new: self.told.append((lines, is_new)),
            )
            other = asyncio.ensure_future(beside()) if beside else None
            found = await getattr(self.reader, what)()
            if other:
                other.cancel()
            return found

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(async_log_reader, "CoreV1Api", lambda connection: connection)
            return asyncio.run(scene())


def test_in_a_triggerer_the_whole_log_is_read_and_then_its_rest():
    responses = AsyncResponse([line(1), line(2)[:-1]]), AsyncResponse([line(2), line(3)])
    triggerer = InATriggerer(*responses)
    assert triggerer.read() == ContainerEnd(3)
    assert triggerer.told == [
        ([b"line 1"], True), ([b"line 2"], True), ([b"line 2"], False), ([b"line 3"], True)
    ]  # fmt: skip
    assert triggerer.asked[0] == {**REQUEST, "follow": True}
    since = triggerer.asked[1]["since_seconds"]
    assert triggerer.asked[1] == {**REQUEST, "follow": False, "since_seconds": since}
    assert all(response.is_closed for response in responses)
    assert triggerer.opened == triggerer.closed
    assert triggerer.reader.pod is triggerer.pods[0]


def test_in_a_triggerer_no_pod_is_known_before_it_was_read():
    triggerer = InATriggerer(events=[])
    triggerer.read("events")
    assert triggerer.reader.pod is None


def test_in_a_triggerer_a_stream_that_is_cut_is_closed_and_read_on():
    cut = AsyncResponse([line(1), line(2)[:-3], ConnectionError("reset")])
    triggerer = InATriggerer(
        cut, AsyncResponse([line(1), line(2)]), AsyncResponse([]), pods=[pod(), pod(), pod(0)]
    )
    assert triggerer.read() == ContainerEnd(0)
    assert triggerer.told == [([b"line 1"], True), ([b"line 1"], False), ([b"line 2"], True)]
    assert cut.is_closed


@pytest.mark.parametrize(
    ("status", "is_read"), [(199, False), (200, True), (299, True), (300, False), (404, False)]
)
def test_in_a_triggerer_what_came_instead_of_a_log_is_not_taken_for_one(status, is_read):
    triggerer = InATriggerer(AsyncResponse([line(1)], status), AsyncResponse([]))
    assert triggerer.read() == ContainerEnd(3)
    assert triggerer.told == ([([b"line 1"], True)] if is_read else [])


def test_in_a_triggerer_an_answer_that_is_no_log_is_an_error_with_its_status_and_words():
    async def check():
        await async_log_reader._check(AsyncResponse([], 403))

    with pytest.raises(AsyncApiException) as caught:
        asyncio.run(check())
    assert (caught.value.status, caught.value.reason) == (403, "x" * 200)


def test_in_a_triggerer_a_long_log_keeps_no_other_trigger_waiting():
    triggerer = InATriggerer(AsyncResponse([line(number) for number in range(50)]), AsyncResponse([]))
    seen = set()

    async def other():
        while True:
            seen.add(len(triggerer.told))
            await asyncio.sleep(0)

    triggerer.read(beside=other)
    assert seen >= set(range(1, 50))


@pytest.mark.parametrize(
    ("happened", "told"), [(["a", "b"], ["a", "b"]), (None, ()), (ConnectionError("away"), ())]
)
def test_in_a_triggerer_what_happened_to_a_pod_is_told_if_that_can_be_read(happened, told):
    triggerer = InATriggerer(events=happened)
    assert triggerer.read("events") == told
    how = {"field_selector": "involvedObject.name=dbt", "_request_timeout": 30.0}
    assert triggerer.asked == [("shop", how)]
