"""One who goes on with another's journal: the log once more from its beginning, and nothing told twice."""

import json
from pathlib import Path

import msgspec
import pytest

from dbt_watch.core.journal.format import Closed
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.log.drift import Drift
from dbt_watch.core.log.progress import Progress
from dbt_watch.core.log.stale_sources import StaleSources
from dbt_watch.core.outcome import Producer, Verdict, decide
from dbt_watch.core.results import NodeInfo, NodeResult, NotRun
from dbt_watch.exceptions import PodLost
from dbt_watch.producers.attempt import failure_of
from dbt_watch.producers.build_watch import BuildWatch

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


BEGINNING = event("MainReportVersion", "", "", 0)
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
        reader = JournalReader()
        read_now(reader, pages.get)
        writer = JournalWriter(attempt=attempt)
        self.watch = BuildWatch(
            NODES, attempt=attempt, show=self.shown.append, writer=writer, known=reader.state.entries
        )
        self.publication = Publication(writer, will_retry=False, tail=reader.tail)

    def read(self, lines):
        begins = lines[0] is LOG[0]
        for line in [BEGINNING, *lines] if begins else lines:
            self.watch.take_lines([line], True)
            self.write()
        return self

    def write(self):
        self.pages.update(self.publication.rest())


def journal(pages):
    """Read a journal as a hub does that has followed it from the beginning; give all changes in order."""
    reader, changes, more = JournalReader(), [], True
    while more:
        more = reader.take(pages.get(reader.key))
        changes += reader.news
    return reader.state, changes


@pytest.mark.parametrize("read", range(1, len(LOG)))
def test_whoever_goes_on_writes_what_is_missing_and_shows_it_once(read):
    pages = {}
    first = Follower(pages).read(LOG[:read])
    reader = JournalReader()
    read_now(reader, pages.get)
    before = {key: value for key, value in pages.items() if key != reader.key}  # a blank page lies there
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
    second.watch.take_lines([BEGINNING, *LOG], True)
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
    second = Follower(pages).read([*LOG[4:], event("StatsLine", "", "", 9)])
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
    watch.take_lines([BEGINNING, *LOG[:3], b"Runtime Error: no s3cr3t here"], True)
    watch.end(1, "killed with s3cr3t")
    (chunk,) = [watch.writer.take()]
    assert "s3cr3t" not in repr((shown, chunk, watch.results, watch.closed, watch.summary()))
    assert "***" in repr(shown)
    assert "killed with ***" in repr(chunk.changes)


def test_the_end_is_taken_once_shown_and_written():
    shown = []
    watch = BuildWatch(NODES, attempt=1, show=shown.append)
    watch.take_lines([BEGINNING, *LOG[:3]], True)
    assert watch.end(137, "OOMKilled")
    assert not watch.end(1, "another")
    assert shown[-1].strip() == "b NOT RUN: dbt ended before this node finished (exit code 137: OOMKilled)"
    assert watch.closed == watch.writer.take().closed == Closed(exit_code=137, reason="OOMKilled")
    early = NotRun.ENDED_EARLY
    assert [result.not_run for result in watch.results] == [None, NotRun.UNFINISHED, early, early]


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
    watch.take_lines([BEGINNING, checked, *LOG[:6]], True)
    watch.end(0)
    pages.update(Publication(writer, will_retry=False).rest())
    state, _ = journal(pages)
    assert state.closed == watch.closed
    assert state.closed.exit_code == exit_code
    assert state.entries["model.shop.d"].message == "source `raw.a` is stale"


def failed_watch(*, exit_code=1):
    """Return a watch of a build of which two nodes failed, the one that began last first."""
    watch = BuildWatch(
        NODES, attempt=1, show=lambda _: None, redact=lambda text: text and text.replace("hunter2", "***")
    )
    watch.take_lines([BEGINNING], True)
    for node, second in (("a", 9), ("b", 5)):
        watch.take_lines([event("LogStartLine", node, "started", 1)], True)
        error = json.loads(event("CatchableExceptionOnRun", node, "started", second))
        error["data"]["exc"] = f"Database Error in model {node}\n  no such column: hunter2\n             ^^^^"
        watch.take_lines([json.dumps(error).encode(), event("LogModelResult", node, "error", second)], True)
    watch.take_lines([event("SkippingDetails", "c", "skipped", 10)], True)
    watch.end(exit_code)
    return watch


