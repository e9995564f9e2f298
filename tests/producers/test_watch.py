"""One who goes on with another's journal: the log once more from its beginning, and nothing told twice."""

import json
from pathlib import Path

import pytest

from dbt_watch.core.journal import Closed, JournalState, JournalWriter
from dbt_watch.core.pages import EMPTY_PAGE, decode_page, page_key
from dbt_watch.core.results import NodeInfo, NodeResult, NotRun
from dbt_watch.core.stale import StaleSources
from dbt_watch.producers.pen import Draft
from dbt_watch.producers.watch import BuildWatch

NODES = {f"model.shop.{name}": NodeInfo(name, "model") for name in "abcd"}


def event(name, node, status, second):
    info = {
        "unique_id": f"model.shop.{node}",
        "node_name": node,
        "node_status": status,
        "resource_type": "model",
        "node_started_at": "2026-01-01T00:00:00",
        "node_finished_at": "" if status == "started" else f"2026-01-01T00:00:{second:02d}",
    }
    return json.dumps(
        {
            "info": {
                "name": name,
                "ts": f"2026-01-01T00:00:{second:02d}.000000Z",
                "level": "info",
                "msg": "",
                "invocation_id": "i",
                "code": "",
                "category": "",
                "extra": {},
                "pid": 1,
                "thread": "t",
            },
            "data": {"node_info": info, "status": status, "execution_time": 1.0, "description": node},
        }
    ).encode()


LOG = [
    line
    for number, node in enumerate("abcd")
    for line in (
        event("LogStartLine", node, "started", 2 * number),
        event("LogModelResult", node, "success", 2 * number + 1),
    )
]


class Follower:
    """A watch and its journal, as a triggerer has them."""

    def __init__(self, pages, *, attempt=1):
        self.pages = pages
        self.shown = []
        state = JournalState()
        while (page := decode_page(pages.get(page_key(state.next_seq), EMPTY_PAGE))) is not None:
            state.apply(page.chunk)
        writer = JournalWriter(attempt=attempt)
        self.watch = BuildWatch(
            NODES, attempt=attempt, show=self.shown.append, writer=writer, known=state.entries
        )
        self.draft = Draft(writer, will_retry=False, first_page=state.next_seq)

    def read(self, lines):
        for line in lines:
            self.watch.take_lines([line], True)
            self.write()
        return self

    def write(self):
        self.pages.update(self.draft.rest())


def journal(pages):
    """Read a journal as a hub does that has followed it from the beginning; give all changes in order."""
    state, changes = JournalState(), []
    while (page := decode_page(pages.get(page_key(state.next_seq), EMPTY_PAGE))) is not None:
        changes += state.apply(page.chunk)
    return state, changes


@pytest.mark.parametrize("read", range(1, len(LOG)))
def test_whoever_goes_on_writes_what_is_missing_and_shows_it_once(read):
    pages = {}
    first = Follower(pages).read(LOG[:read])
    before = {key: value for key, value in pages.items() if value != EMPTY_PAGE and "head" not in key}
    second = Follower(pages).read(LOG)
    second.watch.end(0)
    second.write()
    assert {key: pages[key] for key in before} == before
    state, changes = journal(pages)
    assert state.closed.exit_code == 0
    assert [entry.status for entry in state.entries.values()] == ["success"] * 4
    told = [(change.unique_id, change.status) for change in changes]
    assert len(told) == len(set(told)) == len(LOG)
    assert [*first.shown, *second.shown] == Follower({}).read(LOG).shown


def test_a_log_that_is_read_again_in_one_piece_is_shown_from_where_it_is_new():
    pages = {}
    first = Follower(pages).read(LOG[:3])
    second = Follower(pages)
    second.watch.take_lines(LOG, True)
    assert [*first.shown, *second.shown] == Follower({}).read(LOG).shown


def test_the_end_alone_may_be_missing():
    pages = {}
    Follower(pages).read(LOG)
    second = Follower(pages).read(LOG)
    assert not second.shown
    second.watch.end(0)
    second.write()
    assert journal(pages)[0].closed.exit_code == 0


def test_a_log_whose_beginning_is_lost_takes_nothing_back():
    pages = {}
    Follower(pages).read(LOG[:4])
    second = Follower(pages).read(LOG[4:])
    second.watch.end(0)
    second.write()
    assert [entry.status for entry in journal(pages)[0].entries.values()] == ["success"] * 4


def test_what_an_earlier_pod_has_built_stands_in_the_journal():
    pages = {}
    done = Follower({}).read(LOG[:4]).watch.results[:2]
    follower = Follower(pages)
    follower.watch.adopt(done)
    follower.write()
    assert set(journal(pages)[0].entries) == {"model.shop.a", "model.shop.b"}
    assert [result.name for result in follower.watch.results] == ["a", "b"]


