"""How a trigger follows a build into the journal, and what it goes on with: on a clock that goes on by itself."""

import asyncio
import functools
from types import SimpleNamespace

import pytest
from dbt_words import BEGINNING, said
from kubernetes.client import models as k8s
from virtual_time import run

from dbt_watch.core.journal.format import Closed, decode_page, part_key
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.core.journal.writer import Publication
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.results import NodeInfo
from dbt_watch.producers import dbt_trigger, journal_store
from dbt_watch.producers.dbt_trigger import END, pack
from dbt_watch.producers.pods import trigger as deferred
from dbt_watch.producers.pods.container_end import ContainerEnd
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.trigger import DbtPodTrigger

ORDERS, CUSTOMERS, SOURCE = "model.shop.orders", "model.shop.customers", "source.shop.raw.orders"
NODES = {
    ORDERS: NodeInfo("orders", "model", "table", (SOURCE,)),
    CUSTOMERS: NodeInfo("customers", "model", "table"),
}
START = 1_000.0


def now():
    return asyncio.get_running_loop().time()


class Build:
    """A build, its pod and Airflow; what happens in the pod and in the operator's own trigger is told by functions."""

    container = "base"
    pod = ("dbt", "default")

    def __init__(self):
        self.xcoms = {}
        self.log = []
        self.ended = []
        self.seen = None
        self.happened = ()
        self.in_pod = self.operators = self.for_ever

    @staticmethod
    async def for_ever(_):
        await asyncio.Event().wait()

    # What is read of the pod.

    def reader(self, connect, name, namespace, container, *, position, on_lines):
        assert (name, namespace, container, position) == ("dbt", "default", "base", Position())
        self.connect, self.on_lines = connect, on_lines
        self.started = asyncio.Event()
        return SimpleNamespace(started=self.started, pod=self.seen, follow=self.follow, events=self.events)

    async def follow(self):
        try:
            return await self.in_pod(self)
        finally:
            await asyncio.sleep(0.4)
            self.ended.append("reader")

    async def events(self):
        return self.happened

    def say(self, unique_id, status):
        self.started.set()
        self.on_lines([BEGINNING.encode(), said(unique_id, status).encode()], True)

    # What the operator's own trigger does.

    async def event(self, task_instance, has_started):
        assert task_instance.task_id == "dbt_build"
        assert has_started is self.started
        try:
            return await self.operators(self)
        finally:
            await asyncio.sleep(0.2)
            self.ended.append("operator's")

    async def close(self):
        self.ended.append("connection")

    def make_event(self, status, message):
        return {"status": status, "name": "dbt", "namespace": "default", "message": message}

    # Airflow.

    async def write(self, key, name, value):
        assert key.task_id == "dbt_build"
        self.xcoms[name] = value

    async def read(self, key, name):
        return self.xcoms.get(name)

    def journal(self):
        reader = JournalReader()
        read_now(reader, self.xcoms.get)
        return reader.state

    def statuses(self):
        return {unique_id: entry.status for unique_id, entry in self.journal().entries.items()}


@pytest.fixture
def build(monkeypatch):
    build = Build()
    monkeypatch.setattr(journal_store, "write_xcom", build.write)
    monkeypatch.setattr(journal_store, "read_xcom", build.read)
    monkeypatch.setattr(deferred, "AsyncPodLogReader", build.reader)
    monkeypatch.setattr(dbt_trigger, "Publication", functools.partial(Publication, clock=now))
    monkeypatch.setattr(dbt_trigger, "time", SimpleNamespace(time=lambda: START + now(), monotonic=now))
    return build


