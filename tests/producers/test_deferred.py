"""What a trigger takes over from the worker, and how it writes when Airflow is away."""

import asyncio
import contextlib
import inspect
from types import SimpleNamespace

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, TaskStatesResult, XComResult
from kubernetes_asyncio.client import ApiException
from virtual_time import run

from dbt_watch.airflow.compat import AirflowFailException
from dbt_watch.airflow.task_instances import TaskKey
from dbt_watch.core.command import Selection
from dbt_watch.core.journal.format import Closed, decode_page, page_key, part_key
from dbt_watch.core.journal.writer import JournalWriter, Publication, Tail
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.results import NodeInfo, NodeResult
from dbt_watch.exceptions import DbtWatchError
from dbt_watch.producers import dbt_trigger
from dbt_watch.producers.dbt_trigger import END, pack, unpack
from dbt_watch.producers.journal_publisher import AsyncJournalPublisher
from dbt_watch.producers.journal_store import JournalStore
from dbt_watch.producers.pods import trigger as deferred
from dbt_watch.producers.pods.operator import producer_class
from dbt_watch.producers.pods.trigger import DbtPodTrigger
from dbt_watch.producers.retry_state import Memory

INNER = (
    "airflow.providers.cncf.kubernetes.triggers.pod.KubernetesPodTrigger",
    {
        "pod_name": "dbt",
        "pod_namespace": "default",
        "trigger_start_time": None,
        "base_container_name": "base",
    },
)


def test_a_trigger_can_be_made_again_from_what_it_serializes():
    trigger = DbtPodTrigger(
        inner=INNER, nodes=pack({}, StaleSources()), attempt=2, will_retry=True, began=1.5, deadline=None
    )
    path, arguments = trigger.serialize()
    assert path == f"{DbtPodTrigger.__module__}.{DbtPodTrigger.__qualname__}"
    assert DbtPodTrigger(**arguments).serialize() == (path, arguments)
    assert trigger._stock.pod == ("dbt", "default")


@pytest.mark.parametrize(("status", "is_kept"), [(401, False), (404, True), (500, True)])
def test_the_operators_hook_is_kept_until_its_credentials_are_refused(status, is_kept):
    trigger = DbtPodTrigger(
        inner=INNER, nodes=pack({}, StaleSources()), attempt=1, will_retry=True, began=1.5
    )
    hook = trigger._stock.hook

    @contextlib.asynccontextmanager
    async def refuse():
        yield
        raise ApiException(status=status)

    hook.get_conn = refuse

    async def connect():
        async with trigger.connect():
            pass

    with pytest.raises(ApiException):
        asyncio.run(connect())
    assert (trigger._stock.hook is hook) is is_kept


def test_nodes_survive_the_way_and_take_little_room(graph):
    stale = StaleSources({"source.shop.raw.orders": ("model.jaffle_shop.orders",)}, "skip")
    drift = Drift(("model.shop.done",), "fail")
    empty = NodeInfo("empty", "model", "table", is_empty=True)
    packed = unpack(pack({**graph.nodes, "model.shop.empty": empty}, stale, drift))
    nodes = packed.nodes
    assert (packed.stale, packed.drift) == (stale, drift)
    assert nodes.pop("model.shop.empty") == empty
    assert set(nodes) == set(graph.nodes)
    for unique_id, node in graph.nodes.items():
        assert nodes[unique_id] == NodeInfo(
            node.name, node.resource_type, node.materialized or "", node.depends_on, node.is_empty
        )


def test_thousands_of_nodes_take_little_room():
    nodes = {
        f"model.shop.some_model_{number}": NodeInfo(
            f"some_model_{number}", "model", "table", (f"model.shop.some_model_{number // 2}",)
        )
        for number in range(5_000)
    }
    assert len(pack(nodes, StaleSources())) < 30 * len(nodes)


class Store:
    """XCom, as a publisher sees it in a triggerer; it can be told to fail."""

    def __init__(self, failures=0):
        self.pages = {}
        self.failures = failures

    async def push(self, key, value):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("api-server is away")
        self.pages[key] = value


