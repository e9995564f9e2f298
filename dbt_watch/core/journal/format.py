"""
The journal: the ledger's changes in numbered chunks, for others to read.

The producer writes chunks as values of XCom, the hub reads them. Pure: no input, no output, no clock. A chunk is
small enough for any XCom backend, says which attempt it belongs to, and the last one closes the attempt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from dbt_watch.core.results import NodeResult, shortened
from dbt_watch.exceptions import DbtWatchError

JOURNAL_VERSION: Final = 2
"""The version of the format; a reader refuses any other."""
MAX_CHUNK_BYTES: Final = 48 * 1024
"""How long a chunk's JSON may be: what any XCom backend takes."""

_KIND: Final = "dbt_watch.journal"


class JournalError(DbtWatchError):
    """A value is not a chunk of a journal that this version can read."""


class Closed(msgspec.Struct, frozen=True):
    """
    How an attempt ended.

    :param exit_code: dbt's; None when it is not known
    :param reason: why, where somebody outside dbt knows it
    """

    exit_code: int | None = None
    reason: str | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """
    A piece of a journal.

    :param attempt: which attempt of the producer, from 1
    :param seq: the number of the chunk within the attempt, from 0; of a part of the snapshot (`core.journal.pages`), the number of
        the last chunk that the snapshot holds, -1 for none
    :param changes: the nodes that changed, each with its entry
    :param closed: in the last chunk, how the attempt ended
    :param more: whether another part of the snapshot follows
    """

    attempt: int
    seq: int
    changes: tuple[NodeResult, ...] = ()
    closed: Closed | None = None
    more: bool = False

    def fields(self) -> dict[str, Any]:
        """Give what `decode_chunk` reads, for `msgspec` to encode: that is much faster than making builtins first."""
        value: dict[str, Any] = {
            "kind": _KIND,
            "version": JOURNAL_VERSION,
            "attempt": self.attempt,
            "seq": self.seq,
            "changes": self.changes,
        }
        if self.closed is not None:
            value["closed"] = self.closed
        if self.more:
            value["more"] = True
        return value

    def to_json(self) -> dict[str, Any]:
        """Give it as a JSON-able dictionary, which `decode_chunk` reads."""
        value: dict[str, Any] = msgspec.json.decode(_encode(self.fields()))
        return value


def decode_chunk(value: Any) -> Chunk:
    """
    Read a chunk.

    :param value: what `Chunk.to_json` gave, or a text that holds its JSON
    :raises JournalError: it is something else, damaged, or of another version
    """
    if isinstance(value, (str, bytes)):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise JournalError(f"a chunk of the journal is not JSON: {error}") from error
        if isinstance(value, str):  # an XCom value that was encoded twice
            return decode_chunk(value)
    if not isinstance(value, Mapping) or value.get("kind") != _KIND:
        raise JournalError(f"not a chunk of a journal: {shortened(repr(value), 200)}")
    version = value.get("version")
    if version != JOURNAL_VERSION:
        raise JournalError(
            f"a chunk of the journal has version {version!r}; this one reads {JOURNAL_VERSION} only"
        )
    try:
        return msgspec.convert({key: value[key] for key in Chunk.__struct_fields__ if key in value}, Chunk)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise JournalError(f"a chunk of the journal is damaged: {error}") from error


