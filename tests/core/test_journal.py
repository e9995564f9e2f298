"""Chunks of the journal: written, stored, read."""

import json
from datetime import datetime, timezone

import msgspec
import pytest

from dbt_watch.core.journal import writer as journal_writer
from dbt_watch.core.journal.format import JOURNAL_VERSION, Chunk, Closed, JournalError, decode_chunk
from dbt_watch.core.journal.reader import JournalState
from dbt_watch.core.journal.writer import JournalWriter
from dbt_watch.core.results import Batch, NodeResult, NotRun


def node(name, status="success", /, **more):
    known = {"unique_id": f"model.shop.{name}", "name": name, "resource_type": "model", "status": status}
    return NodeResult(**{**known, **more})


def as_json(chunk):
    """Return a chunk in builtins, as XCom gives it back."""
    return msgspec.json.decode(msgspec.json.encode(chunk.fields()))


def all_chunks(writer):
    chunks = []
    while (chunk := writer.take()) is not None:
        chunks.append(chunk)
        writer.written(chunk)
    return chunks


def test_a_node_that_changes_twice_is_written_once_with_its_last_state():
    writer = JournalWriter(attempt=1)
    writer.add([node("a", "started"), node("b", "started"), node("a")])
    (chunk,) = all_chunks(writer)
    assert {change.name: change.status for change in chunk.changes} == {"a": "success", "b": "started"}


def test_there_is_nothing_to_write_without_changes():
    assert JournalWriter(attempt=1).take() is None


def test_a_chunk_is_given_again_until_it_was_stored():
    writer = JournalWriter(attempt=1)
    writer.add([node("a")])
    chunk = writer.take()
    writer.add([node("b")])
    assert writer.take() is chunk
    assert writer.pending == 2
    writer.written(chunk)
    assert [change.name for change in writer.take().changes] == ["b"]


def test_a_chunk_that_was_stored_twice_counts_once():
    writer = JournalWriter(attempt=1)
    writer.add([node("a")])
    chunk = writer.take()
    writer.written(chunk)
    writer.written(chunk)
    writer.add([node("b")])
    assert writer.take().seq == 1


def test_chunks_are_numbered_and_hold_so_many_changes_at_most():
    writer = JournalWriter(attempt=3, max_changes=4)
    writer.add(node(str(number)) for number in range(10))
    chunks = all_chunks(writer)
    assert [(chunk.attempt, chunk.seq, len(chunk.changes)) for chunk in chunks] == [
        (3, 0, 4),
        (3, 1, 4),
        (3, 2, 2),
    ]


def test_a_chunk_holds_as_many_changes_as_have_room():
    writer = JournalWriter(attempt=1)
    writer.add(node(str(number), "started") for number in range(1_000))
    chunks = all_chunks(writer)
    assert len(chunks) < 4
    assert sum(len(chunk.changes) for chunk in chunks) == 1_000


@pytest.mark.parametrize("message", ["", "x" * 500])
def test_it_is_told_when_a_chunk_is_full(message):
    writer = JournalWriter(attempt=1)
    writer.add([node("first", message=message), node("second", message=message)])
    all_chunks(writer)
    while not writer.is_full:
        writer.add([node(str(writer.pending), message=message)])
    first, *others = all_chunks(writer)
    assert len(json.dumps(as_json(first))) > 40_000
    assert len(others) < 2


def test_only_the_last_chunk_closes():
    writer = JournalWriter(attempt=1, max_changes=2)
    writer.add(node(str(number)) for number in range(3))
    writer.close(1, reason="OOMKilled")
    assert [chunk.closed for chunk in all_chunks(writer)] == [None, Closed(1, "OOMKilled")]


def test_a_close_without_changes_is_a_chunk():
    writer = JournalWriter(attempt=1)
    writer.close(None)
    (chunk,) = all_chunks(writer)
    assert (chunk.changes, chunk.closed) == ((), Closed(None, None))


@pytest.mark.parametrize("text", ["x", "ü", "💥", '"', "\\", "\x00", "\x7f", "\u2028", ",", ":"])
@pytest.mark.parametrize("max_bytes", [2_048, 10_000, 48 * 1024])
def test_no_chunk_is_longer_than_the_bound(text, max_bytes):
    writer = JournalWriter(attempt=1, max_chunk_bytes=max_bytes)
    long = {
        "message": text * 16_000,
        "relation_name": text * 500,
        "adapter_response": {text * 5: text * 200, "n": 1},
    }
    writer.add([node("a", "error", **long), node("b"), node("c", "error", **long)])
    writer.add(
        node(text * number, "warn", message=text * number * 10, invocation_id="i" * 36)
        for number in range(30)
    )
    writer.close(1, reason=text * 5_000)
    for chunk in all_chunks(writer):
        assert len(json.dumps(as_json(chunk))) <= max_bytes


