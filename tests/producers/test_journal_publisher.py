"""Writing the journal: order, pace, and failures."""

import itertools

import pytest

from dbt_watch.core.journal.format import HEAD_KEY, PAGES, Closed, decode_page, page_key, part_key
from dbt_watch.core.journal.pace import LONGEST_INTERVAL, USUAL_INTERVAL
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.core.journal.writer import BACKOFF_FIRST, JournalWriter, Publication
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.journal_publisher import JournalPublisher


class Store:
    """XCom, as far as a publisher sees it; it can be told to fail."""

    def __init__(self):
        self.pages = {}
        self.log = []
        self.failures = 0

    def push(self, key, value):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("api-server is away")
        self.pages[key] = value
        self.log.append((key, value if isinstance(value, int) else decode_page(value).chunk.seq))

    def read(self):
        """Return the chunks of a journal that is short."""
        chunks = [decode_page(self.pages[part_key(0)]).chunk]
        for number in range(PAGES):
            chunk = decode_page(self.pages[page_key(number)]).chunk
            if chunk.seq < number:
                break
            chunks.append(chunk)
        return chunks

    def reader(self):
        reader = JournalReader()
        assert read_now(reader, self.pages.get)
        return reader


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def writer():
    return JournalWriter(attempt=1)


@pytest.fixture
def publisher(writer, store, clock):
    return JournalPublisher(Publication(writer, will_retry=True, clock=clock), store.push, sleep=clock.sleep)


def changes(*names):
    return [NodeResult(unique_id=f"model.shop.{name}", name=name, status="success") for name in names]


def names(chunks):
    return [[result.name for result in chunk.changes] for chunk in chunks]


def test_a_reader_always_finds_a_page_to_look_at(publisher, writer, store, clock):
    publisher.flush()
    assert store.log == [("journal_page_00", -1), ("journal_head", 0), ("journal_0000", -1)]
    clock.now += USUAL_INTERVAL
    writer.add(changes("orders"))
    publisher.write()
    assert store.log[3:] == [("journal_page_01", 0), ("journal_page_00", 0)]
    assert names(store.read()) == [[], ["orders"]]


def test_the_opening_tells_of_the_attempt_before_anything_has_happened(store, clock):
    publisher = JournalPublisher(
        Publication(JournalWriter(attempt=2), will_retry=True, began=12.5, clock=clock), store.push
    )
    publisher.flush()
    page = decode_page(store.pages["journal_0000"])
    assert page.chunk.changes == ()
    assert (page.chunk.attempt, page.will_retry, page.began) == (2, True, 12.5)


def test_an_opening_that_could_not_be_written_is_not_forgotten(publisher, store, clock):
    store.failures = 1
    publisher.flush()
    assert not store.pages
    clock.now += BACKOFF_FIRST
    publisher.write()
    assert names(store.read()) == [[]]


def test_changes_wait_for_the_interval_and_then_go_out_together(publisher, writer, store, clock):
    publisher.flush()
    writer.add(changes("a"))
    publisher.write()
    writer.add(changes("b"))
    publisher.write()
    assert names(store.read()) == [[]]
    clock.now += USUAL_INTERVAL
    publisher.write()
    assert names(store.read()) == [[], ["a", "b"]]


def test_a_full_page_does_not_wait(store, clock):
    writer = JournalWriter(attempt=1, max_changes=3)
    publisher = JournalPublisher(
        Publication(writer, will_retry=False, clock=clock), store.push, sleep=clock.sleep
    )
    publisher.flush()
    writer.add(changes("a", "b"))
    publisher.write()
    assert names(store.read()) == [[]]
    writer.add(changes("c"))
    publisher.write()
    assert names(store.read()) == [[], ["a", "b", "c"]]


def test_a_burst_goes_out_in_few_pages(publisher, writer, store, clock):
    publisher.flush()
    clock.now += USUAL_INTERVAL
    writer.add(changes(*map(str, range(2_000))))
    publisher.write()
    assert len(store.reader().state.entries) == 2_000
    assert len(store.log) < 20


def test_the_interval_grows_with_the_journal(publisher, writer, store, clock):
    publisher.flush()
    start = clock.now
    while clock.now < start + 3_600:
        writer.add(changes(str(clock.now)))
        publisher.write()
        clock.now += 0.1
    before = len(store.log)
    assert 2_000 < store.reader().state.next_seq < 3_500
    assert before < 8_000
    writer.add(changes("late"))
    publisher.write()
    clock.now += LONGEST_INTERVAL
    publisher.write()
    assert store.reader().state.entries["model.shop.late"].is_success