def test_a_failed_build_says_first_what_failed_first_in_dbts_words():
    watch = failed_watch()
    assert str(failure_of(1, watch.closed.reason, watch.summary(), PodLost)) == (
        "dbt ended with exit code 1: b: Database Error in model b no such column: ***;"
        " 2 error, 1 skipped, 1 not run; failed: a, b"
    )


def test_a_failed_build_says_at_once_at_the_level_of_errors_what_failed_first_and_what_it_kept_from_being_built():
    nodes = {
        "model.shop.a": NodeInfo("a", "model"),
        "model.shop.b": NodeInfo("b", "model"),
        "model.shop.c": NodeInfo("c", "model", depends_on=("model.shop.b",)),
    }
    shown, told = [], []
    watch = BuildWatch(nodes, attempt=1, show=shown.append, fail=told.append)
    watch.take_lines([BEGINNING], True)
    for node, second in (("a", 3), ("b", 5)):
        watch.take_lines([event("LogStartLine", node, "started", 1)], True)
        error = json.loads(event("CatchableExceptionOnRun", node, "started", second))
        error["data"]["exc"] = f"Database Error in model {node}\n  no such column"
        watch.take_lines([json.dumps(error).encode(), event("LogModelResult", node, "error", second)], True)
    watch.take_lines([event("SkippingDetails", "c", "skipped", 6)], True)
    assert told == []
    watch.end(1)
    assert told == [
        "model b: error: Database Error in model b",
        "      no such column",
        "not built because of it: 1 node, c",
        "besides: a: error",
    ]
    assert watch.summary().startswith("b: Database Error in model b no such column; ")


def test_a_build_that_ended_well_has_no_failure_to_tell():
    told = []
    watch = watched(WHOLE, fail=told.append)[0]
    assert (told, watch.failure_lines()) == ([], [])


def test_whoever_goes_on_with_a_journal_finds_the_cause_of_what_it_has_not_read_itself():
    known = {"model.shop.a": ended("a", "error"), "model.shop.x": ended("x", "success")}
    told = []
    watched(WHOLE[3:], known=known, exit_code=1, fail=told.append)
    assert told[0] == "model a: error"


@pytest.mark.parametrize("is_known", [False, True])
def test_how_far_dbt_is_is_said_while_it_runs_and_by_none_who_only_catches_up(is_known):
    shown, now = [], [0.0]
    known = {"model.shop.a": ended("a", "success")} if is_known else {}
    watch = BuildWatch(NODES, attempt=1, show=shown.append, known=known)
    watch._progress = Progress(NODES, clock=lambda: now[0])
    watch.take_lines([BEGINNING, LOG[0]], True)
    for now[0] in (1.0, 20.0, 60.0):
        watch.tell_progress()
    running = [line for line in shown if line.startswith("running: ")]
    assert running == ([] if is_known else ["running: a (0 of 4 done)"])
    watch.end(0)
    now[0] = 200.0
    watch.tell_progress()
    assert [line for line in shown if line.startswith("running: ")] == running


def test_the_last_words_of_the_container_are_the_reason_of_the_end():
    watch = BuildWatch(
        NODES, attempt=1, show=lambda _: None, redact=lambda text: text and text.replace("hunter2", "***")
    )
    watch.take_lines([b"login as hunter2", b"sh: dbt: not found as hunter2."], True)
    watch.end(127)
    assert watch.closed.reason == "sh: dbt: not found as ***."
    assert str(failure_of(127, watch.closed.reason, watch.summary(), PodLost)) == (
        "dbt ended with exit code 127: sh: dbt: not found as ***; 4 not run"
    )


def numbered(line, total=4):
    """Return a record as dbt numbers its nodes: each tells how many there are."""
    record = json.loads(line)
    record["data"]["total"] = total
    return json.dumps(record).encode()


