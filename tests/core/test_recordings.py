"""Each recorded run of dbt: the last states are those that dbt itself wrote into run_results.json."""

import json

import pytest
from recorded import (
    HERE,
    INDEX,
    NAMES,
    SMALL,
    WITH_RUN_RESULTS,
    artifact_of,
    entries_of,
    exit_code_of,
    graph_of,
    log_of,
    read,
    stream_of,
)

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.results import NodeInfo, NodeResult, NotRun

# Where dbt's log and dbt's run_results.json differ, by design of dbt. Each row: which recordings (a part of the name), what
# run_results.json says, its message ("" for any), what the ledger says from the log alone, and why. The ledger is right to
# follow the log: a sensor acts on it long before there is a run_results.json.
EXCEPTIONS = (
    ("failfast", "skipped", "Skipping due to fail_fast", "not run",
     "nothing in the log names the nodes that --fail-fast keeps from running"),
    ("1.12__duckdb__build_failfast", "skipped", "Skipping due to fail_fast", "error",
     "a query that --fail-fast cancels fails in the log, and counts as skipped in run_results.json"),
    ("1.12__duckdb__build_failfast", "skipped", "Skipping due to fail_fast", "success",
     "a node that was done in the moment of --fail-fast is OK in the log, and counts as skipped in run_results.json"),
    ("fusion-2.0.0-preview.196__duckdb__build_failfast", "error", "Compilation Error", "",
     "with --fail-fast, Fusion writes an error for every node, whatever became of it"),
    ("2.0.0", "skipped", "Skipped", "no-op",
     "Fusion reports an ephemeral model as a no-op, and writes it as skipped"),
    ("2.0.0", "error", "Error", "fail",
     "Fusion reports a failed unit test as fail, and writes it as error"),
)  # fmt: skip


def _is_excepted(name, result, entry):
    return any(
        where in name
        and result["status"] == status
        and (not message or result["message"] == message)
        and (not ours or entry.status == ours)
        for where, status, message, ours, _why in EXCEPTIONS
    )


def _results_of(name):
    return json.loads(artifact_of(name))["results"]


@pytest.mark.parametrize("name", WITH_RUN_RESULTS)
def test_the_log_alone_ends_in_the_states_that_dbt_wrote(name):
    entries = entries_of(name)
    wrong = {
        result["unique_id"]: (result["status"], entries[result["unique_id"]].status)
        for result in _results_of(name)
        if entries[result["unique_id"]].status != result["status"]
        and not _is_excepted(name, result, entries[result["unique_id"]])
    }
    assert wrong == {}


def test_each_exception_is_still_one():
    used = {
        row
        for row in EXCEPTIONS
        for name in WITH_RUN_RESULTS
        for result in _results_of(name)
        if (entry := entries_of(name)[result["unique_id"]]).status != result["status"]
        and row[0] in name and row[1] == result["status"] and row[3] in {"", entry.status}
    }  # fmt: skip
    assert used == set(EXCEPTIONS)


@pytest.mark.parametrize("name", WITH_RUN_RESULTS)
def test_the_log_and_run_results_agree_on_figures_and_texts(name):
    entries = entries_of(name)
    for result in _results_of(name):
        entry = entries[result["unique_id"]]
        if entry.status != result["status"]:
            continue
        if entry.failures is not None:
            assert entry.failures == result.get("failures", entry.failures)
        rows = result["adapter_response"].get("rows_affected", -1)
        if entry.rows_affected is not None and rows >= 0:
            assert entry.rows_affected == rows
        if entry.execution_time and "2.0.0" not in name:  # of a no-op the log says 0
            assert entry.execution_time == pytest.approx(result["execution_time"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in WITH_RUN_RESULTS if "2.0.0" not in name])
def test_a_failed_node_has_the_first_line_of_the_error_that_dbt_wrote(name):
    entries = entries_of(name)
    for result in _results_of(name):
        entry = entries[result["unique_id"]]
        if (
            entry.status == result["status"]
            and result["status"] in {"error", "fail", "warn"}
            and result["message"]
        ):
            wanted = result["message"].strip().split("\n")[0].strip()
            if (
                wanted == "ERROR" or "\x1b" in wanted
            ):  # of a microbatch model and a unit test; the log knows more
                assert entry.message
            elif entry.message is not None:
                # Where the adapter's error is wrapped, the debug log says "Runtime Error" and the artifact "Database Error".
                assert wanted.split(" in ")[-1] in entry.message
            else:
                assert "sigint" in name or "failfast" in name  # the summary with the texts never came


@pytest.mark.parametrize("name", NAMES)
def test_no_node_stays_open_and_each_that_was_not_run_says_why(name):
    entries = entries_of(name)
    assert set(graph_of(name)) <= set(entries)
    assert [entry for entry in entries.values() if not entry.is_final] == []
    assert [
        entry for entry in entries.values() if entry.was_not_run and not (entry.message and entry.not_run)
    ] == []