class TestALongJournal:
    """So long that its pages have been overwritten."""

    @pytest.fixture
    def length(self):
        return 3 * PAGES

    @pytest.fixture
    def long(self, publisher, writer, length):
        publisher.flush()
        for number in range(length):
            writer.add(
                [
                    NodeResult(
                        unique_id=f"model.shop.m{number}",
                        status="error",
                        message=chr(33 + number) * 9_000,
                        execution_time=0.5,
                        rows_affected=number,
                        adapter_response={"code": "x"},
                    )
                ]
            )
            assert publisher.flush()

    @pytest.mark.usefixtures("long")
    def test_takes_no_more_rows_than_its_entries_fill_and_a_few(self, store, length):
        assert length > len(store.pages) - PAGES - 1
        assert len(store.pages) <= PAGES + 1 + length * 9_500 / (48 * 1024) * 1.3 + 1

    @pytest.mark.usefixtures("long")
    def test_tells_a_late_reader_all_that_the_pages_told(self, store, length):
        entries = store.reader().state.entries
        assert [entry.rows_affected for entry in entries.values()] == list(range(length))
        assert {len(entry.message) for entry in entries.values()} == {9_000}
        assert {str(entry.adapter_response) for entry in entries.values()} == {"{'code': 'x'}"}

    @pytest.mark.usefixtures("long")
    def test_has_a_head_that_names_the_last_part(self, store):
        head = store.pages[HEAD_KEY]
        assert head > 1
        assert decode_page(store.pages[part_key(head - 1)]).chunk.more
        assert not decode_page(store.pages[part_key(head)]).chunk.more

    def test_is_not_lost_to_a_reader_who_has_fallen_behind(self, publisher, writer, store):
        publisher.flush()
        writer.add(changes("first"))
        assert publisher.flush()
        behind = store.reader()
        for number in range(2 * PAGES + 5):
            writer.add(changes(str(number)))
            assert publisher.flush()
        assert read_now(behind, store.pages.get)
        assert behind.state.entries == store.reader().state.entries
        assert behind.state.next_seq == 2 * PAGES + 6


def test_the_head_is_written_again_only_when_there_is_another_last_part(publisher, writer, store):
    publisher.flush()
    for number in range(5 * PAGES):
        writer.add(changes(str(number)))
        publisher.flush()
    assert [entry for entry in store.log if entry[0] == HEAD_KEY] == [(HEAD_KEY, 0)]


def test_who_does_not_know_when_the_attempt_began_says_that_it_was_long_ago(publisher, writer, store):
    publisher.flush()
    assert decode_page(store.pages["journal_0000"]).began == 0.0


def test_nothing_is_written_while_nothing_changes(publisher, store, clock):
    publisher.flush()
    before = list(store.log)
    clock.now += 60
    publisher.write()
    assert store.log == before


def test_a_failing_write_raises_nothing_and_loses_nothing(publisher, writer, store, clock):
    publisher.flush()
    store.failures = 1
    clock.now += USUAL_INTERVAL
    writer.add(changes("a"))
    publisher.write()
    writer.add(changes("b"))
    publisher.write()
    assert names(store.read()) == [[]]
    clock.now += BACKOFF_FIRST
    publisher.write()
    assert sorted(itertools.chain.from_iterable(names(store.read()))) == ["a", "b"]


def test_a_failing_store_is_asked_less_and_less_often(publisher, writer, store, clock):
    store.failures = 10**9
    writer.add(changes("a"))
    tries = 0
    for _ in range(600):
        before = store.failures
        publisher.write()
        tries += before - store.failures
        clock.now += 0.1
    assert 5 <= tries <= 15


def test_the_end_is_tried_again_until_it_is_written(publisher, writer, store):
    publisher.flush()
    store.failures = 4
    writer.add(changes("a"))
    writer.close(1, reason="OOMKilled")
    assert publisher.finish()
    assert store.reader().state.closed == Closed(1, "OOMKilled")


def test_after_a_failure_it_waits_longer_each_time_up_to_a_limit(writer, store, clock, caplog):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        clock.sleep(seconds)

    publisher = JournalPublisher(Publication(writer, will_retry=True, clock=clock), store.push, sleep=sleep)
    store.failures = 10**9
    writer.close(0)
    assert not publisher.finish(patience=60)
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0, 4.5]
    assert "api-server is away" in caplog.text


def test_the_end_is_given_up_after_a_while_without_an_error(publisher, writer, store, clock):
    store.failures = 10**9
    writer.close(0)
    start = clock.now
    assert not publisher.finish(patience=60)
    assert 60 <= clock.now - start < 75


def test_readers_learn_whether_another_attempt_follows(publisher, writer, store, clock):
    publisher.flush()
    clock.now += USUAL_INTERVAL
    writer.add(changes("a"))
    publisher.write()
    assert decode_page(store.pages["journal_0000"]).will_retry