@pytest.fixture
def writer():
    writer = JournalWriter(attempt=1)
    writer.add([NodeResult(unique_id="model.shop.a", name="a", status="success")])
    return writer


def test_a_journal_is_gone_on_with_at_the_page_that_comes_next(writer):
    store = Store()
    publisher = AsyncJournalPublisher(Publication(writer, will_retry=True, tail=Tail(next_seq=7)), store.push)
    asyncio.run(publisher.write())
    assert list(store.pages) == [page_key(8), page_key(7)]
    page = decode_page(store.pages[page_key(7)])
    assert (page.chunk.seq, page.began) == (7, 0.0)


def test_a_journal_of_another_version_is_begun_anew(writer, monkeypatch):
    store = Store()
    store.pages[part_key(0)] = '{"chunk": {"kind": "dbt_watch.journal", "version": 1}}'

    async def read(_, name):
        return store.pages.get(name)

    async def write(_, name, value):
        store.pages[name] = value

    monkeypatch.setattr("dbt_watch.producers.journal_store.write_xcom", write)
    monkeypatch.setattr("dbt_watch.producers.journal_store.read_xcom", read)
    trigger = DbtPodTrigger(
        inner=INNER, nodes=pack({}, StaleSources()), attempt=1, will_retry=True, began=1.5
    )
    written = run(trigger._read_back(JournalStore(None)))
    asyncio.run(
        AsyncJournalPublisher(Publication(writer, will_retry=True, tail=written.tail), store.push).write()
    )
    again = run(trigger._read_back(JournalStore(None)))
    assert list(again.state.entries) == ["model.shop.a"]


def test_in_a_triggerer_a_failing_write_loses_nothing(writer, monkeypatch):
    monkeypatch.setattr("dbt_watch.core.journal.writer.BACKOFF_FIRST", 0.01)
    store = Store(failures=3)
    publisher = AsyncJournalPublisher(Publication(writer, will_retry=True, tail=Tail()), store.push)
    asyncio.run(publisher.write())
    assert not store.pages
    writer.close(0)
    assert asyncio.run(publisher.finish())
    first, last = (decode_page(store.pages[page_key(number)]) for number in (0, 1))
    assert [change.name for change in first.chunk.changes] == ["a"]
    assert last.chunk.closed.exit_code == 0


def test_in_a_triggerer_it_waits_as_long_after_a_failure_and_gives_up_as_well(writer, monkeypatch, caplog):
    now, slept = [100.0], []

    async def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("dbt_watch.producers.journal_publisher.asyncio.sleep", sleep)
    publisher = AsyncJournalPublisher(
        Publication(writer, will_retry=True, clock=lambda: now[0]), Store(failures=10**9).push
    )
    assert not asyncio.run(publisher.finish(patience=20))
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0, 4.5]
    assert "api-server is away" in caplog.text


class Pods:
    """The API, as far as a trigger deletes its pod with it."""

    def __init__(self, status=None):
        self.status, self.deleted = status, []

    async def delete_namespaced_pod(self, name, namespace, **options):
        self.deleted.append((name, namespace, options))
        if self.status is not None:
            raise ApiException(status=self.status)


@pytest.fixture
def trigger_of(monkeypatch):
    """Make a trigger whose calls for the cluster go to `pods`."""

    def make(pods, **arguments):
        @contextlib.asynccontextmanager
        async def connect():
            yield pods

        async def read_state(_):
            return "failed"

        monkeypatch.setattr(dbt_trigger, "read_state", read_state)
        monkeypatch.setattr(deferred, "CoreV1Api", lambda connection: connection)
        trigger = DbtPodTrigger(
            inner=(INNER[0], {**INNER[1], **arguments}),
            nodes=pack({}, StaleSources()),
            attempt=1,
            will_retry=True,
            began=1.5,
        )
        trigger.connect = connect
        trigger.task_instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="dbt_build", map_index=-1)
        return trigger

    return make


