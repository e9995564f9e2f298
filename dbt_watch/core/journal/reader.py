"""
Reads a journal as it lies in XCom: first the snapshot, then the pages after it.

It asks nothing itself, so that hubs, triggers and tasks share it: it names the key to ask for, and takes what lies there.
Whoever begins late asks for as many values as the entries fill, and at most `PAGES` more, however long the run.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from dbt_watch.core.journal.format import HEAD_KEY, Page, decode_page, page_key, part_key
from dbt_watch.core.journal.writer import Tail
from dbt_watch.core.steps import run, run_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping

    from dbt_watch.core.journal.format import Chunk, Closed
    from dbt_watch.core.results import NodeResult


class JournalState:
    """
    What a reader of a journal knows.

    Chunks may be applied in any grouping and again; a gap is left to the reader, who asks for `next_seq`. A chunk of
    a later attempt starts over, one of an earlier attempt is ignored.
    """

    def __init__(self) -> None:
        self._attempt = 0
        self._next_seq = 0
        self._entries: dict[str, NodeResult] = {}
        self._closed: Closed | None = None

    @property
    def attempt(self) -> int:
        """The attempt that is read; 0 before the first chunk."""
        return self._attempt

    @property
    def next_seq(self) -> int:
        """The number of the chunk to read next."""
        return self._next_seq

    @property
    def entries(self) -> Mapping[str, NodeResult]:
        """The entry of each node that was written so far; a view that follows the state."""
        return MappingProxyType(self._entries)

    @property
    def closed(self) -> Closed | None:
        """How the attempt ended; None while it has not."""
        return self._closed

    def begin(self, attempt: int) -> None:
        """Start over with an attempt."""
        self._attempt = attempt
        self._next_seq = 0
        self._entries.clear()
        self._closed = None

    def adopt(self, seq: int, changes: Iterable[NodeResult]) -> None:
        """
        Take the last entries of all nodes that changed up to a chunk, or at least since `next_seq`.

        :param seq: the number of the chunk, at least `next_seq - 1`
        """
        self._next_seq = seq + 1
        for change in changes:
            self._entries[change.unique_id] = change

    def apply(self, chunk: Chunk) -> tuple[NodeResult, ...]:
        """
        Take a chunk.

        :returns: the changes in it; nothing when it was applied before, is of an earlier attempt, or does not follow
        """
        if chunk.attempt > self._attempt:
            self.begin(chunk.attempt)
        if chunk.attempt < self._attempt or chunk.seq != self._next_seq:
            return ()
        self.adopt(chunk.seq, chunk.changes)
        if chunk.closed is not None:
            self._closed = chunk.closed
        return chunk.changes


class JournalReader:
    """
    The reading of one journal, from the beginning of an attempt to its end, and of the attempts that follow.

    :param part: the part of the snapshot to begin with; what the parts before it hold is not read then

    `state` knows what has been read: all up to a certain page, at any moment. While a snapshot is being read, that is what
    was known before.
    """

    def __init__(self, part: int = 0) -> None:
        self.state = JournalState()
        self.first_part = part
        """The part that was read first."""
        self.page: Page | None = None
        """What was read last: how the attempt stands; None before anything is known of it."""
        self.news: Iterable[NodeResult] = ()
        """The entries that were new in the last value."""
        self._tail = Tail()
        self._part = part
        self._snapshot: dict[str, NodeResult] | None = {}  # None while pages are read

    @property
    def key(self) -> str:
        """The key to ask for next."""
        return part_key(self._part) if self._snapshot is not None else page_key(self.state.next_seq)

    @property
    def tail(self) -> Tail | None:
        """What a writer must know to go on with this journal; None when it has not begun."""
        return None if self.page is None else self._tail

    def take(self, value: Any) -> bool:
        """
        Take what lies under `key`; None when there is nothing.

        :returns: whether to ask on at once; if not, that was all for now
        :raises JournalError: when it is no page of a journal, or a damaged one
        """
        self.news = ()
        if value is None:
            return False
        page = decode_page(value)
        before = self.state.attempt
        if page.chunk.attempt > before:
            self.state.begin(page.chunk.attempt)
            if before:
                self._read_snapshot(0)
                self.first_part, self.page = 0, None
                return True
        elif page.chunk.attempt < before:
            return False  # by somebody who does not know yet that he was given up
        return self._take_page(page) if self._snapshot is None else self._take_part(page, self._snapshot)

    def _read_snapshot(self, part: int) -> None:
        self._part = part
        self._snapshot = {}

    def _take_part(self, page: Page, snapshot: dict[str, NodeResult]) -> bool:
        part = page.chunk
        entries = {entry.unique_id: entry for entry in part.changes}
        snapshot.update(entries)
        if part.more:
            self._part += 1
            return True
        after = part.seq + 1
        if self.page is not None and after <= self.state.next_seq:
            self._read_snapshot(self._tail.part)  # it should hold what has been overwritten
            return False
        self._tail = Tail(self._part, after, after, entries)
        self._snapshot = None
        self.state.adopt(part.seq, snapshot.values())
        self.page, self.news = page, snapshot.values()
        return True

    def _take_page(self, page: Page) -> bool:
        chunk = page.chunk
        if chunk.seq < self.state.next_seq:
            return False  # not written yet
        if chunk.seq > self.state.next_seq:
            self._read_snapshot(self._tail.part)  # overwritten meanwhile
            return True
        self.page, self.news = page, self.state.apply(chunk)
        self._tail.add(chunk)
        return chunk.closed is None


def read_now(reader: JournalReader, ask: Callable[[str], Any]) -> bool:
    """
    Read all that is there, on a worker.

    :param ask: returns an XCom by its key; None when it is not there
    :returns: whether the journal was there to its end
    :raises JournalError: as `JournalReader.take`
    """
    return run(_to_the_end(reader), ask)


async def read(reader: JournalReader, ask: Callable[[str], Awaitable[Any]]) -> bool:
    """Do the same in a triggerer."""
    return await run_async(_to_the_end(reader), ask)


def _to_the_end(reader: JournalReader) -> Generator[str, Any, bool]:
    more = True
    while more:
        value = yield reader.key
        more = reader.take(value)
    return value is not None


class Found(NamedTuple):
    """
    What a look at the end of a journal has found.

    :param page: what was written last: how the attempt stands; None when there is no journal
    :param entries: the last entry of each wanted node of which the journal tells
    """

    page: Page | None
    entries: dict[str, NodeResult]


def look_back(
    ask: Callable[[str], Any], wanted: frozenset[str], *, max_values: int | None = None
) -> Found | None:
    """
    Read the last part and the pages after it, then the parts before, until all wanted nodes are found; on a worker.

    :param ask: returns an XCom by its key; None when it is not there
    :param wanted: the nodes
    :param max_values: after how many values to look no further back; None for the whole journal
    :returns: None when nothing can be said: the journal goes further back, or another attempt has begun meanwhile
    :raises JournalError: as `JournalReader.take`
    """
    head = ask(HEAD_KEY)
    if head is None:
        return Found(None, {})
    asked: list[str] = []

    def ask_and_count(key: str) -> Any:
        asked.append(key)
        return ask(key)

    reader = JournalReader(part=int(head))
    is_whole = read_now(reader, ask_and_count)
    page = reader.page
    if page is None or not is_whole:
        return None  # a new attempt has begun meanwhile
    entries = {name: entry for name, entry in reader.state.entries.items() if name in wanted}
    for number in range(reader.first_part - 1, -1, -1):
        if wanted <= entries.keys():
            break
        if max_values is not None and len(asked) >= max_values:
            return None
        part = _part(ask_and_count(part_key(number)), page.chunk.attempt)
        if part is None:
            return None
        for result in part.changes:
            if result.unique_id in wanted:
                entries.setdefault(result.unique_id, result)
    return Found(page, entries)


def _part(value: Any, attempt: int) -> Chunk | None:
    """Return a part of the snapshot; None when it is not there, or is another attempt's."""
    part = None if value is None else decode_page(value).chunk
    return part if part is not None and part.attempt == attempt else None