def test_a_shortened_message_says_so_and_keeps_its_ends():
    writer = JournalWriter(attempt=1, max_chunk_bytes=4_096)
    writer.add([node("a", "error", message="begin" + "x" * 15_000 + "end")])
    (chunk,) = all_chunks(writer)
    message = chunk.changes[0].message
    assert message.startswith("begin")
    assert message.endswith("end")
    assert "left out" in message


def fitted(room=0, **more):
    """Return what is written of one entry where a chunk may have 2,048 bytes, which leaves 1,248 for it, or more."""
    writer = JournalWriter(attempt=1, max_chunk_bytes=2_048 + room)
    writer.add([node("a", "error", **more)])
    ((change,),) = (chunk.changes for chunk in all_chunks(writer))
    return change


EXTRAS = {
    "relation_name": "db.shop.a",
    "adapter_response": {"code": "x"},
    "batches": (Batch(1, "error", 0.5),),
    "skipped_because": ("model.shop.b", "model.shop.c"),
}


def test_of_an_entry_that_does_not_fit_the_sql_goes_first():
    change = fitted(message="m" * 500, sql="s" * 2_000, **EXTRAS)
    assert change == node("a", "error", message="m" * 500, **EXTRAS)


@pytest.mark.parametrize(("room", "length"), [(8_000, 8_000), (4_500, 4_000), (1_500, 2_000)])
def test_then_the_message_is_shortened_as_little_as_it_has_to_be(room, length):
    change = fitted(room, message="m" * 15_000, **EXTRAS)
    assert length < len(change.message) < length + 100
    assert change == node("a", "error", message=change.message, **EXTRAS)


def test_then_the_rest_goes_and_of_the_reasons_for_a_skip_one_stays():
    change = fitted(message="m" * 15_000, **{**EXTRAS, "relation_name": "r" * 1_000})
    assert 1_000 < len(change.message) < 1_100 or 500 < len(change.message) < 600
    assert change == node("a", "error", message=change.message, skipped_because=("model.shop.b",))


def test_an_entry_without_a_message_is_shortened_too():
    assert fitted(relation_name="r" * 2_000) == node("a", "error")


def test_where_there_is_room_for_no_word_of_the_message_the_rest_stays():
    name = "n" * 1_110
    change = fitted(unique_id=name, message="m" * 100)
    assert change.message is None
    assert (change.unique_id, change.name, change.resource_type) == (name, "a", "model")


def test_where_there_is_no_room_for_names_a_node_is_told_from_the_others_and_how_it_ended():
    change = fitted(name="n" * 2_000, attempt=3, not_run=NotRun.FAIL_FAST)
    assert change == NodeResult(unique_id="model.shop.a", status="error", attempt=3, not_run=NotRun.FAIL_FAST)


@pytest.mark.parametrize(("length", "is_whole"), [(598, True), (599, False)])
def test_a_reason_of_up_to_600_bytes_is_told_as_it_is_and_a_longer_one_by_its_ends(length, is_whole):
    writer = JournalWriter(attempt=1)
    reason = "b" + "x" * (length - 2) + "e"
    writer.close(1, reason=reason)
    told = writer.take().closed.reason
    assert (told == reason) is is_whole
    assert told[0] + told[-1] == "be"
    assert len(told) > 300


def test_what_waits_is_counted_until_it_is_stored():
    writer, counts = JournalWriter(attempt=1), []
    for step in (
        lambda: None,
        lambda: writer.add([node("a"), node("b")]),
        writer.take,
        lambda: writer.written(writer.take()),
        lambda: (writer.close(0), writer.take()),
        lambda: writer.written(writer.take()),
    ):
        step()
        counts.append(writer.pending)
    assert counts == [0, 2, 2, 0, 1, 0]


def test_few_tries_find_how_many_changes_have_room(monkeypatch):
    tries = []

    def counting(entries):
        tries.append(len(entries))
        return json_size(entries)

    json_size = journal_writer._json_size
    monkeypatch.setattr(journal_writer, "_json_size", counting)
    writer = JournalWriter(attempt=1)
    writer.add(node(str(number), message="m" * (300 + number % 7)) for number in range(5_000))
    chunks = all_chunks(writer)
    assert len(tries) <= 1.2 * len(chunks) + 3
    assert sum(tries) < 5_000 * 1.2 + 5_000


def test_an_entry_survives_the_way_with_all_that_it_holds():
    at = datetime(2026, 11, 21, 8, 0, 0, 5, tzinfo=timezone.utc)
    full = NodeResult(
        unique_id="model.shop.a.v2", name="a", resource_type="model", status="partial success", started_at=at, finished_at=at,
        execution_time=0.1, rows_affected=2**40, failures=3, message="m", relation_name='"a"', adapter_response={"a": 1, "b": "x"},
        skipped_because=("x",), not_run=NotRun.FAIL_FAST, batches=(Batch(1, "error", 0.5),), batch_count=3, age=1.5, attempt=2,
        invocation_id="i",
    )  # fmt: skip
    chunk = Chunk(attempt=2, seq=5, changes=(full,), closed=Closed(1, "r"))
    assert json.loads(json.dumps(as_json(chunk))) == as_json(chunk)
    for value in (as_json(chunk), json.dumps(as_json(chunk)), json.dumps(json.dumps(as_json(chunk)))):
        assert decode_chunk(value) == chunk