@pytest.mark.parametrize("name", [name for name in WITH_RUN_RESULTS if "failfast" not in name])
def test_each_skipped_node_names_the_failed_nodes_before_it(name):
    entries = entries_of(name)
    for entry in entries.values():
        if entry.is_skipped:
            assert entry.skipped_because
            assert all(entries[cause].is_failure for cause in entry.skipped_because)


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_adds_and_never_turns_a_state(name):
    with_it = read(log_of(name), graph_of(name), exit_code_of(name), artifact_of(name))
    for unique_id, entry in entries_of(name).items():
        later = with_it[unique_id]
        assert entry.was_not_run or later.status == entry.status
        assert entry.was_not_run or entry.message is None or later.message == entry.message


@pytest.mark.parametrize("name", NAMES)
def test_the_task_log_shows_no_raw_json_and_no_control_characters(name):
    stream = stream_of(graph_of(name))
    lines = stream.feed(log_of(name)).lines + stream.close(exit_code_of(name)).lines
    assert [
        line for line in lines if '"invocation_id"' in line or not line.isprintable() or len(line) > 2_100
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_survives_json(name):
    for entry in entries_of(name).values():
        assert NodeResult.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


@pytest.mark.parametrize("name", ["1.9__duckdb__build_t4_fail_debug", "1.12__postgres__build_t4_fail_debug"])
def test_at_debug_the_error_is_there_when_the_node_fails(name):
    stream = stream_of(graph_of(name))
    for change in stream.feed(log_of(name)).changes:
        if change.status == "error":
            assert change.message


@pytest.mark.parametrize("name", [name for name in NAMES if "2.0.0" in name])
def test_of_fusion_the_error_is_there_when_the_node_fails(name):
    stream = stream_of(graph_of(name))
    for change in stream.feed(log_of(name)).changes:
        if change.status == "error":
            assert change.message
            assert "<unknown>" not in change.message


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("1.12__duckdb__build_failfast_t4", {NotRun.FAIL_FAST, NotRun.EPHEMERAL, NotRun.NOTHING_TO_RUN}),
        ("fusion-2.0.0-preview.196__duckdb__build_failfast_t4",
         {NotRun.FAIL_FAST, NotRun.EPHEMERAL, NotRun.UNFINISHED, NotRun.NOTHING_TO_RUN}),
        ("1.12__duckdb__ephemeral_fail_empty_model", {NotRun.NOTHING_TO_RUN}),
        ("1.12__duckdb__build_select_nothing", {NotRun.NOT_IN_PROJECT, NotRun.NOTHING_TO_RUN, NotRun.EPHEMERAL}),
        ("1.11__duckdb__build_t4_ok_fresh", {NotRun.NOT_IN_PROJECT, NotRun.EPHEMERAL}),
        ("1.12__duckdb__connection_error", {NotRun.ENDED_EARLY, NotRun.EPHEMERAL}),
        ("1.12__duckdb__on_run_start_fail", {NotRun.ENDED_EARLY}),
        ("1.12__duckdb__sigterm_midrun", {NotRun.ENDED_EARLY, NotRun.EPHEMERAL, NotRun.UNFINISHED}),
        ("1.12__postgres__sigkill_midrun", {NotRun.ENDED_EARLY, NotRun.EPHEMERAL, NotRun.UNFINISHED}),
        ("1.12__duckdb__sigint_midrun", {NotRun.ENDED_EARLY, NotRun.EPHEMERAL}),
    ],
)  # fmt: skip
def test_the_reason_of_what_was_not_run_is_told_apart(name, why):
    assert {entry.not_run for entry in entries_of(name).values() if entry.was_not_run} == why


def test_a_crash_says_its_error_for_each_node():
    entry = entries_of("1.12__duckdb__connection_error")["model.shop.orders"]
    assert "Cannot open file" in entry.message


def test_the_run_results_of_another_command_are_not_believed():
    name = "1.12__duckdb__build_t4_ok_partialparse"
    foreign = json.loads(artifact_of(name))
    foreign["metadata"]["invocation_id"] = "another"
    first = log_of(name)[:40_000]
    without = read(first, graph_of(name), 137)
    assert read(first, graph_of(name), 137, json.dumps(foreign).encode()) == without
    assert read(first, graph_of(name), 137, artifact_of(name)) != without


def test_failures_beyond_32_bits_are_read_from_the_note_that_holds_them():
    entries = entries_of("1.12__duckdb__proto_overflow_info")
    assert entries["test.ov.overflow_fail.8a0ff66e5a"].failures == 8_146_686_661
    assert entries["test.ov.overflow_warn.5bdcaea70f"].status == "warn"


def test_records_behind_prints_without_an_end_are_all_found():
    entries = entries_of("1.12__duckdb__python_model_prints_interleaved")
    assert len(entries) == 34
    assert all(entry.is_success for entry in entries.values())


