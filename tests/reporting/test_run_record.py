"""The record of a run: of each kind of source, with its causes, and as JSON."""

import json

import pytest
from made_runs import INDEX, RECORDINGS, START, artifact, log, made, manifest, nodes_of, recorded

from dbt_watch.core.causes import NOT_TRACED
from dbt_watch.core.journal.format import Chunk, Closed, Page, encode_page, page_key, part_key
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.labels import label_of
from dbt_watch.core.results import NodeResult
from dbt_watch.exceptions import ArgumentError
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.reporting.assembly import record_of, with_comparison
from dbt_watch.reporting.critical_path import critical_path
from dbt_watch.reporting.manifests import manifest_at
from dbt_watch.reporting.run_record import FORMAT, RecordError, record_in
from dbt_watch.reporting.sources import decoded_xcom, evidence_of_journal, read_source


@pytest.mark.parametrize("name", INDEX)
def test_every_recorded_run_has_a_record_that_json_holds(name):
    record = recorded(name)
    assert record_in(record.to_json()) == record
    assert (record.outcome == "success") == (not record.causes)
    # A stale source is a failure, though dbt built what it was asked for after the check.
    assert (record.outcome == "success") == (INDEX[name]["exit_code"] == 0) or "freshness_build" in name
    for command in record.commands:
        for lane in command.lanes:
            assert all(command.begin <= bar.begin <= bar.end <= command.end for bar in lane.bars)


@pytest.mark.parametrize("name", [name for name in INDEX if "artifact" in INDEX[name]])
def test_every_artifact_has_a_record(name):
    path = RECORDINGS / INDEX[name]["artifact"]
    record = record_of(read_source(path.read_bytes(), path.name, {}))
    assert record_in(record.to_json()) == record
    assert {node.unique_id for node in record.nodes} == {
        result["unique_id"] for result in json.loads(path.read_text())["results"]
    }


@pytest.mark.parametrize(
    "name", [name for name in INDEX if name.startswith("1.") and "usage" not in name and "parse" not in name]
)
def test_lanes_are_threads_for_every_log_of_dbt_core(name):
    for command in recorded(name).commands:
        assert command.has_threads
        names = [lane.name for lane in command.lanes if lane.name.startswith("Thread")]
        assert len(names) <= (command.threads or 0)


def test_lanes_are_worked_out_for_fusion():
    (command,) = recorded("fusion-2.0.0-preview.196__duckdb__build_t4_ok_fresh").commands
    assert not command.has_threads
    assert [lane.name for lane in command.lanes] == [str(number + 1) for number in range(len(command.lanes))]


def test_one_failure_is_the_cause_of_all_that_was_skipped():
    name = "1.12__duckdb__jaffle_fail"
    record = recorded(name)
    (cause,) = record.causes
    assert (cause.node, cause.title) == ("model.jaffle_shop.orders", "orders: error")
    assert set(cause.blocked) == {node.unique_id for node in record.nodes if node.state == "skipped"}
    (orders,) = [node for node in record.nodes if node.unique_id == cause.node]
    assert "order_totl" in orders.message
    assert {
        meaning: sum(node.meaning == meaning for node in record.nodes)
        for meaning in ("success", "failure", "skipped")
    } == {"success": 14, "failure": 1, "skipped": 8}
    assert (record.dbt_version, record.outcome, record.commands[0].threads) == ("1.12.6", "failure", 4)


def test_a_log_at_debug_has_the_sql_that_was_sent():
    record = recorded("1.9__duckdb__build_t4_fail_debug")
    assert any(node.sql for node in record.nodes if node.meaning == "failure")


