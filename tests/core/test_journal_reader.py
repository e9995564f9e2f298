"""What a reader asks for next, what it makes of what lies there, and what whoever goes on with a journal learns from it."""

import asyncio

import msgspec
import pytest

from dbt_watch.core.journal.format import (
    HEAD_KEY,
    PAGES,
    Chunk,
    Closed,
    Page,
    decode_page,
    encode_page,
    page_key,
    part_key,
)
from dbt_watch.core.journal.reader import Found, JournalReader, JournalState, look_back, read, read_now
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.results import NodeResult


def entry(number, status="success", *, size=0):
    return NodeResult(unique_id=f"model.shop.m{number}", status=status, message="x" * size or None)


def value(seq, *numbers, attempt=1, **more):
    """Return what lies in XCom of a chunk."""
    changes = tuple(entry(number) for number in numbers)
    return encode_page(Page(Chunk(attempt=attempt, seq=seq, changes=changes, **more), will_retry=False))


class Journal:
    """A journal in XCom, and who writes it."""

    def __init__(self, *, attempt=1, tail=None, xcoms=None):
        self.xcoms = {} if xcoms is None else xcoms
        self.writer = JournalWriter(attempt=attempt)
        self.publication = Publication(self.writer, will_retry=True, tail=tail)
        self.write()

    def write(self, *entries):
        self.writer.add(entries)
        self.xcoms.update(self.publication.rest())

    def pages(self, numbers, *, size=0):
        for number in numbers:
            self.write(entry(number, size=size))
        return self

    def read(self):
        reader = JournalReader()
        assert read_now(reader, self.xcoms.get)
        return reader


def numbers_in(entries):
    return [int(unique_id.removeprefix("model.shop.m")) for unique_id in entries]


def test_who_has_read_nothing_knows_of_nothing():
    state = JournalState()
    assert (state.attempt, state.next_seq, dict(state.entries), state.closed) == (0, 0, {}, None)
    reader = JournalReader()
    assert reader.key == part_key(0)
    assert (reader.page, reader.tail, list(reader.news)) == (None, None, [])
    assert JournalReader(part=3).key == part_key(JournalReader(part=3).first_part) == part_key(3)


def test_where_there_is_nothing_there_is_nothing_more_to_ask_and_nothing_new():
    reader = JournalReader()
    assert not reader.take(None)
    assert (reader.key, reader.page, list(reader.news)) == (part_key(0), None, [])
    journal = Journal().pages(range(3))
    reader = journal.read()
    assert not reader.take(None)
    assert list(reader.news) == []
    assert len(reader.state.entries) == 3


def test_values_are_asked_for_one_after_the_other_and_each_tells_what_is_new_in_it():
    journal = Journal().pages(range(3))
    journal.writer.close(1, reason="why")
    journal.write()
    reader, seen = JournalReader(), []
    more = True
    while more:
        key = reader.key
        more = reader.take(journal.xcoms[key])
        seen.append((key, [result.unique_id for result in reader.news]))
    assert seen == [
        (part_key(0), []), (page_key(0), ["model.shop.m0"]), (page_key(1), ["model.shop.m1"]),
        (page_key(2), ["model.shop.m2"]), (page_key(3), []),
    ]  # fmt: skip
    assert reader.state.closed == reader.page.chunk.closed == Closed(1, "why")


def test_in_a_triggerer_a_journal_is_read_likewise():
    journal = Journal().pages(range(3))

    async def ask(key):
        return journal.xcoms.get(key)

    reader = JournalReader()
    assert asyncio.run(read(reader, ask))
    assert reader.state.entries == journal.read().state.entries
    journal.xcoms.clear()
    assert not asyncio.run(read(JournalReader(), ask))


@pytest.mark.parametrize("size", [0, 3_500, 9_000])
@pytest.mark.parametrize("pages", [0, 1, PAGES - 2, PAGES - 1, PAGES, 3 * PAGES])
def test_who_has_read_a_journal_can_go_on_with_it(pages, size):
    first = Journal().pages(range(pages), size=size)
    tail = first.read().tail
    second = Journal(tail=tail, xcoms=first.xcoms).pages(range(pages, pages + 2 * PAGES), size=size)
    assert numbers_in(second.read().state.entries) == list(range(pages + 2 * PAGES))
    assert second.read().state.next_seq == pages + 2 * PAGES
    head = second.xcoms[HEAD_KEY]
    assert part_key(head) in second.xcoms
    assert part_key(head + 1) not in second.xcoms


