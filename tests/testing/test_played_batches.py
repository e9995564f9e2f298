"""Microbatch models of a dbt that follows a script: which batches there are, how they end, and what is said of that."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from played import BUILD, Played
from test_fake_dbt import events, resource, written

from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.exceptions import ArgumentError
from dbt_watch.testing import FakeDbt
from dbt_watch.testing.batches import batches_of
from dbt_watch.testing.call import call_of

RECORDINGS = Path(__file__).parents[1] / "recordings"
USAGE, REPORT = "model.shop.usage", "model.shop.report"
THREE_DAYS = (*BUILD, "--event-time-start", "2026-01-01", "--event-time-end", "2026-01-04T00:00:00")


def microbatch(unique_id, *parents, batch_size="day", **config):
    config = {"incremental_strategy": "microbatch", "batch_size": batch_size, "event_time": "at", **config}
    return resource(unique_id, *parents, config={"materialized": "incremental", **config})


PROJECT = (
    resource("model.shop.readings"),
    microbatch(USAGE, "model.shop.readings", begin="2026-01-01", lookback=0),
    resource(REPORT, USAGE),
)


@pytest.fixture
def shop(tmp_path):
    return FakeDbt(written(tmp_path, *PROJECT))


def words_of(entry):
    return [batch.status for batch in entry.batches]


def test_every_batch_of_the_times_that_dbt_is_given_is_built(shop):
    usage = Played(shop, *THREE_DAYS).entries()[USAGE]
    assert (usage.status, usage.batch_count, words_of(usage)) == ("success", 3, ["success"] * 3)


def test_a_batch_that_fails_leaves_a_partial_success_which_fails_what_is_behind_and_the_command(shop):
    played = Played(shop.fails("usage", "out of disk", batches=["2026-01-02"]), *THREE_DAYS)
    entries = played.entries()
    assert (entries[USAGE].status, words_of(entries[USAGE])) == (
        "partial success",
        ["success", "error", "success"],
    )
    assert entries[USAGE].message == "Exception on worker thread. out of disk"
    assert (entries[REPORT].status, entries[REPORT].skipped_because) == ("skipped", (USAGE,))
    assert played.exit_code == 1


def test_after_a_first_batch_that_fails_the_others_are_skipped(shop):
    for dbt in (shop.fails("usage"), shop.fails("usage", batches=["2026-01-01"])):
        usage = Played(dbt, *THREE_DAYS).entries()[USAGE]
        assert (usage.status, words_of(usage)) == ("error", ["error", "skipped", "skipped"])


def test_a_run_without_the_batch_goes_well_and_does_not_count(shop):
    dbt = shop.fails("usage", batches=["2026-01-03"], times=1)
    words = (*BUILD, "--event-time-start", "2026-01-01", "--event-time-end", "2026-01-03")
    assert Played(dbt, *words).exit_code == 0
    assert Played(dbt, *THREE_DAYS).exit_code == 1
    assert Played(dbt, *THREE_DAYS).exit_code == 0


def test_the_time_of_a_model_is_that_of_its_batches(shop):
    entry = Played(shop.takes("usage", 3.0), *THREE_DAYS).entries()[USAGE]
    assert [batch.execution_time for batch in entry.batches] == [1.0] * 3
    assert entry.execution_time == 3.0


def test_run_results_tell_the_same_of_the_batches(shop, tmp_path):
    dbt = shop.fails("usage", batches=["2026-01-02"])
    played = Played(dbt, *THREE_DAYS, "--project-dir", str(tmp_path), project_dir=str(tmp_path))
    content = (tmp_path / "target/run_results.json").read_bytes()
    found = {one["unique_id"]: one for one in json.loads(content)["results"]}[USAGE]
    days = [f"2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3, 4)]
    assert found["batch_results"] == {
        "successful": [[days[0], days[1]], [days[2], days[3]]],
        "failed": [[days[1], days[2]]],
    }
    assert found["message"] == "PARTIAL SUCCESS (2/3)"
    assert played.entries(content)[USAGE] == played.entries()[USAGE]


@pytest.mark.parametrize(
    ("size", "words", "names"),
    [
        ("day", ["--event-time-start=2026-01-30T07:00:00+00:00", "--event-time-end=2026-02-01T06:00:00Z"],
         ["2026-01-30", "2026-01-31", "2026-02-01"]),
        ("hour", ["--event-time-start", "2026-01-31T22:30:00", "--event-time-end", "2026-02-01"],
         ["2026-01-31T22", "2026-01-31T23"]),
        ("month", ["--event-time-start", "2025-12-31", "--event-time-end", "2026-02-01"], ["2025-12", "2026-01"]),
        ("year", ["--event-time-start", "2024-05-01", "--event-time-end", "2026-01-02"], ["2024", "2025", "2026"]),
        ("day", [], ["2026-03-01", "2026-03-02"]),
        ("day", ["--event-time-end", "2026-03-02"], ["2026-02-28", "2026-03-01"]),
        ("month", ["--full-refresh"], ["2026-01", "2026-02", "2026-03"]),
        ("day", ["--event-time-start", "2026-03-02", "--event-time-end", "2026-03-02"], ["2026-03-02"]),
    ],
)  # fmt: skip
def test_the_batches_are_those_that_dbt_would_build(tmp_path, size, words, names):
    graph = load_manifest(
        written(tmp_path, microbatch(USAGE, batch_size=size, begin="2026-01-15", lookback=1))
    )
    now = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
    found = batches_of(graph, graph.nodes[USAGE], call_of(["build", *words]), now)
    assert [batch.name for batch in found] == names


def test_batches_that_there_cannot_be_are_refused(shop):
    for batches in ([], "2026-01-02", ["2026-01"], ["2026-1-2"], [20260102]):
        with pytest.raises(
            ArgumentError, match=r"batches=.*: a list of batches as dbt names .*: 2026-01-31|batches="
        ):
            shop.fails("usage", batches=batches)
    with pytest.raises(ArgumentError, match="report is no microbatch model"):
        shop.fails("report", batches=["2026-01-02"])


def test_the_records_of_batches_are_those_that_dbt_writes(shop):
    name = "1.9__duckdb__build_t4_fail_debug"
    recorded = {}
    for key, fields, code in events((RECORDINGS / f"{name}.jsonl").read_text()):
        recorded.setdefault(key, set()).add((fields, code))
    log = Played(shop.fails("usage", batches=["2026-01-02"]), *THREE_DAYS).log
    found = list(events(log))
    assert {"LogStartBatch", "LogBatchResult", "GenericExceptionOnRun"} <= {key[0] for key, _, _ in found}
    for key, fields, code in found:
        if key[0] in {"LogStartBatch", "LogBatchResult", "GenericExceptionOnRun", "LogModelResult"}:
            assert (fields, code) in recorded[key]