def test_a_part_says_whether_another_one_follows():
    part = Chunk(attempt=2, seq=5, more=True)
    assert decode_chunk(as_json(part)) == part
    assert "more" not in as_json(Chunk(attempt=2, seq=5))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("{", "a chunk of the journal is not JSON: "),
        (["a list"], r"not a chunk of a journal: \['a list'\]"),
        (
            {"kind": "dbt_watch.journal", "version": 99},
            f"has version 99; this version reads {JOURNAL_VERSION} only",
        ),
        ({"kind": "dbt_watch.journal", "version": JOURNAL_VERSION, "seq": 0}, "is damaged: .*`attempt`"),
    ],
)
def test_what_is_wrong_with_a_value_is_told(value, why):
    with pytest.raises(JournalError, match=why):
        decode_chunk(value)


def test_a_foreign_value_is_told_of_in_few_words():
    with pytest.raises(JournalError, match=r"\[9804 characters left out\]"):
        decode_chunk(["x" * 10_000])


@pytest.mark.parametrize(
    "value",
    [None, 5, "", "text", "[]", [], {}, {"kind": "other"}, b"\xff", "[" * 100_000,
     {"kind": "dbt_watch.journal"},
     {"kind": "dbt_watch.journal", "version": JOURNAL_VERSION + 1, "attempt": 1, "seq": 0},
     {"kind": "dbt_watch.journal", "version": JOURNAL_VERSION - 1, "attempt": 1, "seq": 0},
     {"kind": "dbt_watch.journal", "version": JOURNAL_VERSION, "attempt": "one", "seq": 0},
     {"kind": "dbt_watch.journal", "version": JOURNAL_VERSION, "attempt": 1},
     {"kind": "dbt_watch.journal", "version": JOURNAL_VERSION, "attempt": 1, "seq": 0, "changes": [{"status": "success"}]}],
)  # fmt: skip
def test_a_foreign_or_damaged_value_or_one_of_another_version_is_refused(value):
    with pytest.raises(JournalError):
        decode_chunk(value)


class TestReading:
    def chunks(self, *names, attempt=1, **closing):
        writer = JournalWriter(attempt=attempt, max_changes=1)
        writer.add(node(name, attempt=attempt) for name in names)
        if closing:
            writer.close(**closing)
        return all_chunks(writer)

    def test_a_repeated_chunk_changes_nothing(self):
        state = JournalState()
        (chunk,) = self.chunks("a")
        assert len(state.apply(chunk)) == 1
        assert state.apply(chunk) == ()
        assert (state.next_seq, len(state.entries)) == (1, 1)

    def test_a_chunk_that_does_not_follow_is_not_taken(self):
        state = JournalState()
        first, second = self.chunks("a", "b")
        assert state.apply(second) == ()
        assert state.next_seq == 0
        state.apply(first)
        state.apply(second)
        assert len(state.entries) == 2

    def test_a_later_attempt_starts_over(self):
        state = JournalState()
        for chunk in self.chunks("a", "b", exit_code=1):
            state.apply(chunk)
        assert state.closed == Closed(1, None)
        (again,) = self.chunks("c", attempt=2)
        state.apply(again)
        assert (state.attempt, state.next_seq, state.closed, list(state.entries)) == (
            2,
            1,
            None,
            ["model.shop.c"],
        )

    def test_an_earlier_attempt_is_ignored(self):
        state = JournalState()
        state.apply(self.chunks("a", attempt=2)[0])
        assert state.apply(self.chunks("b", attempt=1)[0]) == ()
        assert list(state.entries) == ["model.shop.a"]


def test_a_thread_and_the_number_of_threads_are_read_by_a_reader_that_does_not_know_them_yet():
    class ThenNodeResult(msgspec.Struct):
        unique_id: str
        status: str

    class ThenClosed(msgspec.Struct):
        exit_code: int | None = None
        reason: str | None = None

    writer = JournalWriter(attempt=1)
    writer.add([node("a", thread="Thread-2")])
    writer.close(0, threads=4)
    (chunk,) = all_chunks(writer)
    fields = as_json(chunk)
    assert msgspec.convert(fields["changes"][0], ThenNodeResult).unique_id == "model.shop.a"
    assert msgspec.convert(fields["closed"], ThenClosed) == ThenClosed(0)
    again = decode_chunk(fields)
    assert (again.changes[0].thread, again.closed.threads) == ("Thread-2", 4)
    del fields["closed"]["threads"], fields["changes"][0]["thread"]
    before = decode_chunk(fields)
    assert (before.changes[0].thread, before.closed) == (None, Closed(0))
