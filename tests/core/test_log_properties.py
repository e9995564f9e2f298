"""
What must hold of every log, recorded or generated.

A fast run by default; `DBT_WATCH_HYPOTHESIS=thorough` tries forty times as many.
"""

import json
import random

import msgspec
import pytest
from generated import logs, texts
from hypothesis import given
from hypothesis import strategies as st
from recorded import (
    NAMES,
    SMALL,
    entries_of,
    exit_code_of,
    graph_of,
    lines_of,
    log_of,
    owner_of,
    read,
    stream_of,
)

from dbt_watch.core.journal.format import decode_chunk
from dbt_watch.core.journal.reader import JournalState
from dbt_watch.core.journal.writer import JournalWriter
from dbt_watch.core.log.events import DbtEvent, decode_lines, read_line

recordings = st.sampled_from(SMALL)


def changes_of(log, nodes, exit_code):
    stream = stream_of(nodes)
    changes = list(stream.feed(log).changes)
    return changes + stream.close(exit_code).changes


class TestAnyBytes:
    @given(st.lists(st.binary(max_size=300), max_size=5), st.one_of(st.none(), st.binary(max_size=100)))
    def test_never_raise(self, pieces, run_results):
        stream = stream_of()
        for piece in pieces:
            stream.feed(piece)
            stream.feed_lines([piece])
        stream.close(None, run_results)

    @given(recordings, st.data())
    def test_never_raise_when_a_recording_is_damaged(self, name, data):
        lines = list(lines_of(name))
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, len(lines) - 1)) if lines else 0
            line = lines[at] if lines else b""
            cut = data.draw(st.integers(0, len(line)))
            lines[at : at + 1] = [
                line[:cut] + data.draw(st.binary(max_size=8)) + line[cut + data.draw(st.integers(0, 4)) :]
            ]
        read(b"\n".join(lines), graph_of(name), 1)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                            ["info", "data", "name", "level", "ts", "node_info", "unique_id", "status", "msg", "run_result"]), inner, max_size=6)))  # fmt: skip
    def test_never_raise_when_they_are_some_json(self, value):
        record = json.dumps(
            {"info": {"name": "LogModelResult", "level": "info", "ts": "x"}, "data": value}
        ).encode()
        assert isinstance(read_line(record)[0], DbtEvent)
        read_line(json.dumps(value).encode())
        read(record + b"\n")


class TestCuttingTheBytes:
    @given(st.one_of(logs().map(lambda made: made.log), recordings.map(log_of)), st.data())
    def test_changes_nothing(self, log, data):
        whole = stream_of()
        expected = whole.feed(log)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=8)))
        stream, lines, changes = stream_of(), [], []
        for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
            batch = stream.feed(log[start:end])
            lines += batch.lines
            changes += batch.changes
        assert lines == expected.lines
        assert changes == expected.changes

    def test_into_single_bytes_changes_nothing(self):
        log = b"\n".join(lines_of("1.12__duckdb__ephemeral_fail_empty_model")) + b"\n"
        stream = stream_of()
        lines = [line for at in range(len(log)) for line in stream.feed(log[at : at + 1]).lines]
        assert lines == stream_of().feed(log).lines

    @given(logs())
    def test_into_lines_changes_nothing(self, made):
        stream = stream_of(made.nodes)
        for line in made.lines:
            stream.feed(line + b"\r\n")
        assert dict(stream.ledger.entries) == _open_entries(made)


def _open_entries(made):
    stream = stream_of(made.nodes)
    stream.feed(made.log)
    return dict(stream.ledger.entries)