@pytest.mark.parametrize("pages", [0, 3, 3 * PAGES])
def test_a_reader_that_comes_upon_the_next_attempt_reads_that_from_its_beginning(pages):
    first = Journal().pages(range(5), size=9_000)
    reader = first.read()
    second = Journal(attempt=2).pages(range(100, 100 + pages), size=9_000)
    assert reader.take(second.xcoms[page_key(0)])
    assert reader.key == part_key(reader.first_part) == part_key(0)
    assert (reader.page, reader.tail, list(reader.news)) == (None, None, [])
    assert dict(reader.state.entries) == {}
    assert read_now(reader, second.xcoms.get)
    assert reader.state.attempt == 2
    assert numbers_in(reader.state.entries) == list(range(100, 100 + pages))


def test_who_writes_though_he_was_given_up_is_not_heeded():
    reader = Journal(attempt=2).pages(range(3)).read()
    key, page = reader.key, reader.page
    assert not reader.take(value(3, 9, attempt=1))
    assert (reader.key, reader.page, list(reader.news)) == (key, page, [])
    assert numbers_in(reader.state.entries) == [0, 1, 2]


def test_a_reader_that_has_fallen_behind_reads_the_snapshot_on_from_the_part_that_may_have_changed():
    journal = Journal().pages(range(3 * PAGES), size=9_000)
    reader = journal.read()
    part = reader.tail.part
    assert part > 0
    journal.pages(range(3 * PAGES, 5 * PAGES), size=9_000)
    assert reader.take(journal.xcoms[reader.key])
    assert reader.key == part_key(part)
    assert read_now(reader, journal.xcoms.get)
    assert numbers_in(reader.state.entries) == list(range(5 * PAGES))


def test_a_snapshot_that_does_not_reach_to_what_was_overwritten_is_asked_for_again_later():
    reader = JournalReader()
    for item in (value(-1), value(0, 0), value(1, 1)):
        assert reader.take(item)
    assert reader.take(value(5, 5))  # in the place of the page that comes next
    for seq in (-1, 0, 1):
        assert not reader.take(value(seq, 0))
        assert reader.key == part_key(0)
        assert reader.state.next_seq == 2
    assert reader.take(value(2, 0, 1, 2))
    assert (reader.key, reader.state.next_seq) == (page_key(3), 3)
    assert numbers_in(result.unique_id for result in reader.news) == [0, 1, 2]


def look(journal, *numbers, **more):
    wanted = frozenset(entry(number).unique_id for number in numbers)
    return look_back(journal.xcoms.get, wanted, **more)


def test_a_look_back_finds_what_is_wanted_and_nothing_else():
    journal = Journal().pages(range(4 * PAGES), size=9_000)
    journal.write(entry(0, "error"))
    found = look(journal, 0, 5, 4 * PAGES - 1, 1_000)
    assert {unique_id: result.status for unique_id, result in found.entries.items()} == {
        "model.shop.m0": "error", "model.shop.m5": "success", f"model.shop.m{4 * PAGES - 1}": "success"
    }  # fmt: skip
    assert found.page.will_retry


def test_a_look_back_where_no_journal_is_finds_nothing():
    assert look_back({}.get, frozenset({"model.shop.m0"})) == Found(None, {})


def test_a_look_back_goes_no_further_than_it_has_to_and_than_it_may():
    journal, asked = Journal().pages(range(6 * PAGES), size=9_000), []

    def ask(key):
        asked.append(key)
        return journal.xcoms.get(key)

    last, early = (frozenset({entry(number).unique_id}) for number in (6 * PAGES - 1, 0))
    assert look_back(ask, last).entries.keys() == last
    values = len(asked) - 1  # the head is none
    assert part_key(0) not in asked
    assert look_back(ask, early, max_values=values) is None
    assert look_back(ask, last, max_values=1).entries.keys() == last
    asked.clear()
    assert look_back(ask, early, max_values=values + 2) is None
    assert len(asked) - 1 == values + 2
    assert look_back(ask, early, max_values=1_000).entries.keys() == early


def test_a_look_back_tells_nothing_when_a_new_attempt_has_begun_meanwhile():
    journal = Journal().pages(range(6 * PAGES), size=9_000)
    head = journal.xcoms[HEAD_KEY]
    assert head > 1
    for key in (part_key(head), part_key(0)):
        whole = dict(journal.xcoms)
        del journal.xcoms[key]
        assert look(journal, 0) is None
        journal.xcoms = whole
    page = decode_page(journal.xcoms[part_key(0)])
    later = msgspec.structs.replace(page.chunk, attempt=2)
    journal.xcoms[part_key(0)] = encode_page(msgspec.structs.replace(page, chunk=later))
    assert look(journal, 0) is None
