"""A log that wants to do harm: what is kept of it, and what goes into the journal, is bounded, and so is the time."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_watch.core.journal.format import Page, decode_chunk, decode_page, encode_page
from dbt_watch.core.journal.writer import JournalWriter
from dbt_watch.core.log.end_of_run import MAX_COMMANDS
from dbt_watch.core.log.events import event_inside, read_line
from dbt_watch.core.log.ledger import MAX_FOREIGN, Ledger
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.log.task_log import MAX_LINE_CHARS, MAX_LINES
from dbt_watch.core.results import MAX_MESSAGE_CHARS, NodeInfo
from dbt_watch.core.text import sanitize, without_backtrace

# What looks for a pattern in a hostile text may take for ever; then the test ends here.
pytestmark = pytest.mark.timeout(600)

MEGABYTE = 1_000_000
# A chunk has 48 KiB; the page around it, a few bytes.
PAGE_BYTES = 50 * 1024
NODE = "model.shop.orders"
MANIFEST = {NODE: NodeInfo("orders", "model")}


def record(name, number=0, *, level="info", msg="", invocation="i", **data):
    ts = f"2026-11-21T08:{number // 60_000_000:02d}:{number // 1_000_000 % 60:02d}.{number % 1_000_000:06d}Z"
    info = {"name": name, "level": level, "ts": ts, "msg": msg, "invocation_id": invocation}
    return json.dumps({"info": info, "data": data}).encode()


def node(unique_id=NODE, status="success", **more):
    return {
        "unique_id": unique_id, "node_name": unique_id.split(".")[-1], "resource_type": "model",
        "node_status": status, "node_started_at": "2026-11-21T08:00:00", **more,
    }  # fmt: skip


class Read:
    """What came of a log: entries, lines for the task log, and the pages of the journal."""

    def __init__(self, lines, exit_code=0, pages_each=500):
        ledger = Ledger(MANIFEST)
        stream, writer = LogStream(ledger), JournalWriter(attempt=1)
        self.lines, self.pages = [], []

        def take(batch):
            writer.add(batch.changes)
            self.lines += batch.lines

        def write():
            while (chunk := writer.take()) is not None:
                self.pages.append(encode_page(Page(chunk, will_retry=False)))
                writer.written(chunk)

        stream.feed_lines([record("MainReportVersion")])
        for number, line in enumerate(lines):
            take(stream.feed_lines([line]))
            if number % pages_each == 0:
                write()
        take(stream.close(exit_code))
        writer.close(exit_code)
        write()
        self.entries = dict(ledger.entries)

    @property
    def largest_page(self):
        return max(len(page.encode()) for page in self.pages)


def peak_of(action):
    """Return the most memory that Python held during an action, in bytes, and the action's result."""
    tracemalloc.start()
    try:
        result = action()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


# Size


def test_a_line_of_100_mb_is_cut_while_it_arrives():
    def read():
        splitter = LineSplitter()
        lines = [line for _ in range(100) for line in splitter.feed(b"x" * MEGABYTE)]
        lines += splitter.feed(b"\n")
        return Read(lines)

    peak, found = peak_of(read)
    assert peak < 80 * MEGABYTE
    assert len(found.lines[0]) < MAX_LINE_CHARS + 100
    assert found.largest_page < PAGE_BYTES


@pytest.mark.parametrize("megabytes", [12, 50])
def test_the_text_of_an_error_is_shortened(megabytes):
    text = "e" * megabytes * MEGABYTE
    log = [
        record("LogModelResult", 1, level="error", node_info=node(status="error")),
        record("RunResultError", 2, level="error", msg=text, node_info=node(status="error")),
    ]
    splitter = LineSplitter()
    found = Read(splitter.feed(b"\n".join(log) + b"\n"), exit_code=1)
    assert found.entries[NODE].is_failure
    assert len(found.entries[NODE].message or "") < MAX_MESSAGE_CHARS + 100
    assert found.largest_page < PAGE_BYTES
    assert sum(map(len, found.lines)) < 2 * MAX_LINES * MAX_LINE_CHARS


def test_nodes_that_are_not_of_the_selection_are_taken_in_up_to_a_bound():
    log = (
        record("LogModelResult", number, node_info=node(f"model.foreign.n{number}"), status="OK")
        for number in range(MAX_FOREIGN + 5_000)
    )
    found = Read(log)
    assert len(found.entries) == MAX_FOREIGN + 1
    assert sum(map(len, found.pages)) < 3 * MEGABYTE
    assert found.largest_page < PAGE_BYTES


def test_a_node_of_the_selection_has_its_place_however_many_came_before():
    def log():
        for number in range(MAX_FOREIGN + 1):
            yield record("LogModelResult", number, node_info=node(f"model.foreign.n{number}"), status="OK")
        yield record("LogModelResult", MAX_FOREIGN + 1, node_info=node(), status="OK")

    assert Read(log()).entries[NODE].is_success


def test_a_log_cannot_begin_one_command_after_the_other_for_ever():
    log = (
        record(name, number, invocation=f"i{number}", **data)
        for number in range(20 * MAX_COMMANDS)
        for name, data in (
            ("MainReportVersion", {}),
            ("LogModelResult", {"node_info": node(), "status": "OK"}),
            ("StatsLine", {}),
        )
    )
    found = Read(log, pages_each=1)
    changes = [change for page in found.pages for change in decode_page(page).chunk.changes]
    assert len(changes) <= MAX_COMMANDS
    assert found.entries[NODE].is_success


FIELDS = [
    "unique_id",
    "node_name",
    "resource_type",
    "materialized",
    "node_status",
    "node_started_at",
]