@pytest.mark.parametrize(
    ("arguments", "deleted"),
    [
        ({}, [("dbt", "default", {})]),
        ({"on_kill_action": "delete_pod"}, [("dbt", "default", {})]),
        ({"termination_grace_period": 0}, [("dbt", "default", {"grace_period_seconds": 0})]),
        ({"on_kill_action": "keep_pod"}, []),
    ],
)
def test_when_the_task_is_stopped_the_pod_is_deleted_unless_it_is_to_be_kept(trigger_of, arguments, deleted):
    if not arguments.keys() <= inspect.signature(KubernetesPodTrigger).parameters.keys():
        pytest.skip("the trigger of this provider is not told")
    pods = Pods()
    trigger = trigger_of(pods, **arguments)
    asyncio.run(trigger.on_kill())
    assert pods.deleted == deleted


@pytest.mark.parametrize(("status", "is_told"), [(404, False), (403, True), (500, True)])
def test_a_pod_that_cannot_be_deleted_is_told_of_unless_it_has_gone(trigger_of, status, is_told):
    trigger, told = trigger_of(Pods(status)), []
    trigger._log = SimpleNamespace(info=lambda *_: None, exception=lambda *told_of: told.append(told_of))
    asyncio.run(trigger.on_kill())
    assert bool(told) is is_told


def test_a_pod_is_deleted_though_the_triggerer_does_not_wait_for_a_slow_cluster(trigger_of):
    class Slow(Pods):
        async def delete_namespaced_pod(self, *args, **options):
            await asyncio.sleep(5)
            await super().delete_namespaced_pod(*args, **options)

    pods = Slow()
    trigger = trigger_of(pods)

    async def stop():
        killing = asyncio.ensure_future(trigger.on_kill())
        await asyncio.sleep(1)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        assert not pods.deleted
        await asyncio.sleep(5)

    run(stop())
    assert pods.deleted == [("dbt", "default", {})]
    assert not dbt_trigger._STOPPING