class TestReadingAgain:
    @pytest.mark.parametrize("name", NAMES)
    def test_the_whole_changes_nothing(self, name):
        stream = stream_of(graph_of(name))
        stream.feed(log_of(name))
        assert stream.feed(log_of(name)).changes == []

    @given(st.one_of(logs().map(lambda made: tuple(made.lines)), recordings.map(lines_of)), st.data())
    def test_any_suffix_changes_nothing_and_shows_nothing(self, lines, data):
        stream = stream_of()
        for line in lines:
            stream.feed_lines([line])
        again = [
            stream.feed_lines([line])
            for line in lines[data.draw(st.integers(0, len(lines))) :]
            if line.startswith(b"{")
        ]
        assert [change for batch in again for change in batch.changes] == []
        assert [line for batch in again for line in batch.lines] == []

    @given(st.one_of(logs().map(lambda made: tuple(made.lines)), recordings.map(lines_of)), st.data())
    def test_an_overlap_after_a_cut_changes_nothing(self, lines, data):
        cut = data.draw(st.integers(0, len(lines)))
        back = data.draw(st.integers(0, cut))
        stream = stream_of()
        for line in (*lines[:cut], *lines[back:]):
            stream.feed_lines([line])
        straight = stream_of()
        for line in lines:
            straight.feed_lines([line])
        assert dict(stream.ledger.entries) == dict(straight.ledger.entries)

    @given(logs(), st.data())
    def test_anything_after_the_end_changes_nothing(self, made, data):
        stream = stream_of(made.nodes)
        stream.feed(made.log)
        stream.close(made.exit_code)
        entries = dict(stream.ledger.entries)
        for line in made.lines[data.draw(st.integers(0, len(made.lines))) :]:
            assert stream.feed_lines([line]).changes == []
        assert stream.close(0).changes == []
        assert dict(stream.ledger.entries) == entries


class TestFreeText:
    @given(
        logs(),
        st.lists(
            st.tuples(st.integers(0, 200), texts, st.sampled_from(["between", "front", "behind"])), max_size=6
        ),
    )
    def test_changes_no_state_of_a_generated_log(self, made, insertions):
        entries = read(_with_text(made.lines, insertions), made.nodes, made.exit_code)
        assert _without_reasons(entries) == _without_reasons(read(made.log, made.nodes, made.exit_code))

    @given(
        recordings,
        st.lists(
            st.tuples(st.integers(0, 2_000), texts, st.sampled_from(["between", "front", "behind"])),
            max_size=6,
        ),
    )
    def test_changes_no_state_of_a_recording(self, name, insertions):
        log = _with_text(lines_of(name), insertions)
        entries = read(log, graph_of(name), exit_code_of(name))
        assert _without_reasons(entries) == _without_reasons(entries_of(name))

    @given(logs())
    def test_records_without_an_end_between_them_are_all_read(self, made):
        assert read(b"".join(made.lines) + b"\n", made.nodes, made.exit_code) == read(
            made.log, made.nodes, made.exit_code
        )


def _without_reasons(entries):
    """Leave out why a node did not come to its end: the last words of a log that breaks off are a part of that."""
    return {
        key: msgspec.structs.replace(entry, message=None)
        if entry.was_not_run or entry.status == "cancelled"
        else entry
        for key, entry in entries.items()
    }


def _with_text(lines, insertions):
    lines = list(lines)
    for place, text, how in insertions:
        at = place % (len(lines) + 1)
        if how == "between" or at == len(lines):
            lines.insert(at, text)
        elif how == "front":
            lines[at] = text + lines[at]
        else:
            lines[at] += text
    return b"".join(line + b"\n" for line in lines)


class TestOrder:
    @given(logs(), st.randoms(use_true_random=False))
    def test_of_different_nodes_does_not_matter(self, made, rng):
        log = b"".join(line + b"\n" for line in _reordered(made.lines, rng))
        assert read(log, made.nodes, made.exit_code) == read(made.log, made.nodes, made.exit_code)

    @pytest.mark.parametrize("name", NAMES)
    def test_of_different_nodes_does_not_matter_in_a_recording(self, name):
        log = b"".join(line + b"\n" for line in _reordered(lines_of(name), random.Random(name)))
        assert read(log, graph_of(name), exit_code_of(name)) == entries_of(name)


def _reordered(lines, rng):
    """
    Mix the records of different nodes within each command, behind its first one.

    Each node's stay in their order, and so do those that name none.
    """
    starts = [number for number, line in enumerate(lines) if b'"MainReportVersion"' in line] or [0]
    ends = [*starts[1:], len(lines)]
    return [
        *lines[: starts[0]],
        *(
            line
            for start, end in zip(starts, ends, strict=True)
            for line in (*lines[start : start + 1], *_mixed(lines[start + 1 : end], rng))
        ),
    ]


def _mixed(lines, rng):
    queues = {}
    for line in lines:
        queues.setdefault(owner_of(line), []).append(line)
    turns = [owner for owner, queue in queues.items() for _ in queue]
    rng.shuffle(turns)
    taken = {owner: iter(queue) for owner, queue in queues.items()}
    return [next(taken[owner]) for owner in turns]


