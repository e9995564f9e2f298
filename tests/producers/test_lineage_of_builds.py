"""OpenLineage's events of builds, on a worker and in a triggerer: with Airflow's provider, without it, and with one that is broken."""

import asyncio
import json
import logging
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import BaseOperator
from virtual_time import run

from dbt_watch.airflow import openlineage
from dbt_watch.core.journal.format import Closed
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.lineage.settings import DbtLineage, LineageSource
from dbt_watch.producers import journal_store, lineage
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.dbt_trigger import DbtTrigger, pack
from dbt_watch.producers.lineage import BuildLineage, lineage_plan, packed_plan

RECORDINGS = Path(__file__).parents[1] / "lineage/recordings"
sys.path.append(str(RECORDINGS.parent))
import replayed  # noqa: E402 - it stands beside the recordings

MANIFEST = RECORDINGS / "manifest.json"
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
EVENTS = 48
# With an exposure, which is nothing that runs.
RESULTS = len(replayed.NODES) + 1


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Have the provider write events into a file; return what is in it."""
    path = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(path), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "airflow")
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def context():
    ti = SimpleNamespace(dag_id="dag", task_id="build.dbt_build", try_number=2, map_index=None)
    dag_run = SimpleNamespace(logical_date=None, run_after=NOON, clear_number=0, conf={})
    return {"ti": ti, "dag_run": dag_run, "task": BaseOperator(task_id="dbt_build")}


def source(**settings):
    return LineageSource(str(MANIFEST), DbtLineage(**settings))


LOGGERS = ("dbt_watch.lineage.", "dbt_watch.producers.lineage")


def warnings(caplog):
    """Return those on the events; the client may have words of its own, and so may a thread that an earlier test has left."""
    ours = [record for record in caplog.records if record.name.startswith(LOGGERS)]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


def test_the_run_of_the_task_is_the_parent_and_that_of_the_dag_the_root(told, context):
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter  # noqa: PLC0415

    plan = lineage_plan(source(namespace="duckdb:///x"), context, replayed.NODES)
    parent = plan.parent
    assert (parent.namespace, parent.job) == ("airflow", "dag.build.dbt_build")
    assert (parent.root_namespace, parent.root_job) == ("airflow", "dag")
    assert parent.run_id == OpenLineageAdapter.build_task_instance_run_id(
        dag_id="dag", task_id="build.dbt_build", try_number=2, logical_date=NOON, map_index=-1
    )
    assert parent.root_run_id == OpenLineageAdapter.build_dag_run_id(
        dag_id="dag", logical_date=NOON, clear_number=0
    )
    assert (plan.namespace, plan.facts) == ("duckdb:///x", replayed.plan().facts)


def test_what_has_started_the_dag_run_is_the_root(told, context):
    above = {
        "parentRunId": "0190a1b2-0000-7e5f-8a9b-0c1d2e3f4a5b",
        "parentJobNamespace": "cron",
        "parentJobName": "nightly",
    }
    context["dag_run"].conf = {"openlineage": above}
    parent = lineage_plan(source(), context, replayed.NODES).parent
    assert (parent.root_namespace, parent.root_job, parent.root_run_id) == (
        "cron",
        "nightly",
        above["parentRunId"],
    )


@pytest.mark.parametrize(
    ("settings", "found", "namespace"),
    [
        ({"namespace": "postgres://db:5432"}, None, "postgres://db:5432"),
        ({"conn_id": "warehouse"}, {"host": "/data/x.duckdb"}, "duckdb:///data/x.duckdb"),
        ({"conn_id": "warehouse"}, {"host": ""}, "duckdb"),
        ({}, None, "duckdb"),
    ],
)
def test_the_namespace_is_what_is_said_or_what_a_connection_says(
    told, context, monkeypatch, caplog, settings, found, namespace
):
    def get(conn_id):
        assert conn_id == "warehouse"
        return SimpleNamespace(port=None, extra_dejson={}, **found)

    monkeypatch.setattr(lineage, "Connection", SimpleNamespace(get=get))
    caplog.set_level(logging.INFO)
    assert lineage_plan(source(**settings), context, replayed.NODES).namespace == namespace
    assert ("lineage=DbtLineage(namespace=...)" in caplog.text) is (namespace == "duckdb")
    assert not warnings(caplog)


@pytest.mark.parametrize(
    "name", ["no provider", "no transport", "disabled", "excluded", "not enabled", "off", "nothing to build"]
)
def test_there_are_no_events_unless_they_are_wanted(told, context, monkeypatch, caplog, name):
    own, nodes = source(), replayed.NODES
    monkeypatch.setattr(lineage, "place_of", lambda *_, **__: pytest.fail("the manifest was read"))
    if name == "no provider":
        monkeypatch.setattr(openlineage.importlib.util, "find_spec", lambda _: None)
        monkeypatch.setattr(openlineage, "is_wanted", lambda _: pytest.fail("the provider was imported"))
    elif name == "no transport":
        monkeypatch.delenv("AIRFLOW__OPENLINEAGE__TRANSPORT")
    elif name == "disabled":
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__DISABLED", "True")
    elif name == "excluded":
        kind = type(context["task"])
        monkeypatch.setenv(
            "AIRFLOW__OPENLINEAGE__DISABLED_FOR_OPERATORS", f"{kind.__module__}.{kind.__name__}"
        )
    elif name == "not enabled":
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__SELECTIVE_ENABLE", "True")
    elif name == "off":
        own = None
    else:
        nodes = {}
    assert lineage_plan(own, context, nodes) is None
    assert packed_plan(None) == ""
    assert BuildLineage.packed("") is None
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("transport", "manifest"),
    [
        ("{not json", str(MANIFEST)),
        ('["a list"]', str(MANIFEST)),
        (None, "/nowhere/manifest.json"),
        (None, __file__),
    ],
)
def test_what_is_wrong_with_it_is_one_warning(told, context, monkeypatch, caplog, transport, manifest):
    if transport is not None:
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", transport)
    assert lineage_plan(LineageSource(manifest, DbtLineage()), context, replayed.NODES) is None
    (warning,) = warnings(caplog)
    assert warning.startswith("OpenLineage cannot be used, so no events of this build are sent: ")


def followed(own, lines=replayed.LOG):
    watch = BuildWatch(replayed.NODES, attempt=1, show=lambda line: None, listener=own)
    for line in lines:
        watch.take_lines([line], True)
    watch.end(1)
    return watch


def test_a_worker_has_sent_all_before_the_task_ends(told, caplog):
    own = BuildLineage(replayed.plan(), is_worker=True)
    followed(own)
    own.close()
    events = told()
    assert len(events) == EVENTS
    assert [event["eventType"] for event in (events[0], events[-1])] == ["START", "FAIL"]
    assert "daily_revenue" in events[-1]["run"]["facets"]["errorMessage"]["message"]
    assert not warnings(caplog)


def test_secrets_are_masked_in_what_is_sent(told, monkeypatch):
    monkeypatch.setattr(lineage, "redact", lambda text: text.replace("misspelt", "***"))
    own = BuildLineage(replayed.plan(), is_worker=True)
    followed(own)
    own.close()
    statements = [event["job"]["facets"].get("sql", {}).get("query", "") for event in told()]
    assert "as ***" in "".join(statements)
    assert "misspelt" not in "".join(statements)


def test_a_transport_that_cannot_be_made_is_one_warning_and_the_build_is_as_without(
    told, monkeypatch, caplog
):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", '{"type": "carrier_pigeon"}')
    own = BuildLineage(replayed.plan(), is_worker=True)
    watch = followed(own)
    own.close()
    assert watch.results == followed(None).results
    (warning,) = warnings(caplog)
    assert "carrier_pigeon" in warning


def test_a_transport_that_is_down_is_one_warning(told, monkeypatch, caplog):
    monkeypatch.setenv(
        "AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps({"type": "file", "log_file_path": "/proc/nowhere/x"})
    )
    own = BuildLineage(replayed.plan(), is_worker=True)
    followed(own)
    own.close()
    (warning,) = warnings(caplog)
    assert "An OpenLineage event could not be sent; the build continues" in warning


@pytest.mark.parametrize("name", ["take", "end", "close"])
def test_whatever_goes_wrong_on_the_way_the_build_goes_on_with_one_warning(told, monkeypatch, caplog, name):
    own = BuildLineage(replayed.plan(), is_worker=True)

    def fail(*_, **__):
        raise KeyError("a mistake of ours")

    if name == "close":
        monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT", "soon")
    else:
        monkeypatch.setattr(own._listener, name, fail)
    watch = followed(own)
    own.close()
    assert watch.results == followed(None).results
    (warning,) = warnings(caplog)
    assert "No more OpenLineage events are sent for this build" in warning


def test_a_transport_that_hangs_holds_up_a_worker_for_as_long_as_the_provider_allows(
    told, monkeypatch, caplog
):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT", "1")
    gate, is_hanging = threading.Event(), threading.Event()

    def emit(_):
        is_hanging.set()
        gate.wait(240)

    monkeypatch.setattr(openlineage, "make_client", lambda: SimpleNamespace(emit=emit, close=lambda *_: None))
    own = BuildLineage(replayed.plan(), is_worker=True)
    followed(own)
    assert is_hanging.wait(240)
    own.close()
    gate.set()
    (warning,) = warnings(caplog)
    assert f"Of {EVENTS} OpenLineage events of this build, 0 failed and {EVENTS - 1} were dropped" in warning


# In a triggerer.


class Trigger(DbtTrigger):
    """One that reads a log which is there already."""

    def __init__(self, lines, **more):
        super().__init__(
            nodes=pack(replayed.NODES, StaleSources()), attempt=1, will_retry=False, began=1.0, **more
        )
        self.lines = lines
        self.task_instance = SimpleNamespace(dag_id="dag", run_id="run", task_id="dbt_build", map_index=-1)

    def serialize(self):
        return ("here.Trigger", self.arguments())

    async def _follow(self, store, written):
        watch = self._watch(written)
        for line in self.lines:
            watch.take_lines([line], True)
            await asyncio.sleep(0)
        watch.end(1)
        return {"results": len(watch.results)}


@pytest.fixture
def journal(monkeypatch):
    async def read(_, name):
        del name

    async def write(_, name, value):
        del name, value

    monkeypatch.setattr(journal_store, "read_xcom", read)
    monkeypatch.setattr(journal_store, "write_xcom", write)


@pytest.fixture
def sender_ended():
    """Return a function that waits until the senders of this test have ended."""
    before = set(threading.enumerate())

    def ended():
        for thread in set(threading.enumerate()) - before:
            if thread.name == "dbt-watch-lineage":
                thread.join(240)

    return ended


def test_a_trigger_sends_what_its_worker_has_packed_by_a_thread(told, journal, sender_ended, caplog):
    trigger = Trigger(replayed.LOG, lineage=packed_plan(replayed.plan()))
    assert trigger.arguments()["lineage"] == trigger.lineage
    assert run(trigger._event()) == {"results": RESULTS}
    sender_ended()
    assert len(told()) == EVENTS
    assert not warnings(caplog)


def test_a_trigger_does_not_wait_for_a_transport_that_hangs(told, journal, sender_ended, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(openlineage, "make_client", lambda: gate.wait(240))
    trigger = Trigger(replayed.LOG, lineage=packed_plan(replayed.plan()))
    assert run(trigger._event()) == {"results": RESULTS}
    gate.set()
    sender_ended()


@pytest.mark.parametrize("text", ["", "what another version has packed"])
def test_a_trigger_follows_a_build_without_lineage_as_well(told, journal, caplog, text):
    assert run(Trigger(replayed.LOG, lineage=text)._event()) == {"results": RESULTS}
    assert told() == []
    assert len(warnings(caplog)) == bool(text)


def test_a_journal_that_is_closed_already_needs_no_sender(told, journal, monkeypatch):
    async def closed(_):
        return SimpleNamespace(state=SimpleNamespace(closed=Closed(0, None), entries={}))

    monkeypatch.setattr(journal_store.JournalStore, "read_back", closed)
    event = run(Trigger(replayed.LOG, lineage=packed_plan(replayed.plan()))._event())
    assert event["status"] == "success"
    assert told() == []