class JournalWriter:
    """
    Collects changes, and cuts them into chunks.

    Within a chunk a node stands once, with its last state, so a journal read up to any chunk is a state that the
    ledger went through. `take` gives the same chunk until `written` says that it was stored.

    :param attempt: which attempt of the producer this is, from 1
    :param max_chunk_bytes: how long a chunk's JSON may be, at least 2,048
    :param max_changes: how many nodes one chunk may hold
    """

    def __init__(
        self, *, attempt: int, max_chunk_bytes: int = MAX_CHUNK_BYTES, max_changes: int = 1_000
    ) -> None:
        self.attempt = attempt
        self._room = max(max_chunk_bytes, _MIN_BYTES) - ENVELOPE_BYTES
        self._max_changes = max(max_changes, 1)
        self._waiting: list[NodeResult] = []
        self._seq = 0
        self._taken: Chunk | None = None
        self._closing: Closed | None = None
        self._change_bytes = 1.0  # what a change took in the chunk before

    def add(self, changes: Iterable[NodeResult]) -> None:
        """Take changes to be written, in their order."""
        self._waiting.extend(changes)

    @property
    def pending(self) -> int:
        """How many changes wait to be written, those of a chunk that was taken and not stored among them."""
        return len(self._waiting) + (max(1, len(self._taken.changes)) if self._taken is not None else 0)

    @property
    def is_full(self) -> bool:
        """Whether what waits fills a chunk, judged by the chunk before."""
        count = len(self._waiting)
        return count >= self._max_changes or count * self._change_bytes >= self._room

    def close(self, exit_code: int | None, *, reason: str | None = None) -> None:
        """Take the end of the attempt; the last chunk will tell it."""
        self._closing = Closed(exit_code, _bounded(reason))

    def take(self) -> Chunk | None:
        """Give the next chunk to store; None when there is nothing to store now."""
        if self._taken is None and (self._waiting or self._closing is not None):
            changes = self._next_changes()
            closed = None
            if not self._waiting:
                closed, self._closing = self._closing, None
            self._taken = Chunk(attempt=self.attempt, seq=self._seq, changes=changes, closed=closed)
        return self._taken

    def written(self, chunk: Chunk) -> None:
        """Say that a chunk was stored."""
        if self._taken is not None and chunk.seq == self._taken.seq:
            self._taken = None
            self._seq += 1

    def _next_changes(self) -> tuple[NodeResult, ...]:
        """Take as many changes as fit: at first as many as fitted before, then fewer, judged by what was too much."""
        waiting = self._waiting
        count = min(len(waiting), 2 * self._max_changes, int(self._room / self._change_bytes) or 1)
        while count > 1:
            latest = {change.unique_id: change for change in waiting[:count]}
            entries = tuple(latest.values())
            size = json_size(entries)
            if size <= self._room and len(entries) <= self._max_changes:
                del waiting[:count]
                self._change_bytes = max(1.0, _MARGIN * size / count)
                return entries
            fitting = min(self._room / size, self._max_changes / len(entries))
            count = min(int(count * fitting), count - 1)
        if not waiting:
            return ()
        return (_fitted(waiting.pop(0), self._room),)


_MIN_BYTES: Final = 2_048
_MARGIN: Final = 1.05
_MAX_REASON_BYTES: Final = 600
# The keys and numbers of a chunk, and the reason.
ENVELOPE_BYTES: Final = 200 + _MAX_REASON_BYTES


def _bounded(reason: str | None) -> str | None:
    """Shorten a reason until its JSON fits into the envelope."""
    limit = _MAX_REASON_BYTES
    while reason and len(json.dumps(reason)) > _MAX_REASON_BYTES:
        limit //= 2
        reason = shortened(reason, limit)
    return reason


_encode: Final = msgspec.json.Encoder().encode


def json_size(entries: tuple[NodeResult, ...]) -> int:
    """Return the bytes that entries take in the JSON that a backend may write, or a few more."""
    encoded = _encode(entries)
    if encoded.isascii() and b"\x7f" not in encoded:
        # `json.dumps` puts a blank behind each colon and comma, and is much slower.
        return 2 * len(encoded) - len(encoded.translate(None, b":,"))
    return len(json.dumps([entry.to_dict() for entry in entries]))


def _fitted(change: NodeResult, room: int) -> NodeResult:
    """Shorten an entry until it fits."""
    slim = change
    if json_size((slim,)) <= room:
        return slim
    slim = msgspec.structs.replace(slim, sql=None)
    for limit in (8_000, 4_000, 2_000, 1_000, 500, 200, 60, 0):
        message = shortened(slim.message, limit) if slim.message and limit else None
        slim = msgspec.structs.replace(slim, message=message)
        if json_size((slim,)) <= room:
            return slim
        if limit == _THEN_WITHOUT_EXTRAS:
            slim = msgspec.structs.replace(
                slim,
                adapter_response={},
                batches=(),
                relation_name=None,
                skipped_because=slim.skipped_because[:1],
            )
    return NodeResult(
        unique_id=change.unique_id, status=change.status, attempt=change.attempt, not_run=change.not_run
    )


_THEN_WITHOUT_EXTRAS: Final = 1_000


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
