"""The SQL of a failed node: the last that dbt has sent to the database for it, however its log was cut."""

import json
from pathlib import Path

import pytest

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.queries import MAX_SQL_CHARS, Queries
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.log.task_log import finished_lines

RECORDINGS = Path(__file__).parents[1] / "recordings"
DEBUG = ("1.9__duckdb__build_t4_fail_debug", "1.12__postgres__build_t4_fail_debug")
BAD_MODEL = "model.shop.bad_model"


def entries(name, read):
    ledger = Ledger()
    stream = LogStream(ledger)
    read(stream, (RECORDINGS / f"{name}.jsonl").read_bytes())
    stream.close(1)
    return ledger.entries


def at_once(stream, data):
    stream.feed(data)


def in_pieces(stream, data):
    for start in range(0, len(data), 1_000):
        stream.feed(data[start : start + 1_000])


def line_by_line(stream, data):
    for line in data.split(b"\n"):
        stream.feed_lines([line])


@pytest.mark.parametrize("read", [at_once, in_pieces, line_by_line])
@pytest.mark.parametrize("name", DEBUG)
def test_a_failed_node_has_the_sql_that_failed(name, read):
    found = entries(name, read)
    assert "nonexistent_column" in found[BAD_MODEL].sql
    assert not found[BAD_MODEL].sql.startswith("/*"), "without dbt's comment"
    assert not [entry.unique_id for entry in found.values() if entry.sql and not entry.is_failure]


def test_the_log_of_its_task_shows_it():
    lines = finished_lines(entries(DEBUG[0], at_once)[BAD_MODEL])
    assert "dbt had sent to the database:" in lines
    assert any("nonexistent_column" in line for line in lines)


def record(unique_id, sql):
    info = {"name": "SQLQuery", "level": "debug", "ts": "2026-01-01T00:00:00Z", "invocation_id": "i"}
    return json.dumps({"data": {"node_info": {"unique_id": unique_id}, "sql": sql}, "info": info}).encode()


def test_the_last_query_counts_and_is_told_once():
    queries = Queries()
    for sql in ("begin", "/* {} */ select 1"):
        queries.note_record(record("model.a", sql))
    assert queries.last_of("model.a") == "select 1"
    assert queries.last_of("model.a") is None


@pytest.mark.parametrize(
    ("front", "behind"),
    [(b"", b"}}"), (b'{"level":"info","data":"text"}', b""), (b'{"data": "x"}', b"42 {}}}")],
)
def test_a_print_without_an_end_does_not_hide_a_query(front, behind):
    queries = Queries()
    queries.note_record(front + record("model.a", "select 1") + behind)
    assert queries.last_of("model.a") == "select 1"


@pytest.mark.parametrize(
    "line", [b"", b'{"unique_id": "model.a"', record("model.a", None), record("model.a", " ")]
)
def test_what_is_no_query_is_none(line):
    queries = Queries()
    queries.note_record(line)
    assert queries.last_of("model.a") is None


def test_what_is_kept_is_bounded():
    queries = Queries()
    queries.note_record(record("model.long", "x" * 10_000_000))
    assert queries.last_of("model.long") is None
    queries.note_record(record("model.long", "x" * 100_000))
    assert len(queries.last_of("model.long")) < MAX_SQL_CHARS + 100
    for number in range(10_000):
        queries.note_record(record(f"model.{number}", "select 1"))
    assert queries.last_of("model.0") is None
    assert queries.last_of("model.9999") == "select 1"


def test_control_characters_do_not_reach_a_terminal():
    queries = Queries()
    queries.note("model.a", "select '\x1b[31mred'")
    assert "\x1b" not in queries.last_of("model.a")


CATALOG = "select name, kind, comment from the_catalog where lower(schema_name) = lower('main')"


@pytest.mark.parametrize(
    ("queries_of_node", "main"),
    [
        (["create table a as (select 1)", CATALOG, "COMMIT"], "create table a as (select 1)"),
        (["create table a__tmp as (select 1)", "INSERT into a select * from a__tmp where created > 1"], None),
        (
            ["select count(*) from (select 1) dbt_internal_test", CATALOG],
            "select count(*) from (select 1) dbt_internal_test",
        ),
        ([CATALOG, "COMMIT"], CATALOG),
        ([], ""),
    ],
)
@pytest.mark.parametrize("as_records", [True, False])
def test_the_main_query_of_a_node_is_the_one_that_builds_or_checks_it(queries_of_node, main, as_records):
    queries = Queries()
    queries.keep_main()
    for sql in queries_of_node:
        if as_records:
            data = {"node_info": {"unique_id": "model.shop.a"}, "sql": f'/* {{"app": "dbt"}} */\n{sql}'}
            queries.note_record(json.dumps({"info": {"name": "SQLQuery"}, "data": data}).encode())
        else:
            queries.note("model.shop.a", sql)
    assert queries.main_of("model.shop.a") == ((queries_of_node[-1] if main is None else main) or None)
    assert queries.main_of("model.shop.a") is None


def test_main_queries_are_kept_only_where_they_are_asked_for():
    queries = Queries()
    queries.note("model.shop.a", "create table a as (select 1)")
    assert queries.main_of("model.shop.a") is None
    assert queries.last_of("model.shop.a") == "create table a as (select 1)"


def test_main_queries_take_bounded_room(monkeypatch):
    monkeypatch.setattr("dbt_watch.core.log.queries._MAX_MAIN_BYTES", 1_000)
    queries = Queries()
    queries.keep_main()
    for number in range(100):
        queries.note(f"model.shop.m{number}", f"create table m{number} as (select '{'x' * 100}')")
    kept = [number for number in range(100) if queries.main_of(f"model.shop.m{number}")]
    assert kept == list(range(kept[0], 100))
    assert 5 < len(kept) < 10
    assert queries._main_bytes == 0