def test_of_several_failures_each_has_what_it_kept_from_being_built():
    name = "1.12__postgres__build_t4_fail_debug"
    assert NOT_TRACED in recorded(name).notes
    record = recorded(name, nodes_of(name))
    assert NOT_TRACED not in record.notes
    blocked = {cause.node: set(cause.blocked) for cause in record.causes}
    skipped = {node.unique_id: set(node.because) for node in record.nodes if node.state == "skipped"}
    assert skipped
    for unique_id, because in skipped.items():
        assert because == {cause for cause, nodes in blocked.items() if unique_id in nodes}
    counts = [len(cause.blocked) for cause in record.causes]
    assert counts == sorted(counts, reverse=True)


def test_what_fail_fast_kept_from_being_built_is_a_cause_of_its_own():
    name = "1.12__duckdb__jaffle_failfast"
    record = recorded(name, nodes_of(name))
    assert record.causes[0].node is not None
    assert any("--fail-fast" in cause.title and cause.blocked for cause in record.causes)


@pytest.mark.parametrize(
    ("name", "words"),
    [("1.12__duckdb__parse_error_yaml", "Parsing Error"), ("1.12__duckdb__connection_error", "No such file"),
     ("1.12__duckdb__sigterm_midrun", "")],
)  # fmt: skip
def test_a_run_that_broke_off_says_why(name, words):
    record = recorded(name)
    assert record.outcome == "error"
    assert record.causes[-1].title == "dbt stopped early"
    assert words in (record.causes[-1].message or "")


def test_a_log_of_two_commands_has_a_timeline_of_each():
    record = recorded("1.11__duckdb__jaffle_freshness_build")
    assert [command.label for command in record.commands] == ["source freshness", "command 2 of 2"]
    assert all(bar.node.startswith("source.") for lane in record.commands[0].lanes for bar in lane.bars)


def test_nodes_of_a_manifest_that_had_no_part_in_the_run_are_left_out():
    name = "1.12__duckdb__jaffle_fail"
    record = recorded(
        name, {**nodes_of(name), "model.jaffle_shop.elsewhere": nodes_of(name)["model.jaffle_shop.orders"]}
    )
    assert "model.jaffle_shop.elsewhere" not in {node.unique_id for node in record.nodes}
    assert any("were not part of the run" in note for note in record.notes)


@pytest.fixture
def shop(tmp_path):
    """Return the path of a manifest with two models and a test."""
    path = tmp_path / "manifest.json"
    columns = {"id": {"name": "id", "description": "the key", "data_type": "integer"}}
    path.write_bytes(
        manifest(
            {"model.shop.a": [], "model.shop.b": ["model.shop.a"], "test.shop.a_id": ["model.shop.a"]},
            more={"model.shop.a": {"description": "all of a", "columns": columns}},
        )
    )
    return path


def test_a_manifest_adds_files_descriptions_columns_tests_and_the_critical_path(shop):
    known = manifest_at(str(shop))
    content = artifact(
        {"model.shop.a": (0, 2, {}), "test.shop.a_id": (2, 3, {"status": "pass"}), "model.shop.b": (3, 7, {})}
    )
    record = record_of(read_source(content, "run_results.json", known.runnable), known)
    node = record.nodes[0]
    assert (node.path, node.description, node.tests) == ("models/a.sql", "all of a", ("test.shop.a_id",))
    assert [(column.name, column.type, column.description) for column in node.columns] == [
        ("id", "integer", "the key")
    ]
    assert record.critical_path.nodes == ("model.shop.a", "test.shop.a_id", "model.shop.b")
    assert record.critical_path.seconds == 7
    assert record.notes == ()


def test_an_artifact_tells_threads_and_the_sql_of_a_failure():
    failure = {"status": "error", "message": "no such table", "compiled_code": "select 1 from nothing"}
    record = made({"model.shop.a": (0, 2, failure), "model.shop.b": (0, 3, {})}, threads=2)
    assert [lane.name for lane in record.commands[0].lanes] == ["Thread-1", "Thread-2"]
    assert record.nodes[0].sql == "select 1 from nothing"
    assert record.outcome == "failure"