class TestAFinalState:
    @given(st.one_of(
        logs().map(lambda made: (made.log, made.nodes, made.exit_code)),
        recordings.map(lambda name: (log_of(name), graph_of(name), exit_code_of(name))),
    ))  # fmt: skip
    def test_never_regresses(self, case):
        log, nodes, exit_code = case
        seen = {}
        for change in changes_of(log, nodes, exit_code):
            before = seen.get(change.unique_id)
            if before is not None and before.is_final:
                assert change.is_final
                later = before.invocation_id != change.invocation_id
                assert later or change.status == before.status
                assert later or not before.message or (change.message or "").startswith(before.message)
            seen[change.unique_id] = change

    @given(logs())
    def test_has_every_node_in_the_end(self, made):
        entries = read(made.log, made.nodes, made.exit_code)
        assert set(made.nodes) <= set(entries)
        assert all(entry.is_final for entry in entries.values())
        assert all(entry.message for entry in entries.values() if entry.was_not_run)

    @given(logs(max_commands=1))
    def test_is_green_only_for_a_node_that_dbt_reported(self, made):
        reported = {owner_of(line) for line in made.lines}
        entries = read(made.log, made.nodes, made.exit_code)
        assert {key for key, entry in entries.items() if entry.is_success} <= reported


class TestTheJournal:
    @given(st.one_of(logs().map(lambda made: (made.log, made.nodes)), recordings.map(lambda name: (log_of(name), graph_of(name)))),
           st.integers(1, 40), st.sampled_from([2_048, 5_000, 48 * 1024]), st.data())  # fmt: skip
    def test_gives_the_ledger_back_in_any_grouping(self, case, max_changes, max_bytes, data):
        log, nodes = case
        stream = stream_of(nodes)
        changes = [*stream.feed(log).changes, *stream.close(1).changes]
        writer = JournalWriter(attempt=1, max_changes=max_changes, max_chunk_bytes=max_bytes)
        state, values, at = JournalState(), [], 0
        while at < len(changes):
            step = data.draw(st.integers(1, 30)) if len(values) < 20 else len(changes)
            writer.add(changes[at : at + step])
            at += step
            _take(writer, values, limit=data.draw(st.integers(0, 2)))
        writer.close(1, reason="x")
        _take(writer, values, limit=None)
        assert all(len(json.dumps(value)) <= max_bytes for value in values)
        for value in values:
            state.apply(decode_chunk(value))
            state.apply(decode_chunk(json.dumps(value)))
        assert state.closed is not None
        assert state.closed.exit_code == 1
        _assert_same(dict(state.entries), dict(stream.ledger.entries), exact=max_bytes == 48 * 1024)

    @given(logs(), st.integers(1, 5), st.data())
    def test_read_up_to_any_chunk_is_a_state_that_the_ledger_went_through(self, made, max_changes, data):
        changes = changes_of(made.log, made.nodes, made.exit_code)
        went_through, entries = [{}], {}
        for change in changes:
            entries = {**entries, change.unique_id: change}
            went_through.append(entries)
        writer, state, at = JournalWriter(attempt=1, max_changes=max_changes), JournalState(), 0
        while at < len(changes) or writer.pending:
            step = data.draw(st.integers(1, 6)) if at < len(changes) else 0
            writer.add(changes[at : at + step])
            at += step
            values = []
            _take(writer, values, limit=1)
            for value in values:
                state.apply(decode_chunk(value))
                assert dict(state.entries) in went_through
        assert dict(state.entries) == entries


def _take(writer, values, *, limit):
    while limit is None or limit > 0:
        chunk = writer.take()
        if chunk is None:
            return
        assert writer.take() is chunk
        values.append(msgspec.json.decode(msgspec.json.encode(chunk.fields())))
        writer.written(chunk)
        limit = None if limit is None else limit - 1


def _assert_same(read_back, ledger, *, exact):
    if exact:
        assert read_back == ledger
    assert {key: entry.status for key, entry in read_back.items()} == {
        key: entry.status for key, entry in ledger.items()
    }


class TestLinesAtOnce:
    @given(
        st.lists(
            st.one_of(
                texts, st.just(b""), st.just(b'{"info":'), st.just(b'{"name":"x","level":"","ts":""}}')
            ),
            max_size=4,
        ),
        logs(max_nodes=2),
    )
    def test_are_decoded_only_if_each_of_them_is_a_record(self, others, made):
        lines = [*made.lines[:3], *others]
        events = decode_lines(lines)
        if events is not None:
            for event, line in zip(events, lines, strict=True):
                assert read_line(line) == [event]
