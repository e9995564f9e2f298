"""Subclasses of the operator that make ready in `execute`, and of its trigger in `run`, how the cluster is reached."""

import asyncio
import contextlib
import os
import subprocess
import sys
import types
from types import SimpleNamespace

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger

from dbt_watch.airflow import pod_trigger
from dbt_watch.airflow.execution import executing
from dbt_watch.airflow.pod_operator import template_fields_of
from dbt_watch.airflow.pod_trigger import StockPodTrigger, serialized
from dbt_watch.core.command import Selection
from dbt_watch.exceptions import DbtWatchError
from dbt_watch.producers.pods.operator import DbtPodMixin, Prepared, producer_class

TRIGGER = {
    "pod_name": "dbt",
    "pod_namespace": "default",
    "trigger_start_time": None,
    "base_container_name": "base",
}


CONTEXT = {"ti": SimpleNamespace(try_number=1)}


class OfACloud(KubernetesPodOperator):
    """Has the way to its cluster while `execute` runs, as EksPodOperator has a kubeconfig."""

    refuses = None

    def execute(self, context):
        if self.refuses:
            raise self.refuses
        self.config_file = "kubeconfig"
        try:
            return super().execute(context)
        finally:
            self.config_file = None


@pytest.fixture
def operator(graph, monkeypatch):
    attempt = SimpleNamespace(
        closed=None, watch=None, pod=None, number=1, opened=0, failure=lambda: None, context=CONTEXT
    )
    watch = SimpleNamespace(results=[], was_held_back=False, adopt=lambda _: None)
    attempt.open = lambda: setattr(attempt, "opened", attempt.opened + 1)
    monkeypatch.setattr(DbtPodMixin, "attempt_class", lambda *_: attempt)
    made = producer_class(OfACloud)(
        task_id="dbt_build", name="shop", image="shop:1", build={}, selection=Selection(), graph=graph,
        selected=frozenset(graph.nodes), watched={},
    )  # fmt: skip
    made.seen = []

    def prepare(*_):
        made.seen.append(("prepare", made.config_file))
        return Prepared()

    monkeypatch.setattr(made, "_prepare", prepare)
    monkeypatch.setattr(
        made, "_close", lambda _, reason: (made.seen.append(reason), setattr(attempt, "closed", reason))
    )
    monkeypatch.setattr(made, "_watch_of", lambda *_: watch)
    monkeypatch.setattr(made, "_tell_outline", lambda _: None)
    attempt.close = lambda code: setattr(attempt, "closed", SimpleNamespace(exit_code=code))
    made.attempt = attempt
    return made


def test_all_of_an_attempt_has_the_operators_way_to_the_cluster_and_its_journal_is_open_before(operator):
    with executing(operator):
        operator.execute(CONTEXT)
    assert operator.seen == [("prepare", "kubeconfig")]
    assert operator.attempt.opened == 1
    assert operator.config_file is None


def test_what_keeps_the_operator_from_its_cluster_closes_the_journal(operator, monkeypatch):
    monkeypatch.setattr(OfACloud, "refuses", RuntimeError("not authorized to perform: eks:DescribeCluster"))
    with executing(operator), pytest.raises(RuntimeError, match="DescribeCluster"):
        operator.execute(CONTEXT)
    assert operator.seen == ["the pod did not run dbt: not authorized to perform: eks:DescribeCluster"]


def test_an_operator_that_never_comes_to_the_pod_operator_is_no_success(operator, monkeypatch):
    monkeypatch.setattr(OfACloud, "execute", lambda *_: "done")
    with (
        executing(operator),
        pytest.raises(DbtWatchError, match="did not call the execute of KubernetesPodOperator"),
    ):
        operator.execute(CONTEXT)
    assert operator.attempt.closed