def test_the_critical_path_of_a_recorded_run():
    name = "1.12__duckdb__jaffle_fail"
    record, nodes = recorded(name), nodes_of(name)
    spans = {
        bar.node: (bar.begin, bar.end)
        for command in record.commands
        for lane in command.lanes
        for bar in lane.bars
    }
    path = critical_path(spans, {unique_id: node.depends_on for unique_id, node in nodes.items()})
    assert [label_of(node) for node in path.nodes] == [
        "raw_payments", "stg_payments", "unique_stg_payments_payment_id", "partial_payments_are_added_up", "orders",
    ]  # fmt: skip
    assert max(end - begin for begin, end in spans.values()) < path.seconds < record.seconds


# Journals.


def journal(results, *, attempt=1, closed=None):
    """Return the XComs of a producer: some nodes in the snapshot, the rest in a page."""
    half = len(results) // 2
    snapshot = Chunk(attempt=attempt, seq=0, changes=tuple(results[:half]))
    page = Chunk(attempt=attempt, seq=1, changes=tuple(results[half:]), closed=closed)
    return {
        part_key(0): encode_page(Page(snapshot, will_retry=False)),
        page_key(1): json.dumps(encode_page(Page(page, will_retry=False))),
    }


RESULTS = [
    NodeResult(unique_id="model.shop.a", resource_type="model", status="success", started_at=START, finished_at=START, invocation_id="i"),
    NodeResult(unique_id="model.shop.b", resource_type="model", status="error", message="no", started_at=START, finished_at=START, invocation_id="i"),
]  # fmt: skip


def test_a_journal_tells_its_nodes_and_how_dbt_ended():
    content = json.dumps(journal(RESULTS, closed=Closed(1))).encode()
    record = record_of(read_source(content, "xcoms.json", {}))
    assert {node.unique_id: node.state for node in record.nodes} == {
        "model.shop.a": "success",
        "model.shop.b": "error",
    }
    assert (record.outcome, record.causes[0].node) == ("failure", "model.shop.b")


@pytest.mark.parametrize("name", [name for name in INDEX if INDEX[name]["exit_code"]])
def test_the_log_of_the_producer_begins_its_failure_with_the_first_cause_of_the_report(name):
    writer = JournalWriter(attempt=1)
    nodes = nodes_of(name) if "graph" in INDEX[name] else {}
    watch = BuildWatch(nodes, attempt=1, show=[].append, writer=writer)
    watch.take_lines(log(name).read_bytes().splitlines(), True)
    watch.end(INDEX[name]["exit_code"])
    pages = {write.key: write.value for write in Publication(writer, will_retry=False).rest()}
    first, *_ = record_of(evidence_of_journal(pages.get, "the journal")).causes
    kind = "" if first.node is None else f"{first.node.partition('.')[0]} "
    assert watch.failure_lines()[0].startswith(f"{kind}{first.title}")


def test_a_pod_that_held_something_back_for_a_failure_in_another_has_failed_and_did_not_break_off():
    held = NodeResult(unique_id="model.shop.c", status="skipped", skipped_because=("model.shop.b",))
    closed = Closed(1, "1 node was not built: upstream `b` failed")
    record = record_of(read_source(json.dumps(journal([held], closed=closed)).encode(), "xcoms.json", {}))
    assert record.outcome == "failure"
    assert [cause.title for cause in record.causes] == ["upstream `b` failed"]


def test_a_journal_without_an_end_is_of_an_unfinished_run():
    record = record_of(read_source(json.dumps(journal(RESULTS[:1])).encode(), "xcoms.json", {}))
    assert record.outcome == "unfinished"
    assert any("no end" in note for note in record.notes)


def test_a_pod_that_was_lost_is_the_cause():
    closed = Closed(None, "OOMKilled")
    record = record_of(
        read_source(json.dumps(journal(RESULTS[:1], closed=closed)).encode(), "xcoms.json", {})
    )
    assert (record.outcome, record.causes[-1].message) == ("error", "OOMKilled")