@pytest.mark.parametrize("field", [*FIELDS, "node_finished_at"])
def test_a_field_of_a_megabyte_does_not_get_into_the_journal(field):
    hostile = {**node(), field: "z" * MEGABYTE}
    found = Read([
        record("LogStartLine", 1, node_info=hostile),
        record("LogModelResult", 2, node_info=hostile, status="OK"),
        record("NodeFinished", 3, level="debug", node_info=hostile, run_result={"status": "z" * MEGABYTE}),
    ])  # fmt: skip
    assert found.largest_page < PAGE_BYTES
    assert set(found.entries) == {NODE}


@pytest.mark.parametrize("field", ["name", "ts", "invocation_id", "level"])
def test_an_envelope_with_a_field_of_a_megabyte_is_no_record(field):
    envelope = {"name": "LogModelResult", "level": "info", "ts": "2026", "msg": "", "invocation_id": "i"}
    line = json.dumps({"info": {**envelope, field: "z" * MEGABYTE}, "data": {"node_info": node()}}).encode()
    (part,) = read_line(line)
    assert isinstance(part, str) or len(getattr(part.info, field)) == 0


def test_what_an_adapter_answers_is_kept_in_small():
    response = {f"key{number}": "v" * 10_000 for number in range(500)}
    log = [
        record("LogStartLine", 1, node_info=node(status="started")),
        record("NodeFinished", 2, level="debug", node_info=node(),
               run_result={"status": "success", "adapter_response": response}),
    ]  # fmt: skip
    found = Read(log)
    assert found.entries[NODE].is_success
    assert len(found.entries[NODE].adapter_response) <= 16
    assert found.largest_page < PAGE_BYTES


# Depth


@pytest.mark.parametrize(
    "line",
    [
        b'{"info":' + b"[" * 2_000_000,
        b'{"info":' + b'{"a":' * 1_000_000,
        b'{"data":{"info":' * 300_000,
        b'{"info": {"a":' * 300_000,
        record("Note", 1, msg="[X]: Unable to parse logging event dictionary. Dictionary: {" + "[" * 90_000 + "}"),
        record("Note", 1, msg="[X]: Unable to parse logging event dictionary. Dictionary: {1:" + "-" * 90_000 + "1}"),
    ],
    ids=["lists", "objects", "records", "beginnings", "python lists", "python signs"],
)  # fmt: skip
def test_a_bomb_of_brackets_is_a_line_like_any_other(line):
    found = Read([line, record("LogModelResult", 2, node_info=node(), status="OK")])
    assert found.entries[NODE].is_success
    assert all(len(shown) < MAX_LINE_CHARS + 100 for shown in found.lines)


@pytest.mark.parametrize("bomb", ["[" * 200_000, '{"chunk":' * 100_000])
def test_a_journal_that_is_a_bomb_is_refused(bomb):
    with pytest.raises(Exception, match="journal"):
        decode_page(bomb)
    with pytest.raises(Exception, match="journal"):
        decode_chunk(bomb)


# Time: each of these texts once took a pattern minutes or hours.


@pytest.mark.parametrize(
    "msg",
    [
        "a in " * 200_000,
        "a in a b " + "(" * 500_000,
        "\n 0: x" * 500_000 + "\n!",
        "\x1b]" * 1_000_000,
        "\x1b[" + "0" * 2_000_000,
        "[X]: Unable to parse logging event dictionary." + "Dictionary: {" * 7_000,
    ],
    ids=["in", "parentheses", "frames", "titles", "colours", "dictionaries"],
)
@pytest.mark.parametrize(
    "name",
    ["MainEncounteredError", "Note", "RunResultError"],
)
def test_no_text_makes_a_pattern_run_for_ever(name, msg):
    found = Read([record(name, 1, level="error", msg=msg)])
    assert found.largest_page < PAGE_BYTES


def test_frames_are_taken_from_the_end_and_only_there():
    frames = "\n   0: <unknown>\n   1: main\n             at ./main.rs:7\n   8: start_thread\n\n"
    assert without_backtrace("it broke\n 0: zero" + frames) == "it broke"
    assert (
        without_backtrace("it broke\n   1: not the first\n   0: <unknown>") == "it broke\n   1: not the first"
    )
    assert without_backtrace("it broke" + frames + "but went on") == "it broke" + frames + "but went on"
    assert without_backtrace("   0: alone in its line") == "   0: alone in its line"


def test_an_event_that_dbt_wrote_as_a_dictionary_is_still_read():
    text = "[LogTestResult]: Unable to parse logging event dictionary. x. Dictionary: {'num_failures': 5, 'status': 'fail'}"
    (note,) = read_line(record("Note", 1, msg=text))
    inside = event_inside(note)
    assert (inside.info.name, inside.data.num_failures, inside.data.status) == ("LogTestResult", 5, "fail")


# Terminals


@given(st.text(max_size=300))
def test_no_text_of_an_error_can_control_a_terminal(text):
    found = Read(
        [
            record("LogModelResult", 1, node_info=node(status="error")),
            record("RunResultError", 2, level="error", msg=text, node_info=node(status="error")),
            text.encode("utf-8", "surrogatepass"),
        ],
        exit_code=1,
    )
    assert all(line.isprintable() for line in found.lines)
    message = found.entries[NODE].message or ""
    assert message.replace("\n", "").isprintable()


@given(st.text(alphabet="ab \n\t\r\x1b[]31m\x07\x08\u202e\u2028", max_size=60))
def test_a_sanitized_text_stays_as_it_is(text):
    once = sanitize(text)
    assert once.replace("\n", "").isprintable()
    assert sanitize(once) == once


def test_a_text_that_can_control_nothing_stays_as_it_is():
    text = 'Database Error\n  line 7: column "x" does not exist\n  é ü 漢字'
    assert sanitize(text) == text