WHOLE = [BEGINNING, *map(numbered, LOG), event("StatsLine", "", "", 9)]


def watched(lines, *, nodes=NODES, exit_code=0, **arguments):
    """Return a watch that has seen these lines, and what it warned of."""
    warnings = []
    watch = BuildWatch(nodes, attempt=1, show=[].append, warn=warnings.append, **arguments)
    watch.take_lines(lines, True)
    watch.end(exit_code)
    return watch, warnings


def test_a_whole_log_ends_well_and_warns_of_nothing():
    watch, warnings = watched(WHOLE)
    assert watch.closed == Closed(0)
    assert warnings == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "4 nodes (a, b, c ...) is not known: the log contains no record from dbt"),
        ([b"Killed", b"{}"], "4 nodes (a, b, c ...) is not known: the log contains no record from dbt"),
        (
            WHOLE[:5],
            "2 nodes (c, d) is not known: the log lacks its summary, 2 of the 4 nodes that dbt counted",
        ),
        (
            WHOLE[5:],
            "2 nodes (a, b) is not known: the log lacks its beginning, 2 of the 4 nodes that dbt counted",
        ),
        (
            [*WHOLE[:4], *WHOLE[5:]],
            "1 node (b) is not known: the log lacks 1 of the 4 nodes that dbt counted",
        ),
    ],
)
def test_an_attempt_of_whose_nodes_not_all_is_known_has_not_ended_well(lines, words):
    watch, _ = watched(lines)
    assert watch.closed == Closed(1, f"dbt succeeded, but the outcome of {words}")
    assert watch.writer.take().closed == watch.closed


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 node has failed: a"), (4, "4 nodes have failed: a, b, c ...")]
)
def test_an_attempt_with_a_failed_node_has_not_ended_well_whatever_a_command_around_dbt_says(count, words):
    lines = [line.replace(b'"success"', b'"error"') for line in WHOLE[: 1 + 2 * count]]
    watch, _ = watched([*lines, *WHOLE[1 + 2 * count :]])
    assert watch.closed == Closed(1, f"dbt was reported as successful, but {words}")


def test_a_log_without_a_record_fails_even_where_no_node_could_have_been_told():
    exposure = {"exposure.shop.e": NodeInfo("e", "exposure")}
    assert watched([], nodes=exposure)[0].closed == Closed(
        1, "dbt succeeded, but the log contains no record from dbt"
    )
    assert watched([], nodes={})[0].closed == Closed(0)


def test_of_a_check_of_sources_its_own_log_is_missed():
    sources = {f"source.shop.raw.{name}": NodeInfo(name, "source") for name in "ab"}
    check = numbered(event("LogFreshnessResult", "a", "pass", 1), total=2)
    check = check.replace(b"model.shop.a", b"source.shop.raw.a").replace(b'"model"', b'"source"')
    watch, _ = watched([BEGINNING, check, event("FreshnessCheckComplete", "", "", 2)], nodes=sources)
    words = "1 node (raw.b) is not known: the log lacks 1 of the 2 nodes that dbt counted"
    assert watch.closed == Closed(1, f"dbt succeeded, but the outcome of {words}")


@pytest.mark.parametrize(
    ("known", "is_shown"),
    [("model.shop.left_out", True), ("model.shop.a", False), ("operation.shop.shop-on-run-start-0", False)],
)
def test_what_was_known_before_there_was_a_log_keeps_no_line_of_it_from_being_shown(known, is_shown):
    shown = []
    result = NodeResult(unique_id=known, resource_type=known.partition(".")[0], status="success")
    watch = BuildWatch(NODES, attempt=1, show=shown.append, known={known: result})
    watch.take_lines([b"Running with dbt=1.12.0"], True)
    assert shown == ["Running with dbt=1.12.0"] * is_shown


def test_what_the_journal_holds_is_known_though_the_log_has_lost_it():
    known = {result.unique_id: result for result in watched(WHOLE)[0].results if result.name in "ab"}
    assert watched(WHOLE[5:], known=known)[0].closed == Closed(0)


