"""
The journal against a model: readers that begin at any moment, between any two writes, failed ones among them.

A writer may end between two writes, and another goes on; a new attempt may begin. Few keys and small parts make a snapshot
of every few pages.
"""

import contextlib
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dbt_watch.core.journal.format import HEAD_KEY, JournalError, decode_page, page_key, part_key
from dbt_watch.core.journal.reader import JournalReader, look_back, read_now
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.results import NodeResult

NODES = [f"model.shop.m{number}" for number in range(12)]
STATUSES = ["started", "success", "error"]


@contextlib.contextmanager
def few_keys_and_small_parts():
    with (
        mock.patch("dbt_watch.core.journal.format.PAGES", 4),
        mock.patch.multiple("dbt_watch.core.journal.writer", PAGES=4, _ROOM=500),
    ):
        yield


class Journal(RuleBasedStateMachine):
    """One journal, its writers, and some readers."""

    @initialize()
    def start(self):
        self.attempt = 0
        self.readers = []
        self.next_attempt()

    # The producer.

    @rule()
    def next_attempt(self):
        self.attempt += 1
        self.xcoms = {}
        self.ledger = {}
        self.went_through = [{}]  # by the number of pages
        self.is_closed = False
        self.version = 0
        self.go_on(None)

    def go_on(self, tail):
        self.writer = JournalWriter(attempt=self.attempt)
        self.publication = Publication(self.writer, will_retry=True, tail=tail)
        self.writes = self.publication.rest()

    @precondition(lambda self: not self.is_closed)
    @rule(changes=st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(STATUSES)), max_size=6))
    def nodes_change(self, changes):
        entries = []
        for unique_id, status in changes:
            self.version += 1  # makes each entry another one
            entries.append(NodeResult(unique_id=unique_id, status=status, rows_affected=self.version))
        self.ledger.update((entry.unique_id, entry) for entry in entries)
        self.writer.add(entries)

    @precondition(lambda self: not self.is_closed)
    @rule()
    def dbt_ends(self):
        self.is_closed = True
        self.writer.close(0)

    @rule(number=st.integers(1, 20))
    def some_is_written(self, number):
        for _ in range(number):
            self.write()

    @rule(number=st.integers(1, 8), changes=st.data())
    def pages_are_written(self, number, changes):
        for _ in range(number):
            if not self.is_closed:
                self.nodes_change([(changes.draw(st.sampled_from(NODES)), "success")])
            while self.write():
                pass

    @rule(landed=st.booleans())
    def a_write_fails(self, landed):
        if landed:
            self.write()
        else:
            next(self.writes, None)
        self.writes.close()
        self.writes = self.publication.rest()

    @rule(landed=st.booleans())
    def another_goes_on(self, landed):
        self.a_write_fails(landed)
        reader = JournalReader()
        read_now(reader, self.xcoms.get)
        self.go_on(reader.tail)
        self.writer.add(
            entry for name, entry in self.ledger.items() if reader.state.entries.get(name) != entry
        )
        if self.is_closed and reader.state.closed is None:
            self.writer.close(0)

    def write(self):
        item = next(self.writes, None)
        if item is None:
            self.writes = self.publication.rest()
            return False
        key, value = item
        self.xcoms[key] = value
        if isinstance(value, str):
            assert len(value) < 1_500
            self.note(key, decode_page(value).chunk)
        return True

    def note(self, key, chunk):
        """Keep what the journal says up to each page."""
        if key == page_key(chunk.seq):  # neither a part nor a page that is blank
            latest = {entry.unique_id: entry for entry in chunk.changes}
            after = {**self.went_through[chunk.seq], **latest}
            assert self.went_through[chunk.seq + 1 :] in ([], [after])  # a page is written again as it was
            self.went_through[chunk.seq + 1 :] = [after]

    # Its readers.

    @rule()
    def a_reader_comes(self):
        self.readers.append(JournalReader())

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), number=st.integers(1, 8))
    def a_reader_asks(self, data, number):
        reader = data.draw(st.sampled_from(self.readers))
        for _ in range(number):
            if not self.ask(reader):
                break

    def ask(self, reader):
        value = self.xcoms.get(reader.key)
        if value is None:  # Airflow logs an error then
            assert 0 < reader.state.attempt < self.attempt or part_key(0) not in self.xcoms
            self.readers[self.readers.index(reader)] = JournalReader()  # as a hub does
            return False
        before = dict(reader.state.entries)
        attempt = reader.state.attempt
        more = reader.take(value)
        if reader.state.attempt == attempt:
            changed = {key for key, entry in reader.state.entries.items() if before.get(key) != entry}
            assert changed <= {entry.unique_id for entry in reader.news}
        return more

    @rule(
        wanted=st.frozensets(st.sampled_from(NODES)),
        max_pages=st.sampled_from([None, 3, 8]),
        meanwhile=st.lists(st.integers(-1, 8), max_size=4),
    )
    def a_sensor_looks_once(self, wanted, max_pages, meanwhile):
        before = self.went_through

        def ask(name):
            value = self.xcoms.get(name)
            writes = meanwhile.pop() if meanwhile else 0
            if writes < 0:
                self.next_attempt()
                self.nodes_change([(NODES[0], "started")])
            for _ in range(writes):
                self.write()
            return value

        start = len(before) - 1
        was_open = part_key(0) in self.xcoms
        found = look_back(ask, wanted, max_values=max_pages)
        if found is None:
            assert max_pages is not None or not was_open or before is not self.went_through
        else:
            possible = before[start:] + ([] if before is self.went_through else self.went_through)
            assert found.entries in [
                {name: entry for name, entry in entries.items() if name in wanted} for entries in possible
            ]

    # What must hold.

    @invariant()
    def a_reader_knows_what_the_journal_said_at_some_page(self):
        for reader in getattr(self, "readers", ()):
            if reader.state.attempt == self.attempt:
                assert dict(reader.state.entries) == self.went_through[reader.state.next_seq]

    def teardown(self):
        """Whatever happened: all read the whole journal in the end."""
        if not hasattr(self, "ledger"):
            return
        if not self.is_closed:
            self.dbt_ends()
        while self.write():
            pass
        self.readers.append(JournalReader())
        for place in range(len(self.readers)):
            questions = 0
            while (
                self.readers[place].state.closed is None or self.readers[place].state.attempt < self.attempt
            ):
                self.ask(self.readers[place])
                questions += 1
                assert questions < 2 * len(self.xcoms) + 5
            reader = self.readers[place]
            assert dict(reader.state.entries) == self.ledger
            assert reader.state.closed.exit_code == 0