def test_an_error_of_the_attempt_itself_is_told_once(operator, monkeypatch):
    def prepare(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(operator, "_prepare", prepare)
    monkeypatch.setattr(operator, "_events", lambda _: ())
    monkeypatch.setattr(operator, "_is_told_by", lambda *_: False)
    operator.attempt.pod = None
    with executing(operator), pytest.raises(RuntimeError, match="no room"):
        operator.execute(CONTEXT)
    assert operator.seen == ["the pod did not run dbt: no room"]


FIELDS = """
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from dbt_watch.airflow.pod_operator import template_fields_of
class OfACloud(KubernetesPodOperator):
    template_fields = tuple({"cluster_name", "region", "aws_conn_id"} | set(KubernetesPodOperator.template_fields))
print(template_fields_of(OfACloud, "build"))
"""


def test_template_fields_have_one_order_in_all_processes():
    found = {
        subprocess.run(
            [sys.executable, "-c", FIELDS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True, capture_output=True, text=True,
        ).stdout.splitlines()[-1]
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_template_fields_are_those_of_the_class_and_ours():
    own = KubernetesPodOperator.template_fields
    assert template_fields_of(KubernetesPodOperator, "build") == (*own, "build")


class OwnTrigger(KubernetesPodTrigger):
    """Has the way to its cluster while `run` runs, as EksPodTrigger has."""

    made, open = 0, 0

    def serialize(self):
        return "a_cloud.OwnTrigger", {**TRIGGER}

    async def run(self):
        OwnTrigger.made += 1
        OwnTrigger.open += 1
        try:
            if "A_CLOUD" in os.environ:
                raise KeyError("A_CLOUD")
            os.environ["A_CLOUD"] = "regional"
            await asyncio.sleep(0)  # as where Airflow is asked for a connection
            del os.environ["A_CLOUD"]
            # A cached property, which would be made of the credentials.
            vars(self)["hook"] = SimpleNamespace(get_conn=lambda: connection(OwnTrigger.made))
            async for event in super().run():
                yield event
        finally:
            OwnTrigger.open -= 1


@contextlib.asynccontextmanager
async def connection(number):
    assert OwnTrigger.open
    yield f"client {number}"


@pytest.fixture
def stock(monkeypatch):
    monkeypatch.setattr(OwnTrigger, "made", 0)
    module = types.ModuleType("a_cloud")
    module.OwnTrigger = OwnTrigger
    monkeypatch.setitem(sys.modules, "a_cloud", module)
    return StockPodTrigger("a_cloud.OwnTrigger", {**TRIGGER})


async def client_of(stock):
    async with stock.connect() as client:
        return client


def test_there_is_a_client_without_the_triggers_own_run_kept_until_it_is_refused(stock):
    async def go():
        found = [await client_of(stock), await client_of(stock)]
        stock.forget_credentials()
        found.append(await client_of(stock))
        assert OwnTrigger.open == 1
        await stock.close()
        assert OwnTrigger.open == 0
        found.append(await client_of(stock))
        await stock.close()
        return found

    assert asyncio.run(go()) == ["client 1", "client 1", "client 2", "client 3"]


def test_a_run_with_credentials_of_its_own_ends_when_the_container_has_started(stock, monkeypatch):
    async def wait(self):
        await asyncio.Event().wait()
        yield None

    monkeypatch.setattr(KubernetesPodTrigger, "run", wait)

    async def go():
        started = asyncio.Event()
        event = asyncio.ensure_future(stock.event(None, started))
        await asyncio.sleep(0.01)
        assert not event.done()
        assert OwnTrigger.open == 1
        started.set()
        return await event

    assert asyncio.run(go()) is None
    assert OwnTrigger.open == 0


def test_what_it_says_before_that_counts(stock, monkeypatch):
    async def fail(self):
        yield SimpleNamespace(payload={"status": "timeout"})

    monkeypatch.setattr(KubernetesPodTrigger, "run", fail)
    assert asyncio.run(stock.event(None, asyncio.Event())) == {"status": "timeout"}


def test_two_that_make_ready_do_so_one_after_the_other(stock, monkeypatch):
    async def end(self):
        yield SimpleNamespace(payload={"status": "success"})

    monkeypatch.setattr(KubernetesPodTrigger, "run", end)

    async def go():
        found = await asyncio.gather(client_of(stock), stock.event(None, asyncio.Event()), client_of(stock))
        await stock.close()
        return found

    assert asyncio.run(go())[1] == {"status": "success"}


def test_what_keeps_a_run_from_making_ready_is_an_event_as_any_other(stock, monkeypatch):
    monkeypatch.setenv("A_CLOUD", "regional")
    event = asyncio.run(stock.event(None, asyncio.Event()))
    assert (event["status"], event["message"]) == ("error", "KeyError: 'A_CLOUD'")


@pytest.mark.parametrize(
    ("disabled", "portals"), [(None, 1), ("True", 0)], ids=["as it is", "where the portal is disabled"]
)
def test_what_makes_ready_may_ask_airflow_for_a_connection_as_the_trigger_itself_may(
    stock, monkeypatch, disabled, portals
):
    opened = []

    async def ensure_portal():
        opened.append(asyncio.current_task())

    monkeypatch.setattr(pod_trigger.greenback, "ensure_portal", ensure_portal)
    monkeypatch.delenv("AIRFLOW_DISABLE_GREENBACK_PORTAL", raising=False)
    if disabled:
        monkeypatch.setenv("AIRFLOW_DISABLE_GREENBACK_PORTAL", disabled)
    asyncio.run(client_of(stock))
    assert len(opened) == portals


@pytest.mark.parametrize(("action", "deletes"), [("keep_pod", False), ("delete_pod", True), (None, True)])
def test_what_becomes_of_a_pod_that_is_stopped_is_the_operators_to_say(stock, action, deletes):
    trigger = OwnTrigger(**TRIGGER)
    operator = SimpleNamespace(
        on_kill_action=action and SimpleNamespace(value=action), termination_grace_period=7
    )
    _, arguments = serialized(trigger, operator)
    again = StockPodTrigger("a_cloud.OwnTrigger", arguments)
    assert (again.deletes_when_killed, again.grace_period) == (deletes, 7)