def trigger_of(build, *, stale=None, drift=None, **more):
    inner = (
        "airflow.providers.cncf.kubernetes.triggers.pod.KubernetesPodTrigger",
        {
            "pod_name": "dbt",
            "pod_namespace": "default",
            "trigger_start_time": None,
            "base_container_name": "base",
        },
    )
    nodes = pack(NODES, stale or StaleSources(), drift)
    trigger = DbtPodTrigger(inner=inner, nodes=nodes, attempt=2, will_retry=True, began=5.0, **more)
    trigger._stock = build
    trigger._log = SimpleNamespace(
        info=lambda text, *values: build.log.append(("info", text % values)),
        warning=lambda text, *values: build.log.append(("warning", text % values)),
    )
    trigger.task_instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="dbt_build", map_index=-1)
    return trigger


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        (ContainerEnd(0), "success", "dbt ended with exit code 0"),
        (ContainerEnd(1, "OOMKilled"), "failed", "dbt ended with exit code 1"),
        (ContainerEnd(None, "the pod was deleted"), "failed", "the pod was deleted"),
    ],
)
def test_a_build_that_ends_closes_the_journal_and_tells_the_operator_how(build, end, status, message):
    async def in_pod(build):
        build.say(ORDERS, "success")
        build.say(CUSTOMERS, "success")
        return end

    build.in_pod, trigger = in_pod, trigger_of(build)
    event = run(trigger._event())
    assert build.connect == trigger.connect
    assert {key: event[key] for key in ("status", "name", "namespace", "message")} == {
        "status": status, "name": "dbt", "namespace": "default", "message": message
    }  # fmt: skip
    told = event[END]
    assert (told["exit_code"], told["summary"]) == (end.exit_code, "2 success")
    assert build.journal().closed == Closed(end.exit_code, told["reason"])
    assert build.statuses() == {ORDERS: "success", CUSTOMERS: "success"}
    page = decode_page(build.xcoms[part_key(0)])
    assert (page.chunk.attempt, page.will_retry, page.began) == (2, True, 5.0)
    assert sorted(build.ended[:2]) == ["operator's", "reader"]
    assert build.ended[2:] == ["connection"]


def test_what_dbt_does_is_written_while_it_runs_at_intervals(build):
    seen = []

    async def in_pod(build):
        await asyncio.sleep(1.0)
        build.say(ORDERS, "success")
        await asyncio.sleep(0.15)
        seen.append(build.statuses())
        build.say(CUSTOMERS, "success")
        for seconds in (0.05, 0.15):
            await asyncio.sleep(seconds)
            seen.append(build.statuses())
        return ContainerEnd(0)

    build.in_pod = in_pod
    run(trigger_of(build)._event())
    assert seen == [{ORDERS: "success"}, {ORDERS: "success"}, {ORDERS: "success", CUSTOMERS: "success"}]


def test_the_log_of_the_task_shows_what_dbt_does(build):
    async def in_pod(build):
        build.say(ORDERS, "success")
        build.on_lines([said(CUSTOMERS, "success").encode()], True)
        return ContainerEnd(0)

    build.in_pod = in_pod
    run(trigger_of(build)._event())
    assert [level for level, _ in build.log] == ["info"] * len(build.log)
    assert "orders OK" in "\n".join(line for _, line in build.log)


def test_that_dbt_ran_another_project_is_a_warning_or_an_end_as_it_was_asked_for(build):
    async def in_pod(build):
        build.say("model.shop.unheard_of", "success")
        build.say(ORDERS, "success")
        build.say(CUSTOMERS, "success")
        return ContainerEnd(0)

    build.in_pod = in_pod
    event = run(trigger_of(build, drift=Drift((), "fail"))._event())
    assert event["status"] == "failed"
    assert [line for level, line in build.log if level == "warning"]


def test_a_stale_source_counts_as_it_was_asked_for(build):
    async def in_pod(build):
        build.say(SOURCE, "error")
        build.say(ORDERS, "success")
        build.say(CUSTOMERS, "success")
        return ContainerEnd(0)

    build.in_pod = in_pod
    event = run(trigger_of(build, stale=StaleSources({SOURCE: (ORDERS,)}, "fail"))._event())
    assert event["status"] == "failed"


