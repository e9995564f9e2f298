"""What Airflow is told of builds at the end of dbt: each of them, once, whatever attempt has made it."""

from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    AssetEventsResult,
    ErrorResponse,
    GetAssetEventByAssetAlias,
    XComResult,
)
from airflow.sdk.execution_time.context import OutletEventAccessors

from dbt_watch.airflow import asset_events, supervisor
from dbt_watch.airflow.asset_events import as_outlets, asset_of, make_known, tell, untold
from dbt_watch.airflow.compat import AirflowSkipException
from dbt_watch.core.assets import AssetEvent, TrackedAssets, alias_name
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.results import NodeResult
from dbt_watch.producers import asset_report as module
from dbt_watch.producers.asset_report import DbtAssetReport, report_builds
from dbt_watch.producers.journal_publisher import JournalPublisher

ORDERS, CUSTOMERS, RAW = "model.shop.orders", "model.shop.customers", "seed.shop.raw_orders"
ASSETS = TrackedAssets("shop", dict.fromkeys((ORDERS, CUSTOMERS, RAW)))
WATCHED = {"shop.orders": (ORDERS,), "shop.customers": (CUSTOMERS,), "shop.raw_orders": (RAW,)}
NOON = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)


class Airflow:
    """The supervisor: events that were told, and XComs."""

    def __init__(self):
        self.told, self.xcoms, self.asked = [], {}, []
        self.is_silent = False

    def send(self, message):
        if isinstance(message, GetAssetEventByAssetAlias):
            self.asked.append(message.alias_name)
            if self.is_silent:
                return ErrorResponse()
            found = [event for event in self.told if event["alias"] == message.alias_name]
            return AssetEventsResult(asset_events=[event["event"] for event in found])
        return XComResult(key=message.key, value=self.xcoms.get((message.task_id, message.key)))

    def add(self, unique_id, invocation, run_id="run", dag_id="shop"):
        name = alias_name("shop", unique_id)
        event = {
            "id": 1,
            "timestamp": NOON,
            "extra": {"invocation_id": invocation, "finished_at": None},
            "asset": {"name": name, "uri": name, "group": "asset", "extra": {}},
            "created_dagruns": [],
            "source_dag_id": dag_id,
            "source_run_id": run_id,
        }
        self.told.append({"alias": name, "event": event})


@pytest.fixture
def airflow(monkeypatch):
    airflow = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
    monkeypatch.setattr(supervisor, "_PAUSE_FIRST", 0.001)
    monkeypatch.setattr(asset_events, "patiently", lambda ask: supervisor.patiently(ask, patience=0.01))
    return airflow


def context_of(task_id="shop.dbt_build", number=1):
    task = SimpleNamespace(outlets=[])
    ti = SimpleNamespace(
        dag_id="shop", run_id="run", task_id=task_id, map_index=-1, try_number=number, task=task
    )
    return {
        "ti": ti, "outlet_events": OutletEventAccessors(), "dag_run": SimpleNamespace(run_after=NOON),
    }  # fmt: skip


def result(unique_id, status="success", invocation="a", **more):
    return NodeResult(unique_id=unique_id, status=status, invocation_id=invocation, **more)


def told_by(context):
    """Return what is told when the task ends: for each alias, the asset and the invocation of each build."""
    aliases = {outlet.name for outlet in context["ti"].task.outlets}
    found = {}
    for accessor in context["outlet_events"]._dict.values():
        for event in accessor.asset_alias_events:
            assert event.source_alias_name in aliases
            unique_id = event.source_alias_name.rpartition("/")[2]
            found.setdefault(unique_id, []).append((event.dest_asset_key.uri, event.extra["invocation_id"]))
    return found


def test_an_asset_has_the_same_name_as_its_uri_in_the_spelling_of_its_provider(monkeypatch):
    from airflow.sdk.definitions import asset as airflow_asset  # noqa: PLC0415

    def with_port(uri):
        if not uri.path.strip("/"):
            raise ValueError("there is no table")
        return uri._replace(netloc="db:5432")

    monkeypatch.setattr(airflow_asset, "_get_uri_normalizer", lambda scheme: with_port)
    assert asset_of("postgres://db/shop/public/orders", "dbt://shop/x") == Asset(
        "postgres://db:5432/shop/public/orders"
    )
    monkeypatch.setattr(
        airflow_asset, "_get_uri_normalizer", lambda scheme: with_port if scheme == "x" else None
    )
    assert asset_of("x://db", "dbt://shop/x") == Asset("dbt://shop/x")


def test_a_first_attempt_tells_what_it_has_built_and_asks_nothing(airflow):
    context = context_of()
    results = [
        result(ORDERS),
        result(CUSTOMERS, "error"),
        result(RAW, "warn"),
        result("test.shop.t.1", "pass"),
    ]
    assert report_builds(context, ASSETS, results, 1, WATCHED) == 2
    assert set(told_by(context)) == {ORDERS, RAW}
    assert not airflow.asked