def test_secrets_are_taken_out_before_anything_is_shown_or_written():
    shown = []
    watch = BuildWatch(
        NODES,
        attempt=1,
        show=shown.append,
        redact=lambda value: value and str(value).replace("s3cr3t", "***"),
    )
    watch.take_lines([*LOG[:3], b"Runtime Error: no s3cr3t here"], True)
    watch.end(1, "killed with s3cr3t")
    (chunk,) = [watch.writer.take()]
    assert "s3cr3t" not in repr((shown, chunk, watch.results, watch.closed, watch.summary()))
    assert "***" in repr(shown)
    assert "killed with ***" in repr(chunk.changes)


@pytest.mark.parametrize(
    ("exit_code", "line", "not_run"),
    [
        (0, "b NOT RUN: dbt ended well, but never said how this node ended", NotRun.NOTHING_TO_RUN),
        (
            137,
            "b NOT RUN: dbt ended before this node finished (OOMKilled: exit code 137)",
            NotRun.ENDED_EARLY,
        ),
    ],
)
def test_the_end_is_taken_once_shown_and_written(exit_code, line, not_run):
    shown = []
    watch = BuildWatch(NODES, attempt=1, show=shown.append)
    watch.take_lines(LOG[:3], True)
    assert watch.end(exit_code, "OOMKilled")
    assert not watch.end(1, "another")
    assert shown[-1].strip() == line
    assert watch.closed == watch.writer.take().closed == Closed(exit_code=exit_code, reason="OOMKilled")
    assert [result.not_run for result in watch.results] == [None, NotRun.UNFINISHED, not_run, not_run]


def test_who_goes_on_with_a_journal_shows_how_what_is_open_ended():
    pages = {}
    Follower(pages).read(LOG[:3])
    second = Follower(pages).read(LOG[:3])
    second.watch.end(1)
    second.write()
    assert [line for line in second.shown if "b NOT RUN" in line]
    assert journal(pages)[0].entries["model.shop.b"].not_run is NotRun.UNFINISHED


def summary_of(results):
    watch = BuildWatch({}, attempt=1, show=lambda line: None)
    watch.adopt(results)
    return watch.summary()


def ended(name, status):
    return NodeResult(unique_id=f"model.shop.{name}", name=name, resource_type="model", status=status)


def test_a_summary_counts_the_nodes_and_names_those_that_failed():
    results = [ended("a", "success"), ended("b", "success"), ended("c", "error"), ended("d", "skipped")]
    assert summary_of(results) == "2 success, 1 error, 1 skipped; failed: c"
    assert summary_of(results[:2]) == "2 success"
    assert summary_of([]) == "no node was reported"


@pytest.mark.parametrize(("count", "end"), [(10, "f9"), (11, "f9 ...")])
def test_a_summary_names_ten_nodes_at_most(count, end):
    summary = summary_of([ended(f"f{number}", "error") for number in range(count)])
    assert summary.startswith(f"{count} error; failed: f0, f1, ")
    assert summary.endswith(f", f8, {end}")


RECORDED = Path(__file__).parent.parent / "recordings" / "1.9__duckdb__build_t4_fail_debug.jsonl"
BROKEN, SEED = "model.shop.bad_model", "seed.shop.raw_customers"


@pytest.mark.parametrize(
    ("secret", "unique_id", "field"),
    [
        ("nonexistent_column", BROKEN, "message"),
        ("nonexistent_column", BROKEN, "sql"),
        ("INSERT 4", SEED, "adapter_response"),
    ],
)
def test_secrets_are_taken_out_of_what_dbt_and_the_database_say_of_a_node(secret, unique_id, field):
    watch = BuildWatch(
        {},
        attempt=1,
        show=lambda line: None,
        redact=lambda value: json.loads(json.dumps(value).replace(secret, "***")),
    )
    watch.take_lines(RECORDED.read_bytes().splitlines(), True)
    watch.end(1)
    for results in (watch.writer.take().changes, watch.results):
        told = {result.unique_id: str(getattr(result, field)) for result in results}
        assert "***" in told[unique_id]
        assert not [text for text in told.values() if secret in text]


@pytest.mark.parametrize(("on_stale", "exit_code"), [("fail", 1), ("skip", 0)])
def test_a_stale_source_makes_an_attempt_end_badly_though_the_build_was_good(on_stale, exit_code):
    pages = {}
    source = "source.shop.raw.a"
    nodes = {**NODES, source: NodeInfo("a", "source")}
    writer = JournalWriter(attempt=1)
    stale = StaleSources({source: ("model.shop.d",)}, on_stale)
    watch = BuildWatch(nodes, attempt=1, show=[].append, writer=writer, stale=stale)
    checked = (
        event("LogFreshnessResult", "a", "error", 1)
        .replace(b"model.shop.a", b"source.shop.raw.a")
        .replace(b'"model"', b'"source"')
    )
    watch.take_lines([checked, *LOG[:6]], True)
    watch.end(0)
    pages.update(Draft(writer, will_retry=False).rest())
    state, _ = journal(pages)
    assert state.closed == watch.closed
    assert state.closed.exit_code == exit_code
    assert state.entries["model.shop.d"].message == "source `raw.a` is stale"