def test_where_the_journal_holds_all_no_record_of_the_log_is_missed():
    known = {result.unique_id: result for result in watched(WHOLE)[0].results}
    assert watched([], known=known)[0].closed == Closed(0)


def test_a_journal_and_its_entries_are_of_the_attempt_that_writes_them():
    watch = BuildWatch(NODES, attempt=3, show=[].append)
    watch.take_lines(WHOLE, True)
    assert watch.writer.take().attempt == 3
    assert {result.attempt for result in watch.results} == {3}


def test_a_failure_whose_time_is_not_known_is_told_after_one_whose_time_is():
    untimed = NodeResult(unique_id="model.shop.x", name="x", status="error", message="when?")
    built = watched(WHOLE)[0].results[0]
    timed = msgspec.structs.replace(built, status="error", message="then")
    watch = BuildWatch({}, attempt=1, show=[].append)
    watch.adopt([untimed, timed])
    assert watch.summary().startswith("a: then; ")


@pytest.mark.parametrize(("on_drift", "exit_code"), [("warn", 0), ("fail", 1)])
def test_what_only_the_manifest_or_only_the_project_holds_is_named_once(on_drift, exit_code):
    nodes = {**{key: NODES[key] for key in list(NODES)[:3]}, "model.shop.gone": NodeInfo("gone", "model")}
    watch, warnings = watched(WHOLE, nodes=nodes, drift=Drift(on_drift=on_drift))
    found = "the manifest and the project that dbt ran differ; only in the manifest: gone; only in the project that dbt ran: d"
    assert warnings == [f"{found}. Both must come from the same commit."]
    assert watch.closed == Closed(exit_code, found if exit_code else None)
    (gone,) = [result for result in watch.results if result.name == "gone"]
    decision = decide(Producer("failed" if exit_code else "success", watch.closed), [(gone.unique_id, gone)])
    assert decision.verdict is Verdict.SKIP
    assert "the project that dbt ran does not contain this model" in decision.reason


@pytest.mark.parametrize(
    "node",
    [
        NodeInfo("x", "model", "ephemeral"),
        NodeInfo("x", "model", is_empty=True),
        NodeInfo("x", "exposure"),
        NodeInfo("x", "saved_query"),
    ],
)
def test_what_dbt_has_no_need_to_report_is_no_difference(node):
    assert watched(WHOLE, nodes={**NODES, "x": node})[1] == []


def test_what_this_attempt_does_not_build_is_no_difference():
    nodes = {key: NODES[key] for key in list(NODES)[2:]}
    assert watched(WHOLE, nodes=nodes, drift=Drift(tuple(NODES)))[1] == []


def test_a_log_that_is_not_whole_tells_of_no_node_that_it_is_not_in_the_project():
    nodes = {**NODES, "model.shop.gone": NodeInfo("gone", "model")}
    watch, warnings = watched(WHOLE[:-1], nodes=nodes)
    assert warnings == []
    assert watch.closed.exit_code == 1


def test_nodes_that_a_failure_or_a_stale_source_keeps_back_are_no_difference():
    hooks = event("LogHookEndLine", "x", "success", 1).replace(b'"model', b'"operation')
    failed = [line.replace(b'"success"', b'"error"') for line in WHOLE[:3]]
    assert watched([*failed, hooks, WHOLE[-1]], exit_code=1)[1] == []
    source = {"source.shop.raw.a": NodeInfo("a", "source")}
    stale = StaleSources({"source.shop.raw.a": ("model.shop.d",)}, "skip")
    check = numbered(event("LogFreshnessResult", "a", "error", 1), total=1)
    check = check.replace(b"model.shop.a", b"source.shop.raw.a").replace(b'"model"', b'"source"')
    checked = [BEGINNING, check, event("FreshnessCheckComplete", "", "", 2)]
    build = [numbered(line, total=3) for line in LOG[:6]]
    lines = [line.replace(b'"i"', b'"check"') for line in checked]
    watch, warnings = watched([*lines, BEGINNING, *build, WHOLE[-1]], nodes={**NODES, **source}, stale=stale)
    assert warnings == []
    assert watch.closed == Closed(0)
