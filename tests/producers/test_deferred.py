"""What a trigger takes over from the worker, and how it writes when Airflow is away."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from kubernetes_asyncio.client import ApiException

from dbt_watch.airflow.supervisor import SupervisorError
from dbt_watch.core.journal.format import JournalWriter
from dbt_watch.core.journal.pages import Tail, decode_page, page_key, part_key
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.results import NodeInfo, NodeResult
from dbt_watch.producers.journal_pen import AsyncPen, Draft
from dbt_watch.producers.journal_store import JournalStore
from dbt_watch.producers.trigger import DbtPodTrigger, pack, unpack

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


ANSWERS = {
    "failed": ("failed", True),
    "cleared": (None, True),
    "cleared, and queued again": ("queued", True),
    "still deferred": ("deferred", False),
    "no answer": (SupervisorError("500"), False),
}


@pytest.mark.parametrize("tells_of_kills", [True, False])
@pytest.mark.parametrize("state", ANSWERS)
def test_a_cancelled_trigger_deletes_the_pod_only_when_the_task_was_stopped(
    monkeypatch, tells_of_kills, state
):
    """Airflow cancels a trigger in the same way when another triggerer has taken it over."""
    answer, is_deleted = ANSWERS[state]
    deleted = []

    async def read_state(_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def delete(self):
        deleted.append(self._stock.pod)

    monkeypatch.setattr("dbt_watch.producers.trigger.read_state", read_state)
    monkeypatch.setattr("dbt_watch.producers.trigger.TELLS_TRIGGERS_OF_KILLS", tells_of_kills)
    monkeypatch.setattr(DbtPodTrigger, "_delete_pod", delete)
    trigger = DbtPodTrigger(
        inner=INNER, nodes=pack({}, StaleSources()), attempt=1, will_retry=True, began=1.5
    )
    trigger.task_instance = SimpleNamespace(
        dag_id="shop", run_id="one", task_id="shop.dbt_build", map_index=-1
    )

    async def cancel():
        if tells_of_kills:
            await trigger.on_kill()
        await trigger.cleanup()

    asyncio.run(cancel())
    assert deleted == [("dbt", "default")] * is_deleted


def test_nodes_survive_the_way_and_take_little_room(graph):
    stale = StaleSources({"source.shop.raw.orders": ("model.jaffle_shop.orders",)}, "skip")
    drift = Drift(("model.shop.done",), "fail")
    packed = unpack(pack(graph.nodes, stale, drift))
    nodes = packed.nodes
    assert (packed.stale, packed.drift) == (stale, drift)
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
    """XCom, as a pen sees it in a triggerer; it can be told to fail."""

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
    pen = AsyncPen(Draft(writer, will_retry=True, tail=Tail(next_seq=7)), store.push)
    asyncio.run(pen.write())
    assert list(store.pages) == [page_key(8), page_key(7)]
    page = decode_page(store.pages[page_key(7)])
    assert (page.chunk.seq, page.began) == (7, 0.0)


def test_a_journal_of_another_version_is_begun_anew(writer, monkeypatch):
    store = Store()
    store.pages[part_key(0)] = '{"chunk": {"kind": "dbt_watch.journal", "version": 1}}'

    async def read(_, name):
        return store.pages.get(name)

    monkeypatch.setattr("dbt_watch.producers.journal_store.read_xcom", read)
    trigger = DbtPodTrigger(
        inner=INNER, nodes=pack({}, StaleSources()), attempt=1, will_retry=True, began=1.5
    )
    written = asyncio.run(asyncio.wait_for(trigger._read_back(JournalStore(None)), 2))
    asyncio.run(AsyncPen(Draft(writer, will_retry=True, tail=written.tail), store.push).write())
    again = asyncio.run(trigger._read_back(JournalStore(None)))
    assert list(again.state.entries) == ["model.shop.a"]


def test_in_a_triggerer_a_failing_write_loses_nothing(writer, monkeypatch):
    monkeypatch.setattr("dbt_watch.producers.journal_pen.BACKOFF_FIRST", 0.01)
    store = Store(failures=3)
    pen = AsyncPen(Draft(writer, will_retry=True, tail=Tail()), store.push)
    asyncio.run(pen.write())
    assert not store.pages
    writer.close(0)
    assert asyncio.run(pen.finish())
    first, last = (decode_page(store.pages[page_key(number)]) for number in (0, 1))
    assert [change.name for change in first.chunk.changes] == ["a"]
    assert last.chunk.closed.exit_code == 0


def test_in_a_triggerer_it_waits_as_long_after_a_failure_and_gives_up_as_well(writer, monkeypatch, caplog):
    now, slept = [100.0], []

    async def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("dbt_watch.producers.journal_pen.asyncio.sleep", sleep)
    pen = AsyncPen(Draft(writer, will_retry=True, clock=lambda: now[0]), Store(failures=10**9).push)
    assert not asyncio.run(pen.finish(patience=20))
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0, 4.5]
    assert "api-server is away" in caplog.text