def test_readers_of_a_journal_end_with_the_entries_of_the_ledger():
    with few_keys_and_small_parts():
        run_state_machine_as_test(
            Journal, settings=settings(max_examples=300, stateful_step_count=40, deadline=None)
        )


def test_who_was_given_up_and_still_writes_is_not_heeded():
    late, current = ({}, {})
    for attempt, xcoms in ((1, late), (2, current)):
        writer = JournalWriter(attempt=attempt)
        writer.add([NodeResult(unique_id=NODES[0], status=STATUSES[attempt], attempt=attempt)])
        xcoms.update(Publication(writer, will_retry=False).rest())
    reader = JournalReader()
    assert read_now(reader, current.get)
    assert not reader.take(late[page_key(0)])
    assert reader.state.entries[NODES[0]].attempt == 2
    assert read_now(reader, current.get)


@pytest.mark.parametrize("key", [part_key(0), part_key(1), page_key(0)])
@pytest.mark.parametrize("value", ["", "{}", 5, "[" * 100_000])
def test_a_damaged_value_is_refused(key, value):
    xcoms = {}
    with few_keys_and_small_parts():
        writer = JournalWriter(attempt=1)
        publication = Publication(writer, will_retry=False)
        for number in range(20):
            writer.add([NodeResult(unique_id=f"model.shop.m{number}", status="success")])
            xcoms.update(publication.rest())
        assert xcoms[HEAD_KEY] > 0
        xcoms[key] = value
        with pytest.raises(JournalError):
            read_now(JournalReader(), xcoms.get)