def test_a_microbatch_model_has_its_batches_and_ends_once():
    name = "1.10__duckdb__build_t4_fail_fresh"
    model = entries_of(name)["model.shop.mb_orders_partfail"]
    assert model.status == "partial success"
    assert [(batch.index, batch.status) for batch in model.batches] == [
        (1, "success"),
        (2, "error"),
        (3, "success"),
    ]
    assert model.batch_count == 3
    assert "nonexistent_col" in model.message
    stream = stream_of(graph_of(name))
    states = [
        change.status for change in stream.feed(log_of(name)).changes if change.unique_id == model.unique_id
    ]
    assert states == ["started", "partial success"]


def test_hooks_are_entries():
    entries = entries_of("1.12__duckdb__on_run_start_fail")
    assert entries["operation.shop.shop-on-run-start-1"].status == "error"
    assert entries["model.shop.stg_orders"].skipped_because == ("operation.shop.shop-on-run-start-1",)


def test_freshness_ends_in_the_words_of_freshness():
    entries = entries_of("1.12__duckdb__source_freshness")
    source = entries["source.shop.raw.missing_src"]
    assert source.status == "runtime error"
    assert source.is_failure
    assert "does not exist" in source.message


@pytest.mark.parametrize("version", ["1.8", "1.11"])
@pytest.mark.parametrize("on_stale", ["fail", "skip"])
def test_a_check_and_a_build_in_one_log_tell_what_stale_sources_held_back(version, on_stale):
    name = f"{version}__duckdb__jaffle_freshness_build"
    sources = {key: f"source.jaffle_shop.recorded.{key}" for key in ("fresh", "late", "too_late", "missing")}
    behind = {key: f"model.jaffle_shop.read_{key}" for key in ("both", *sources)}
    readers = {
        sources["fresh"]: (behind["both"], behind["fresh"]),
        sources["late"]: (behind["late"],),
        sources["too_late"]: (behind["both"], behind["too_late"]),
        sources["missing"]: (behind["missing"],),
    }
    ledger = Ledger(graph_of(name), stale=StaleSources(readers, on_stale))
    stream = LogStream(ledger)
    stream.feed(log_of(name))
    stream.close(0)
    entries = ledger.entries
    assert {key: entries[source].status for key, source in sources.items()} == {
        "fresh": "pass", "late": "warn", "too_late": "error", "missing": "runtime error",
    }  # fmt: skip
    held_back = {
        key for key, model in behind.items() if entries[model].is_skipped or entries[model].was_not_run
    }
    assert held_back == {"both", "too_late", "missing"}
    assert entries[behind["both"]].message == "source `recorded.too_late` is stale"
    assert entries[behind["missing"]].message == "source `recorded.missing` could not be checked"
    assert all(entries[behind[key]].is_skipped is (on_stale == "fail") for key in held_back)
    assert {entry.status for key, entry in entries.items() if "daily_revenue" in key} <= {"success", "pass"}


def test_a_node_that_dbt_was_to_select_itself_and_did_not_is_left_out():
    name = "1.11__duckdb__jaffle_freshness_build"
    nodes = {**graph_of(name), "model.jaffle_shop.unchanged": NodeInfo("unchanged", "model", "view")}
    ledger = Ledger(nodes, stale=StaleSources(left_to_dbt="left out of this run by these words"))
    stream = LogStream(ledger)
    stream.feed(log_of(name))
    stream.close(0)
    entry = ledger.entries["model.jaffle_shop.unchanged"]
    assert (entry.not_run, entry.message) == (NotRun.LEFT_OUT, "left out of this run by these words")
    assert ledger.entries["source.jaffle_shop.recorded.fresh"].is_success


def test_a_debug_log_shows_no_more_than_an_info_log_and_the_texts():
    lines = stream_of().feed(log_of("1.9__duckdb__build_t4_fail_debug")).lines
    assert len(lines) < 400
    assert not any("BEGIN" in line or "On model." in line for line in lines)


def test_every_recording_is_listed():
    assert len(INDEX) == len(list(HERE.glob("*.jsonl")))


@pytest.mark.parametrize("name", [name for name in SMALL if "t4" in name])
def test_nodes_know_their_thread_and_no_thread_runs_two_at_once(name):
    stream = stream_of(graph_of(name))
    stream.feed(log_of(name))
    stream.close(exit_code_of(name), artifact_of(name))
    ran = [entry for entry in stream.ledger.entries.values() if entry.started_at and entry.finished_at]
    if not name.startswith("1."):
        # All threads of Fusion have the same name in its log.
        assert {entry.thread for entry in ran if not entry.from_run_results} == {None}
        return
    assert stream.ledger.run.threads == 4
    assert {entry.thread for entry in ran if entry.resource_type != "operation"} <= {
        f"Thread-{number}" for number in range(1, 5)
    }
    assert {entry.thread for entry in ran if entry.resource_type == "operation"} <= {"MainThread"}
    ended = {}
    for entry in sorted(ran, key=lambda entry: (entry.started_at, entry.finished_at)):
        if entry.is_success or entry.is_failure:
            assert ended.get(entry.thread, entry.started_at) <= entry.started_at
            ended[entry.thread] = entry.finished_at