STATES = {
    "failed": ("failed", True),
    "cleared": (None, True),
    "cleared, and queued again": ("queued", True),
    "still deferred": ("deferred", False),
    "no answer": (ConnectionError("no answer"), False),
}


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("tells_of_kills", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_a_cancelled_trigger_deletes_the_pod_only_where_the_task_was_stopped(
    trigger_of, monkeypatch, state, tells_of_kills, is_over
):
    """Airflow 3.3 cancels a trigger that another triggerer has taken over as if a person had stopped the task."""
    answer, is_stopped = STATES[state]
    asked = []

    async def read_state(key):
        asked.append(key)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel():
        if tells_of_kills:
            await trigger.on_kill()
        await trigger.cleanup()

    pods = Pods()
    trigger = trigger_of(pods)
    monkeypatch.setattr(dbt_trigger, "read_state", read_state)
    monkeypatch.setattr(dbt_trigger, "TELLS_TRIGGERS_OF_KILLS", tells_of_kills)
    trigger._is_over = is_over
    asyncio.run(cancel())
    assert bool(pods.deleted) is (is_stopped and not is_over)
    assert all(key == TaskKey("dag", "run", "dbt_build") for key in asked)


@pytest.mark.parametrize(
    ("end", "status", "message", "failure"),
    [
        (Closed(0), "success", "dbt ended with exit code 0", []),
        (Closed(1), "failed", "dbt ended with exit code 1", ["model orders: error: no such column"]),
        (
            Closed(None, "the pod was deleted"),
            "failed",
            "the pod was deleted",
            ["model orders: error: no such column", "besides: dbt stopped early"],
        ),
    ],
)
def test_an_end_that_another_triggerer_has_written_is_told_without_the_pod(
    trigger_of, monkeypatch, end, status, message, failure
):
    failed = NodeResult(
        unique_id=ORDERS, name="orders", resource_type="model", status="error", message="no such column"
    )

    async def read_back(store):
        assert store._key == TaskKey("dag", "run", "dbt_build")
        entries = {} if end.exit_code == 0 else {ORDERS: failed}
        return SimpleNamespace(state=SimpleNamespace(closed=end, entries=entries))

    monkeypatch.setattr(JournalStore, "read_back", read_back)
    assert asyncio.run(trigger_of(Pods())._event()) == {
        "status": status,
        "name": "dbt",
        "namespace": "default",
        "message": message,
        END: {"exit_code": end.exit_code, "reason": end.reason, "summary": "", "failure": failure},
    }


def test_a_journal_that_cannot_be_read_is_asked_for_again_later_and_later(trigger_of, monkeypatch):
    slept, answers = [], [ConnectionError("no answer")] * 6

    async def sleep(seconds):
        slept.append(seconds)

    class Failing:
        async def read_back(self):
            if answers:
                raise answers.pop()
            return "journal"

    monkeypatch.setattr(dbt_trigger.asyncio, "sleep", sleep)
    assert asyncio.run(trigger_of(Pods())._read_back(Failing())) == "journal"
    assert slept == [1, 2, 4, 8, 15, 15]


ORDERS = "model.jaffle_shop.orders"


class EndedPod(KubernetesPodOperator):
    """The operator, when its pod has ended well and is cleaned up."""

    def trigger_reentry(self, context, event):
        return "pushed by the pod"


@pytest.fixture
def resume(graph, monkeypatch):
    """Let an attempt in which dbt has built a node well go on after its deferral, when the node's sensor is in a state."""

    def resume(attempt, state, exit_code=0, memory=None, failure=None):
        store, writer = Store(), JournalWriter(attempt=attempt)
        writer.add([NodeResult(unique_id=ORDERS, name="orders", status="success")])
        writer.close(exit_code)
        asyncio.run(AsyncJournalPublisher(Publication(writer, will_retry=False), store.push).finish())

        def send(message):
            if isinstance(message, GetXCom):
                return XComResult(key=message.key, value=store.pages.get(message.key))
            return TaskStatesResult(task_states={"run": dict.fromkeys(message.task_ids, state)})

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
        producer = producer_class(EndedPod)(
            task_id="dbt_build",
            image="shop:1",
            build={},
            selection=Selection(),
            graph=graph,
            selected=frozenset({ORDERS}),
            watched={"shop.orders": (ORDERS,)},
        )
        ti = SimpleNamespace(
            dag_id="dag", run_id="run", task_id="dbt_build", map_index=-1, try_number=attempt, max_tries=1
        )
        # A trigger of an earlier version tells no more than the first three.
        told = {"exit_code": exit_code, "reason": None, "summary": ""}
        told |= {} if failure is None else {"failure": failure}
        context = {"ti": ti, "task_state_store": memory}
        return producer.trigger_reentry(context, {"status": "success", END: told})

    return resume


class StateStore(dict):
    """Airflow's store of a task's state."""

    set = dict.__setitem__


def test_a_deferred_attempt_that_failed_begins_with_the_first_root_cause(resume, capsys):
    failure = [
        "model orders: error: Database Error",
        "    no such column",
        "not built because of it: 1 node, x",
    ]
    with pytest.raises(DbtWatchError):
        resume(1, "failed", 1, failure=failure)
    lines = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines() if "[error " in line]
    assert [line.partition(" [airflow")[0].rstrip() for line in lines] == failure


@pytest.mark.parametrize("exit_code", [1, None])
def test_a_bad_end_after_a_deferral_takes_back_that_an_earlier_attempt_has_ended_well(resume, exit_code):
    memory = StateStore()
    remembered = Memory({"ti": SimpleNamespace(max_tries=1), "task_state_store": memory})
    resume(1, "success", memory=memory)
    assert remembered.is_done
    with pytest.raises(DbtWatchError):
        resume(2, "success", exit_code, memory)
    assert not remembered.is_done


def test_a_deferred_attempt_fails_over_a_sensor_that_shows_something_else_than_what_dbt_has_done(resume):
    with pytest.raises(
        AirflowFailException, match=r"dbt succeeded, but 1 tasks \(shop.orders\) had already ended"
    ):
        resume(2, "failed")


@pytest.mark.parametrize(
    ("attempt", "state"),
    [(2, "success"), (2, "running"), (2, "deferred"), (2, None), (1, "failed")],
)
def test_a_deferred_attempt_ends_well_over_sensors_that_show_it_or_wait_for_it_or_saw_no_other(
    resume, attempt, state
):
    assert resume(attempt, state) == "pushed by the pod"
