"""Writing the journal: order, pace, and failures."""

import itertools

import pytest

from dbt_watch.core.journal import JournalWriter
from dbt_watch.core.pages import EMPTY_PAGE, decode_page, page_key
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.pen import BACKOFF_FIRST, FLUSH_INTERVAL, Pen


class Store:
    """XCom, as far as a pen sees it; it can be told to fail."""

    def __init__(self):
        self.pages = {}
        self.log = []
        self.failures = 0

    def push(self, key, value):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("api-server is away")
        self.pages[key] = value
        self.log.append((key, value == EMPTY_PAGE))

    def read(self):
        chunks = []
        while (page := decode_page(self.pages[page_key(len(chunks))])) is not None:
            chunks.append(page.chunk)
            if page.chunk.closed is not None:
                break
        return chunks


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
def pen(writer, store, clock):
    return Pen(writer, store.push, will_retry=True, clock=clock, sleep=clock.sleep)


def changes(*names):
    return [NodeResult(unique_id=f"model.shop.{name}", name=name, status="success") for name in names]


def names(chunks):
    return [[result.name for result in chunk.changes] for chunk in chunks]


def test_a_reader_always_finds_a_page_to_look_at(pen, writer, store, clock):
    pen.open()
    assert store.log == [("journal_0001", True), ("journal_0000", False), ("journal_head", False)]
    clock.now += FLUSH_INTERVAL
    writer.add(changes("orders"))
    pen.write()
    assert store.log[3:] == [("journal_0002", True), ("journal_0001", False), ("journal_head", False)]
    assert names(store.read()) == [[], ["orders"]]


def test_the_first_page_tells_of_the_attempt_before_anything_has_happened(store, clock):
    pen = Pen(JournalWriter(attempt=2), store.push, will_retry=True, began=12.5, clock=clock)
    pen.open()
    page = decode_page(store.pages["journal_0000"])
    assert (page.chunk.attempt, page.will_retry, page.began) == (2, True, 12.5)


def test_a_first_page_that_could_not_be_written_is_not_forgotten(pen, store, clock):
    store.failures = 1
    pen.open()
    assert not store.pages
    clock.now += BACKOFF_FIRST
    pen.write()
    assert names(store.read()) == [[]]


def test_changes_wait_for_the_interval_and_then_go_out_together(pen, writer, store, clock):
    pen.open()
    writer.add(changes("a"))
    pen.write()
    writer.add(changes("b"))
    pen.write()
    assert names(store.read()) == [[]]
    clock.now += FLUSH_INTERVAL
    pen.write()
    assert names(store.read()) == [[], ["a", "b"]]


def test_many_changes_do_not_wait(writer, store, clock):
    pen = Pen(writer, store.push, will_retry=False, max_pending=3, clock=clock, sleep=clock.sleep)
    pen.open()
    writer.add(changes("a", "b", "c"))
    pen.write()
    assert names(store.read()) == [[], ["a", "b", "c"]]


def test_two_hundred_changes_do_not_wait_and_fewer_do(pen, writer, store, clock):
    pen.open()
    writer.add(changes(*map(str, range(199))))
    pen.write()
    assert names(store.read()) == [[]]
    writer.add(changes("last"))
    pen.write()
    assert len(store.read()[1].changes) == 200


def test_who_does_not_know_when_the_attempt_began_says_that_it_was_long_ago(pen, writer, store):
    pen.open()
    assert decode_page(store.pages["journal_0000"]).began == 0.0


def test_nothing_is_written_while_nothing_changes(pen, store, clock):
    pen.open()
    before = list(store.log)
    clock.now += 60
    pen.write()
    assert store.log == before


def test_a_failing_write_raises_nothing_and_loses_nothing(pen, writer, store, clock):
    pen.open()
    store.failures = 1
    clock.now += FLUSH_INTERVAL
    writer.add(changes("a"))
    pen.write()
    writer.add(changes("b"))
    pen.write()
    assert names(store.read()) == [[]]
    clock.now += BACKOFF_FIRST
    pen.write()
    assert sorted(itertools.chain.from_iterable(names(store.read()))) == ["a", "b"]


def test_a_failing_store_is_asked_less_and_less_often(pen, writer, store, clock):
    store.failures = 10**9
    writer.add(changes("a"))
    tries = 0
    for _ in range(600):
        before = store.failures
        pen.write()
        tries += before - store.failures
        clock.now += 0.1
    assert 5 <= tries <= 15


def test_the_end_is_tried_again_until_it_is_written(pen, writer, store):
    pen.open()
    store.failures = 4
    writer.add(changes("a"))
    writer.close(1, reason="OOMKilled")
    assert pen.finish()
    assert store.read()[-1].closed.exit_code == 1
    assert store.read()[-1].closed.reason == "OOMKilled"


def test_after_a_failure_it_waits_longer_each_time_up_to_a_limit(writer, store, clock, caplog):
    slept = []
    pen = Pen(
        writer, store.push, will_retry=True, clock=clock, sleep=lambda s: (slept.append(s), clock.sleep(s))
    )
    store.failures = 10**9
    writer.close(0)
    assert not pen.finish(patience=60)
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0, 4.5]
    assert "api-server is away" in caplog.text


def test_the_end_is_given_up_after_a_while_without_an_error(pen, writer, store, clock):
    store.failures = 10**9
    writer.close(0)
    start = clock.now
    assert not pen.finish(patience=60)
    assert 60 <= clock.now - start < 75


def test_readers_learn_whether_another_attempt_follows(pen, writer, store, clock):
    pen.open()
    clock.now += FLUSH_INTERVAL
    writer.add(changes("a"))
    pen.write()
    assert decode_page(store.pages["journal_0000"]).will_retry
