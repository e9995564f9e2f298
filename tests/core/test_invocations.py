"""Records that no command of ours has written, in front of a log, amid it and behind it: they change nothing."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import NAMES, SMALL, entries_of, exit_code_of, graph_of, lines_of, read
from test_ledger import ORDERS, Teller

from dbt_watch.core.log.invocations import MAX_COMMANDS, MAX_HELD_BYTES, Invocations
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream

BEGINNING = "MainReportVersion"
_STATUS = re.compile(rb'"(node_status|status)": ?"(success|error|fail|skipped|warn|pass)"')
_TIME = re.compile(rb'"ts": ?"[^"]*"')
_INVOCATION = re.compile(rb'"invocation_id": ?"[^"]*"')


@st.composite
def disturbed(draw, names=SMALL):
    """Draw a recording with records of other commands in it: copies of its own, with another id, time and end."""
    name = draw(st.sampled_from(names))
    lines = list(lines_of(name))
    records = [line for line in lines if line.startswith(b"{")] or [b"{}"]
    for number in range(draw(st.integers(1, 8))):
        record = draw(st.sampled_from(records))
        # Several may be of one command, but then not its beginning: whoever prints all of a log cannot be told from dbt.
        begins = f'"{BEGINNING}"'.encode() in record
        invocation = f"begins-{number}" if begins else draw(st.sampled_from(["foreign", f"foreign-{number}"]))
        time = draw(st.sampled_from(["1999-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"]))
        status = draw(st.sampled_from([b"success", b"error", b"skipped"]))
        record = _INVOCATION.sub(b'"invocation_id": "%b"' % invocation.encode(), record)
        record = _TIME.sub(b'"ts": "%b"' % time.encode(), record)
        lines.insert(
            draw(st.sampled_from([0, len(lines), draw(st.integers(0, len(lines)))])),
            _STATUS.sub(rb'"\1": "%b"' % status, record),
        )
    return name, lines


@given(disturbed())
def test_foreign_records_change_no_outcome(case):
    name, lines = case
    assert read(b"".join(line + b"\n" for line in lines), graph_of(name), exit_code_of(name)) == entries_of(
        name
    )


@pytest.mark.parametrize("name", [name for name in NAMES if lines_of(name)])
def test_a_printed_success_does_not_turn_what_has_failed(name):
    failed = [key for key, entry in entries_of(name).items() if entry.is_failure and key.startswith("model.")]
    printed = [
        json.dumps({
            "info": {"name": event, "level": "info", "ts": "2099-01-01T00:00:00Z", "msg": "", "invocation_id": "x"},
            "data": {"node_info": {"unique_id": key, "node_status": "success", "node_started_at": "2099"},
                     "run_result": {"status": "success"}},
        }).encode()
        for key in failed
        for event in ("LogStartLine", "LogModelResult", "NodeFinished")
    ]  # fmt: skip
    lines = [*lines_of(name), *printed]
    entries = read(b"".join(line + b"\n" for line in lines), graph_of(name), exit_code_of(name))
    assert entries == entries_of(name)


def believed(*events, is_over=lambda _: False):
    invocations = Invocations(is_over)
    return [counted for event in events for counted in invocations.sift(event)], invocations


def test_a_command_is_believed_from_its_first_node_on():
    tell = Teller("ours")
    beginning, start = tell(BEGINNING), tell("LogStartLine", ORDERS, "started")
    assert believed(beginning)[0] == []
    assert believed(beginning, start)[0] == [beginning, start]


def test_another_command_is_believed_when_the_one_before_it_is_over():
    first, second = Teller("first"), Teller("second", 9)
    events = [
        tell(*record) for tell in (first, second) for record in ((BEGINNING,), ("LogStartLine", ORDERS))
    ]
    assert believed(*events)[0] == events[:2]
    assert believed(*events, is_over=lambda invocation: invocation == "first")[0] == events


@pytest.mark.parametrize("first", ["deps", "deps that told of its end"])
def test_a_command_that_tells_of_no_node_gives_way_to_the_next(first):
    deps, build = Teller("deps"), Teller("build", 9)
    events = [deps(BEGINNING), *([deps("CommandCompleted", level="debug")] if " " in first else [])]
    ledger = Ledger()
    stream = LogStream(ledger)
    result = build("LogModelResult", ORDERS, "success")
    stream._take([*events, build(BEGINNING), result])
    assert ledger.entries[ORDERS].is_success


def test_a_log_whose_beginning_is_lost_is_believed_in_the_end():
    tell = Teller("ours")
    events = [tell("LogModelResult", ORDERS, "success"), tell("StatsLine")]
    told, invocations = believed(*events)
    assert told == []
    assert invocations.rest() == events
    assert invocations.rest() == []


def test_what_has_neither_a_beginning_nor_an_end_is_not():
    _, invocations = believed(Teller("printed")("LogModelResult", ORDERS, "success"))
    assert invocations.rest() == []


def test_of_two_whose_beginning_is_lost_neither_is():
    _, invocations = believed(
        *(Teller(name)(event, ORDERS) for name in "ab" for event in ("LogModelResult", "StatsLine"))
    )
    assert invocations.rest() == []


def test_what_is_held_back_is_bounded():
    tell = Teller("foreign")
    events = [tell("StatsLine"), *(tell("LogModelResult", ORDERS, msg="x" * 1_000_000) for _ in range(40))]
    _, invocations = believed(*events)
    kept = invocations.rest()
    assert 1_000_000 < sum(len(event.info.msg) for event in kept) <= MAX_HELD_BYTES
    _, invocations = believed(*(Teller(f"i{number}")(BEGINNING) for number in range(3 * MAX_COMMANDS)))
    assert len(invocations._begun) == len(invocations._held) == MAX_COMMANDS