def test_a_later_attempt_tells_what_earlier_ones_have_built_unless_that_was_told(airflow):
    context = context_of(number=2)
    airflow.xcoms["shop.raw_orders", "return_value"] = result(RAW, invocation="a").to_dict()
    airflow.xcoms["shop.customers", "return_value"] = result(CUSTOMERS, invocation="a").to_dict()
    airflow.add(CUSTOMERS, "a")
    assert report_builds(context, ASSETS, [result(ORDERS, invocation="b", attempt=2)], 2, WATCHED) == 2
    assert {unique_id: [found[1] for found in events] for unique_id, events in told_by(context).items()} == {
        ORDERS: ["b"],
        RAW: ["a"],
    }
    assert alias_name("shop", ORDERS) not in airflow.asked


def test_a_build_of_the_same_node_in_another_run_or_another_invocation_is_another_one(airflow):
    for event in ({"run_id": "another"}, {"dag_id": "another"}):
        airflow.add(ORDERS, "a", **event)
    airflow.add(ORDERS, "b")
    context = context_of(number=2)
    report_builds(context, ASSETS, [result(ORDERS, invocation="a", attempt=1)], 2, {})
    assert told_by(context)[ORDERS][0][1] == "a"


def test_what_airflow_cannot_be_asked_about_is_not_told_twice(airflow, caplog):
    airflow.is_silent = True
    event = AssetEvent(alias_name("shop", ORDERS), "x", {"invocation_id": "a"})
    assert untold(context_of(), [event]) == []
    assert "did not return" in caplog.text


def test_without_a_build_nothing_is_told(airflow):
    context = context_of()
    assert report_builds(context, ASSETS, [result(ORDERS, "skipped")], 1, WATCHED) == 0
    assert context["ti"].task.outlets == []


def test_an_alias_that_is_declared_already_stands_there_once():
    context = context_of()
    event = AssetEvent("dbt://shop/x", "dbt://shop/x", {})
    context["ti"].task.outlets = [AssetAlias("dbt://shop/x")]
    tell(context, [event])
    assert context["ti"].task.outlets == [AssetAlias("dbt://shop/x")]


def test_the_execution_api_takes_the_same():
    event = AssetEvent("dbt://shop/x", "s3://lake/x", {"rows": 3})
    assert as_outlets([event]) == {
        "task_outlets": [{"name": "dbt://shop/x", "type": "AssetAlias"}],
        "outlet_events": [
            {
                "source_alias_name": "dbt://shop/x",
                "dest_asset_key": {"name": "s3://lake/x", "uri": "s3://lake/x"},
                "dest_asset_extra": {},
                "extra": {"rows": 3},
            }
        ],
    }
    assert as_outlets([]) == {"task_outlets": [], "outlet_events": []}


# The task behind a producer that has failed.


def journal_of(airflow, *results, attempt=1):
    writer = JournalWriter(attempt=attempt)
    publication = Publication(writer, will_retry=False, began=1.0)
    publisher = JournalPublisher(
        publication, lambda key, value: airflow.xcoms.__setitem__(("shop.dbt_build", key), value)
    )
    writer.add(list(results))
    writer.close(1)
    publisher.finish()


@pytest.fixture
def report(monkeypatch):
    monkeypatch.setattr(module, "patiently", lambda ask: supervisor.patiently(ask, patience=0.01))
    report = DbtAssetReport(task_id="dbt_build.assets", producer_task_id="shop.dbt_build")
    report.assets, report.watched = ASSETS, WATCHED
    return report


def test_what_a_failed_run_has_built_is_told_and_none_of_the_assets_that_it_only_makes_known(airflow, report):
    journal_of(airflow, result(RAW), result(ORDERS, "error"), result(CUSTOMERS, "skipped"))
    context = context_of("shop.dbt_build.assets")
    make_known(context["ti"].task, ASSETS)
    make_known(context["ti"].task, ASSETS)
    assert [asset.uri for asset in context["ti"].task.outlets] == ASSETS.aliases
    assert report.execute(context) == 1
    assert context["ti"].task.outlets == [AssetAlias(alias_name("shop", RAW))]
    assert set(told_by(context)) == {RAW}
    assert not airflow.asked


def test_what_was_told_when_the_run_failed_before_is_not_told_again(airflow, report):
    journal_of(airflow, result(ORDERS, invocation="b", attempt=2), attempt=2)
    airflow.xcoms["shop.raw_orders", "return_value"] = result(RAW, invocation="a").to_dict()
    airflow.add(RAW, "a")
    context = context_of("shop.dbt_build.assets", number=2)
    assert report.execute(context) == 1
    assert set(told_by(context)) == {ORDERS}


@pytest.mark.parametrize("results", [[], [result(ORDERS, "error")]])
def test_a_run_that_has_built_nothing_has_nothing_to_tell(airflow, report, results):
    if results:
        journal_of(airflow, *results)
    with pytest.raises(AirflowSkipException, match="nothing"):
        report.execute(context_of("shop.dbt_build.assets"))