def test_a_later_attempt_says_that_the_earlier_ones_are_gone():
    values = journal(RESULTS, attempt=2, closed=Closed(1))
    assert any(
        "attempt 2 only" in note
        for note in record_of(read_source(json.dumps(values).encode(), "x", {})).notes
    )


def test_extra_encodings_of_an_xcom_are_undone():
    assert decoded_xcom(json.dumps(json.dumps({"a": 1}))) == {"a": 1}
    assert decoded_xcom("{no json") == "{no json"


# What is no run.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}', "expected a dbt log"),
        (b'{"metadata": {}, "nodes": {}}', "belongs to --manifest"),
        (b'{"journal_page_00": "{}"}', "a complete journal, with the key journal_0000"),
        (b'{"journal_0000": "{}"}', "expected a journal ("),
        (b'{"metadata": [], "results": []}', "that is not damaged"),
        (b'{"format": 99, "commands": []}', f"has format 99; this version reads {FORMAT} only"),
        (b'{"format": 1, "commands": []}', "the JSON of an earlier report"),
    ],
)
def test_another_file_is_answered_with_what_was_expected(content, message):
    with pytest.raises(ArgumentError, match="FILE=") as caught:
        read_source(content, "file.json", {})
    assert message in str(caught.value)


def test_the_record_of_another_version_is_refused():
    with pytest.raises(RecordError, match="format 2"):
        record_in(b'{"format": 2}')
    with pytest.raises(RecordError, match="not the record of a run"):
        record_in(b"[]")


# Comparisons.


def change_of(before, now):
    """Return a comparison of two runs of one node, of so many seconds each."""
    first, second = (made({"model.shop.a": (0, seconds, {})}) for seconds in (before, now))
    return with_comparison(second, first).comparison


@pytest.mark.parametrize(
    ("before", "now", "slower", "faster"),
    [(10, 11, 1, 0), (10, 10.9, 0, 0), (0.1, 0.9, 0, 0), (100, 105, 0, 0), (100, 111, 1, 0), (11, 10, 0, 0), (12, 10, 0, 1), (0, 1, 1, 0)],
)  # fmt: skip
def test_slower_is_a_second_and_a_tenth(before, now, slower, faster):
    found = change_of(before, now)
    assert (len(found.slower), len(found.faster)) == (slower, faster)


def test_a_comparison_says_what_broke_what_is_well_again_what_is_new_and_what_is_gone():
    bad = {"status": "error", "message": "no"}
    before = made({"model.shop.a": (0, 1, {}), "model.shop.b": (0, 1, bad), "model.shop.old": (0, 1, {})})
    now = made({"model.shop.a": (0, 60, bad), "model.shop.b": (0, 60, {}), "model.shop.new": (0, 1, {})})
    found = with_comparison(now, before).comparison
    assert found.broken == ("model.shop.a",)
    assert found.repaired == ("model.shop.b",)
    assert (found.added, found.removed) == (("model.shop.new",), ("model.shop.old",))
    # How long a failure took says nothing.
    assert (found.slower, found.faster) == ((), ())


def test_the_greatest_difference_comes_first():
    before = made({f"model.shop.m{n}": (0, 1, {}) for n in range(3)})
    now = made({f"model.shop.m{n}": (0, 1 + (n + 1) * 2, {}) for n in range(3)})
    assert with_comparison(now, before).comparison.slower == (
        "model.shop.m2",
        "model.shop.m1",
        "model.shop.m0",
    )


def test_the_log_of_a_recording_and_its_artifact_tell_the_same_states():
    name = "1.12__duckdb__jaffle_fail"
    path = RECORDINGS / INDEX[name]["artifact"]
    of_artifact = record_of(read_source(path.read_bytes(), path.name, {}))
    assert {node.unique_id: node.state for node in of_artifact.nodes} == {
        node.unique_id: node.state for node in recorded(name).nodes
    }