def test_secrets_are_shown_neither_in_the_journal_nor_in_the_log(build):
    async def in_pod(build):
        build.say(ORDERS, "error")
        return ContainerEnd(1)

    async def first_event():
        events = trigger_of(build, secrets=["pa55-of-the-warehouse"]).run()
        return await anext(events)

    build.in_pod = in_pod
    event = run(first_event())
    assert event.payload["status"] == "failed"
    shown = "\n".join([*(line for _, line in build.log), *map(str, build.xcoms.values())])
    assert "error with ***" in shown
    assert "pa55" not in shown + str(event.payload)


def test_a_trigger_that_has_told_the_end_leaves_the_pod_to_the_operator(build, monkeypatch):
    asked = []

    async def in_pod(build):
        return ContainerEnd(0)

    async def read_state(key):
        asked.append(key)
        return "deferred"

    async def scene():
        trigger = trigger_of(build)
        events = trigger.run()
        await anext(events)
        await trigger.on_kill()

    build.in_pod, build.deletes_when_killed = in_pod, True
    monkeypatch.setattr(dbt_trigger, "read_state", read_state)
    run(scene())
    assert not asked


def test_another_triggerer_goes_on_where_the_first_one_has_stopped(build):
    async def first(build):
        build.say(ORDERS, "success")
        await asyncio.sleep(1)
        build.gone_on = True
        await Build.for_ever(build)

    async def second(build):
        build.say(ORDERS, "success")
        build.say(CUSTOMERS, "success")
        return ContainerEnd(0)

    async def stops(trigger):
        following = asyncio.ensure_future(trigger._event())
        await asyncio.sleep(5)
        following.cancel()
        await asyncio.wait({following})

    build.in_pod = first
    run(stops(trigger_of(build)))
    assert sorted(build.ended[:2]) == ["operator's", "reader"]
    assert build.ended[2:] == ["connection"]
    assert build.statuses() == {ORDERS: "success"}
    before, pages = len(build.log), build.journal().next_seq
    build.in_pod = second
    assert run(trigger_of(build)._event())["status"] == "success"
    assert build.journal().next_seq > pages
    assert build.statuses() == {ORDERS: "success", CUSTOMERS: "success"}
    again = "\n".join(line for _, line in build.log[before:])
    assert "customers OK" in again
    assert "orders OK" not in again


def pod_that(**state):
    state = k8s.V1ContainerState(**state)
    status = k8s.V1ContainerStatus(
        name="base", state=state, image="", image_id="", ready=False, restart_count=0
    )
    return k8s.V1Pod(status=k8s.V1PodStatus(container_statuses=[status]))


WAITS = pod_that(waiting=k8s.V1ContainerStateWaiting(reason="ContainerCreating"))
RUNS = pod_that(running=k8s.V1ContainerStateRunning())


@pytest.mark.parametrize("status", ["timeout", "error"])
def test_a_pod_that_does_not_start_ends_the_attempt_with_what_the_operator_and_kubernetes_say(build, status):
    async def gives_up(build):
        await asyncio.sleep(60)
        return {**build.make_event(status, "Pod took too long to start."), "more": 1}

    build.operators = gives_up
    build.seen = WAITS
    build.happened = [SimpleNamespace(type="Warning", reason="FailedMount", message="no such volume")]
    event = run(trigger_of(build)._event())
    reason = "the pod did not run dbt: Pod took too long to start: FailedMount: no such volume"
    assert event == {
        "status": "timeout", "name": "dbt", "namespace": "default", "message": reason, "more": 1,
        END: {
            "exit_code": None, "reason": reason, "summary": event[END]["summary"], "failure": event[END]["failure"],
        },
    }  # fmt: skip
    assert event[END]["failure"][0] == f"dbt stopped early: {reason}"
    assert "not run" in event[END]["summary"]
    assert build.journal().closed == Closed(None, reason)
    assert sorted(build.ended[:2]) == ["operator's", "reader"]
    assert build.ended[2:] == ["connection"]


