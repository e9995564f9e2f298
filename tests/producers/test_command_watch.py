"""A command that is no build, watched: what the task log shows, and what the task returns or fails with."""

import json

from dbt_watch.exceptions import DbtRunFailed, PodLost
from dbt_watch.producers.command_watch import CommandWatch

TS = "2026-11-26T20:57:07.000000Z"


def record(name, msg, level="info", **data):
    info = {"name": name, "level": level, "ts": TS, "msg": msg, "invocation_id": "i"}
    return json.dumps({"data": data, "info": info}).encode()


BEGINNING = [
    record("MainReportVersion", "Running with dbt=1.11.16"),
    record("AdapterRegistered", "Registered adapter: duckdb=1.11.1"),
    record("FoundStats", "Found 6 models"),
]


def end(succeeded=True, elapsed=6.1944930):
    word = "succeeded" if succeeded else "failed"
    return record(
        "CommandCompleted",
        f"Command `dbt x` {word}",
        "debug",
        command="dbt x",
        success=succeeded,
        elapsed=elapsed,
    )


def watched(*lines, exit_code, reason=None, words=("docs", "generate"), redact=lambda value: value):
    shown = []
    watch = CommandWatch(words, attempt=1, show=shown.append, redact=redact)
    watch.take_lines([*BEGINNING, *lines], True)
    watch.end(exit_code, reason)
    return watch, shown


def test_the_result_tells_the_command_its_seconds_and_what_dbt_said_last():
    watch, shown = watched(
        record("BuildingCatalog", "Building catalog"), record("CatalogWritten", "Catalog written to /usr/app/x"), end(),
        exit_code=0,
    )  # fmt: skip
    assert watch.result() == {
        "command": "docs generate",
        "status": "success",
        "seconds": 6.194,
        "message": "Catalog written to /usr/app/x",
        "nodes": {},
    }
    assert shown[-1] == "20:57:07 Catalog written to /usr/app/x"


def test_what_a_macro_logs_is_the_message_and_one_that_logs_nothing_has_none():
    told, _ = watched(record("JinjaLogInfo", "granted to 3 tables"), end(), exit_code=0)
    silent, _ = watched(end(), exit_code=0)
    assert told.result()["message"] == "granted to 3 tables"
    assert silent.result()["message"] is None


def test_nodes_are_counted_by_how_they_ended():
    node = {
        "unique_id": "model.shop.orders",
        "node_name": "orders",
        "resource_type": "model",
        "node_status": "success",
    }
    watch, shown = watched(
        record("LogModelResult", "1 of 1 OK", status="success", execution_time=0.5, node_info=node),
        end(),
        exit_code=0,
    )
    assert watch.result()["nodes"] == {"success": 1}
    assert shown[-1] == "20:57:07 orders OK 0.5 s"


def test_without_a_record_of_its_end_the_seconds_are_not_known():
    watch, _ = watched(exit_code=0)
    assert watch.result()["seconds"] is None


def test_the_error_that_dbt_has_told_is_what_the_task_fails_with():
    error = record("RunningOperationCaughtError", "Encountered an error:\n  could not find a macro", "error")
    watch, _ = watched(error, end(succeeded=False), exit_code=1)
    failure = watch.failure(PodLost)
    assert isinstance(failure, DbtRunFailed)
    assert str(failure) == "dbt ended with exit code 1: Encountered an error: could not find a macro"


def test_failed_nodes_are_named():
    node = {
        "unique_id": "source.shop.raw.orders",
        "node_name": "orders",
        "resource_type": "source",
        "node_status": "error",
    }
    stale = record("LogFreshnessResult", "1 of 1 ERROR STALE", "error", status="error", node_info=node)
    watch, _ = watched(stale, end(succeeded=False), exit_code=1, words=("source", "freshness"))
    assert "failed: " in str(watch.failure(PodLost))


def test_a_pod_that_went_away_is_told_as_lost():
    watch, _ = watched(exit_code=None, reason="OOMKilled")
    assert str(watch.failure(PodLost)) == "OOMKilled"


def test_usage_errors_of_dbt_which_are_no_records_are_told():
    shown = []
    watch = CommandWatch(["ls"], attempt=1, show=shown.append)
    watch.take_lines([b"Usage: dbt ls [OPTIONS]", b"Error: No such option: --nope"], True)
    watch.end(2)
    assert str(watch.failure(PodLost)) == "dbt ended with exit code 2: Error: No such option: --nope"
    assert shown[-1] == "Error: No such option: --nope"


def test_secrets_are_masked_in_the_log_and_in_the_result():
    watch, shown = watched(
        record("JinjaLogInfo", "password is hunter2"),
        end(),
        exit_code=0,
        redact=lambda text: text and text.replace("hunter2", "***"),
    )
    assert watch.result()["message"] == "password is ***"
    assert shown[-1].endswith("password is ***")


def test_lines_that_were_read_before_a_cut_are_shown_once():
    shown = []
    watch = CommandWatch(["ls"], attempt=1, show=shown.append)
    watch.take_lines([*BEGINNING, b"free text"], True)
    watch.take_lines([b"free text"], False)
    assert shown.count("free text") == 1
