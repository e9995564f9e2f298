"""The journal as it lies in XCom."""

import json

import msgspec
import pytest

from dbt_watch.core.journal.format import (
    PAGES,
    Chunk,
    JournalError,
    Page,
    blank,
    decode_page,
    encode_page,
    page_key,
    part_key,
)
from dbt_watch.core.journal.writer import JournalWriter, Tail
from dbt_watch.core.results import NodeResult


def test_a_page_comes_back_as_it_was_written():
    writer = JournalWriter(attempt=3)
    writer.add(
        [NodeResult(unique_id="model.shop.orders", status="error", message="no such column \u2028 'x'")]
    )
    writer.close(1, reason="OOMKilled")
    page = Page(writer.take(), will_retry=True, began=1.5)
    assert decode_page(encode_page(page)) == page
    assert decode_page(json.loads(encode_page(page))) == page


@pytest.mark.parametrize(
    "value", [None, "", "{", "[]", "42", 42, {"chunk": {}}, '{"chunk": 1, "will_retry": true, "began": 0}']
)
def test_what_is_no_page_is_refused(value):
    with pytest.raises(JournalError):
        decode_page(value)


def test_what_is_no_page_is_told_of_in_few_words():
    with pytest.raises(JournalError) as caught:
        decode_page({"x" * 1_000: 1})
    assert str(caught.value) == f"not a page of the journal: {'{' + repr('x' * 1_000)[:79]!r}"


def test_keys_sort_as_parts_do():
    keys = [part_key(number) for number in (0, 9, 10, 9_999)]
    assert keys == sorted(keys)


def test_pages_use_few_keys_in_turn():
    keys = [page_key(number) for number in range(1_000)]
    assert len(set(keys)) == PAGES
    assert keys[:PAGES] == sorted(set(keys)) == keys[PAGES : 2 * PAGES]


class TestTheSnapshot:
    def tail(self, *entries):
        tail = Tail()
        tail.add(Chunk(attempt=1, seq=0, changes=entries))
        return tail

    def entry(self, number, status="success", **more):
        return NodeResult(unique_id=f"model.shop.m{number}", status=status, **more)

    def test_there_is_a_part_without_entries(self):
        assert Tail().parts(2) == [blank(2, 0)]

    def test_parts_are_not_longer_than_the_bound_and_all_but_the_last_are_full(self):
        tail = self.tail(*(self.entry(number, message="x" * (number * 37 % 9_000)) for number in range(300)))
        parts = tail.parts(1)
        sizes = [len(json.dumps(msgspec.json.decode(msgspec.json.encode(part.fields())))) for part in parts]
        assert max(sizes) <= 48 * 1024
        assert min(sizes[:-1]) > 38 * 1024
        assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
        assert {part.seq for part in parts} == {0}
        assert {entry.unique_id: entry for part in parts for entry in part.changes} == tail.entries

    def test_what_may_still_change_stands_in_the_last_part(self):
        running = [self.entry(number, "started") for number in range(10)]
        tail = self.tail(*running, *(self.entry(number, message="x" * 1_000) for number in range(10, 200)))
        *full, last = tail.parts(1)
        assert len(full) > 2
        assert all(entry.is_final for part in full for entry in part.changes)
        assert list(last.changes[-10:]) == running

    def test_a_part_is_written_while_there_is_a_key_left_for_the_blank_page(self):
        assert not Tail(first=4, next_seq=4 + PAGES - 2).is_full
        assert Tail(first=4, next_seq=4 + PAGES - 1).is_full

    def test_an_entry_that_is_longer_than_a_part_has_one_of_its_own(self, monkeypatch):
        monkeypatch.setattr("dbt_watch.core.journal.writer._ROOM", 10)
        parts = self.tail(*(self.entry(number) for number in range(3))).parts(1)
        assert [len(part.changes) for part in parts] == [1, 1, 1]

    def test_an_entry_that_was_replaced_leaves_nothing_behind(self):
        tail = Tail()
        for seq in range(1_000):
            tail.add(Chunk(attempt=1, seq=seq, changes=(self.entry(1, "started", batch_count=seq),)))
            if tail.is_full:
                tail.settle(tail.parts(1))
        assert tail.part == 0
        assert [entry.batch_count for entry in tail.parts(1)[0].changes] == [999]