@pytest.mark.parametrize("status", ["error", "failed", "success", "running"])
def test_what_the_operators_own_trigger_makes_of_a_pod_in_which_dbt_runs_does_not_count(build, status):
    async def gives_up(build):
        await asyncio.sleep(5)
        return build.make_event(status, "the API did not answer")

    async def in_pod(build):
        build.say(ORDERS, "success")
        await asyncio.sleep(60)
        build.say(CUSTOMERS, "success")
        return ContainerEnd(0)

    build.operators, build.in_pod = gives_up, in_pod
    assert run(trigger_of(build)._event())["status"] == "success"
    assert build.statuses() == {ORDERS: "success", CUSTOMERS: "success"}


def test_a_container_that_has_ended_before_it_was_seen_to_run_is_read_all_the_same(build):
    async def in_pod(build):
        await asyncio.sleep(10)
        build.say(ORDERS, "success")
        build.say(CUSTOMERS, "success")
        return ContainerEnd(0)

    async def has_ended(build):
        return build.make_event("success", "")

    build.operators, build.in_pod = has_ended, in_pod
    assert run(trigger_of(build)._event())["status"] == "success"


def test_a_build_that_the_operators_own_trigger_stops_waiting_for_is_broken_off(build):
    async def gives_up(build):
        await asyncio.sleep(60)
        return build.make_event("timeout", "too long")

    async def in_pod(build):
        build.say(ORDERS, "started")
        await Build.for_ever(build)

    build.operators, build.in_pod, build.seen = gives_up, in_pod, RUNS
    event = run(trigger_of(build)._event())
    assert event["status"] == "timeout"
    assert build.journal().closed.reason == event["message"] == "the pod did not run dbt to its end: too long"


def test_an_event_of_the_operators_own_trigger_may_give_no_reason(build):
    async def gives_up(build):
        return {"status": "timeout"}

    build.operators = gives_up
    event = run(trigger_of(build)._event())
    assert event["message"] == "the pod did not run dbt: the operator's own trigger gave no reason"


@pytest.mark.parametrize(("deadline", "ends_at"), [(START + 30, 30), (START - 1, 0)])
def test_a_build_that_takes_longer_than_the_tasks_execution_timeout_is_broken_off(build, deadline, ends_at):
    async def in_pod(build):
        build.say(ORDERS, "started")
        await Build.for_ever(build)

    async def scene():
        return await trigger_of(build, deadline=deadline)._event(), now()

    build.in_pod = in_pod
    event, ended_at = run(scene())
    assert ended_at == pytest.approx(ends_at, abs=1.0)
    assert event["status"] == "timeout"
    assert event["message"] == "the pod did not run dbt: the task took longer than its execution_timeout"
    assert build.journal().closed == Closed(None, event["message"])


def test_of_a_pod_that_has_run_dbt_no_events_are_asked_for(build):
    async def in_pod(build):
        build.say(ORDERS, "started")
        await Build.for_ever(build)

    async def events():
        raise AssertionError

    build.in_pod, build.events = in_pod, events
    assert run(trigger_of(build, deadline=START + 1)._event())["status"] == "timeout"


def test_an_error_of_the_reader_that_nobody_expects_is_raised(build):
    async def in_pod(build):
        raise RuntimeError("a mistake of ours")

    build.in_pod = in_pod
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run(trigger_of(build)._event())
    assert sorted(build.ended[:2]) == ["operator's", "reader"]
    assert build.ended[2:] == ["connection"]


def test_the_journal_is_begun_before_dbt_is(build):
    async def in_pod(build):
        await asyncio.sleep(1)
        assert part_key(0) in build.xcoms
        return ContainerEnd(0)

    build.in_pod = in_pod
    run(trigger_of(build)._event())
