"""
A line of dbt's JSON log, read into a `DbtEvent`.

dbt-core 1.8 to 1.13, dbt-core 2.0 and dbt Fusion write the same envelope: `info` says what kind of event it is, `data`
holds its own fields. Only the fields that are used are decoded. But for `decode_record`, no function raises anything, whatever
the bytes: what is not a record of dbt is free text.

`core.log.stream` reads lines with it, the other modules of `core.log` take the events. Source of the names:
`dbt/events/core_types.proto` of dbt-core, and logs of Fusion.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Annotated, Any, Final

import msgspec

# Anything longer is not dbt's, and counts as missing: it would be kept in memory and end up in the journal.
Word = Annotated[str, msgspec.Meta(max_length=200)]
Name = Annotated[str, msgspec.Meta(max_length=10_000)]


class Info(msgspec.Struct, gc=False):
    """The envelope of an event."""

    name: Word
    level: Word
    ts: Word
    msg: str = ""
    invocation_id: Word = ""
    thread: Word = ""


class Relation(msgspec.Struct, gc=False):
    """The node's relation in the database."""

    relation_name: Name | None = None


class EventNode(msgspec.Struct, gc=False):
    """The `node_info` of an event. A time that is not known is an empty string."""

    unique_id: Name = ""
    node_name: Name = ""
    resource_type: Word = ""
    materialized: Word = ""
    node_status: Word = ""
    node_started_at: Word = ""
    node_finished_at: Word = ""
    node_relation: Relation | None = None


class RunResult(msgspec.Struct, gc=False):
    """The `run_result` of a NodeFinished or a MarkSkippedChildren."""

    status: Word = ""
    message: str | None = None
    num_failures: int | None = None
    execution_time: float | None = None
    adapter_response: dict[str, Any] | None = None


class Data(msgspec.Struct, gc=False):
    """The fields of all events that matter; each event has a few of them."""

    node_info: EventNode | None = None
    status: str | None = None
    execution_time: float | None = None
    num_failures: int | None = None
    result_message: str | None = None
    run_result: RunResult | None = None
    unique_id: Name | None = None
    exc: str | None = None
    msg: str | None = None
    conn_name: Name | None = None
    relation: Name | None = None
    batch_index: int | None = None
    total_batches: int | None = None
    total: int | None = None
    num_threads: int | None = None
    sql: str | None = None
    version: Word | None = None


class DbtEvent(msgspec.Struct, gc=False):
    """
    One record of dbt's log.

    :param info: the envelope
    :param data: the event's own fields
    """

    info: Info
    data: Data = msgspec.field(default_factory=Data)

    @property
    def unique_id(self) -> str:
        """The node that it is about; empty when it is about none."""
        node = self.data.node_info
        return (node.unique_id if node is not None else "") or self.data.unique_id or ""


# The debug events that make up most of a debug log and say nothing of a node's state.
_NOISY: Final = frozenset({
    b"AdapterEventDebug", b"CacheAction", b"CacheDumpGraph", b"CacheMiss", b"ColTypeChange", b"ConnectionClosed",
    b"ConnectionClosedInCleanup", b"ConnectionLeftOpen", b"ConnectionLeftOpenInCleanup", b"ConnectionReused",
    b"ConnectionUsed", b"FlushEvents", b"Formatting", b"GitProgressCheckoutOutSucceeded", b"JinjaLogDebug",
    b"ListRelations", b"MicrobatchExecutionDebug", b"MicrobatchMacroOutsideOfBatchesDeprecation", b"NewConnection",
    b"NewConnectionOpening", b"NodeCompiling", b"NodeExecuting", b"ParseInlineNodeError", b"Rollback", b"RollbackFailed",
    b"SchemaCreation", b"SchemaDrop", b"SQLCommit", b"SQLQuery", b"SQLQueryStatus", b"SystemExecutingCmd",
    b"TypeCodeNotFound", b"WritingInjectedSQLForNode",
})  # fmt: skip

# `"name"` and what follows it in `info` fit in here; with a longer thread name, a line is only not recognised as noise.
_TAIL: Final = 200

_decoder: Final = msgspec.json.Decoder(DbtEvent)
decode_record: Final = _decoder.decode
"""Reads a line that is exactly one record; raises one of `MISREAD` for any other."""
MISREAD: Final = (msgspec.MsgspecError, ValueError, RecursionError, MemoryError)


def decode_lines(lines: list[bytes]) -> list[DbtEvent] | None:
    """
    Read many lines at once, which costs half of reading each.

    :param lines: without their ends
    :returns: an event for each line; None unless every line is exactly one record
    """
    try:
        events = _decoder.decode_lines(b"\n".join(lines))
    except MISREAD:
        return None
    # A record that goes over two lines is none of dbt's; then there are fewer records than lines.
    return events if len(events) == len(lines) else None


def read_line(line: bytes) -> list[DbtEvent | str]:
    """
    Read one line with all that it holds.

    Most often that is one record, or free text; sometimes there is text in front of a record, between two or behind
    one, because a raw print ended without a newline.

    :param line: without its end
    :returns: records and texts as they stand in the line
    """
    try:
        return [decode_record(line)]
    except MISREAD:
        return salvaged(line)


def is_noise(line: bytes) -> bool:
    """Whether the line is surely one debug event that nobody needs; told from its bytes, without decoding."""
    # A quote inside a JSON string is escaped, so these patterns match only the record's own structure.
    tail = line[-_TAIL:]
    at = tail.rfind(b'"name"')
    if at < 0:
        return False
    words = tail[at + 6 : at + 60].split(b'"', 2)
    return (
        len(words) > 1
        and words[1] in _NOISY
        and line.startswith(b'{"')
        and line.endswith(b"}}")
        and line.count(b'"invocation_id"') == 1
        and (b'"level": "debug"' in line or b'"level":"debug"' in line)
    )


QUERY: Final = "SQLQuery"
"""The kind of event that tells what dbt has sent to the database."""
_QUERY_NAME: Final = b'"SQLQuery"'


def is_query(noise: bytes) -> bool:
    """Whether a line that is noise tells what dbt has sent to the database."""
    return _QUERY_NAME in noise[-_TAIL:]


_RECORD_START: Final = re.compile(r'\{\s*"(?:data|info)"\s*:')
# A line may be full of what only looks like the beginning of a record.
_MAX_MISSES: Final = 64
_scan: Final = json.JSONDecoder(parse_constant=lambda _: None).raw_decode


def salvaged(line: bytes) -> list[DbtEvent | str]:
    """Find the records in a line that is not exactly one; as `read_line`."""
    text = line.decode("utf-8", "replace")
    parts: list[DbtEvent | str] = []
    done = misses = 0
    match = _RECORD_START.search(text)
    while match is not None and misses < _MAX_MISSES:
        start = match.start()
        following = _RECORD_START.search(text, start + 1)
        found = _record_at(text, start, is_last=following is None)
        if found is None:
            misses += 1
            match = following
            continue
        event, end = found
        before = text[done:start]
        if before.strip():
            parts.append(before)
        parts.append(event)
        done = end
        match = _RECORD_START.search(text, done)
    rest = text[done:]
    if rest.strip() or not parts:
        parts.append(rest)
    return parts


def _record_at(text: str, start: int, *, is_last: bool) -> tuple[DbtEvent, int] | None:
    """Read the record that begins at `start`; return it and where it ends."""
    try:
        if is_last:
            return decode_record(text[start:]), len(text)
    except MISREAD:
        pass
    try:
        record, end = _scan(text, start)
        event = _normalized(record)
    except MISREAD:
        return None
    return None if event is None else (event, end)


def _normalized(record: Any) -> DbtEvent | None:
    """Return the event of a decoded record whose text or types the typed decoder refuses; None when it is none."""
    if not isinstance(record, dict):
        return None
    # Half of a surrogate pair cannot be encoded again, so it is replaced here, once for all that follows.
    again = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")
    try:
        return decode_record(again)
    except MISREAD:
        event = _forgiven(msgspec.json.decode(again), DbtEvent)
        return event if isinstance(event, DbtEvent) else None


_NESTED: Final[dict[str, type[msgspec.Struct]]] = {
    "info": Info,
    "data": Data,
    "node_info": EventNode,
    "node_relation": Relation,
    "run_result": RunResult,
}


def _forgiven(record: dict[str, Any], kind: type[msgspec.Struct]) -> msgspec.Struct | None:
    """Return a record with those fields only that have the right type; None when a required one is missing."""
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        value = record.get(field.encode_name)
        if value is None:
            continue
        try:
            kept[field.name] = msgspec.convert(value, field.type)
        except MISREAD:
            nested = _NESTED.get(field.name)
            if nested is not None and isinstance(value, dict):
                kept[field.name] = _forgiven(value, nested)
    if any(field.required and kept.get(field.name) is None for field in msgspec.structs.fields(kind)):
        return None
    return kind(**kept)


_LOST: Final = re.compile(r"\[(\w+)\]: Unable to parse logging event dictionary\.")
_LOST_DATA: Final = "Dictionary: "
_MAX_LOST_CHARS: Final = 100_000


def event_inside(note: DbtEvent) -> DbtEvent | None:
    """
    Read the event that dbt could not encode and wrote, as the text of a Python dictionary, into a Note instead.

    dbt-core does so when a number does not fit in 32 bits, for instance with over 2^31 failures of a test.

    :returns: the event with the envelope of the Note, or None when the Note is an ordinary one
    """
    text = note.info.msg
    if len(text) > _MAX_LOST_CHARS:
        return None
    match = _LOST.match(text)
    at = text.find(_LOST_DATA + "{", match.end()) if match is not None else -1
    if match is None or at < 0:
        return None
    try:
        data = _forgiven(ast.literal_eval(text[at + len(_LOST_DATA) :].strip()), Data)
    except (*MISREAD, SyntaxError, TypeError, AttributeError):
        return None
    if not isinstance(data, Data):
        return None
    info = note.info
    return DbtEvent(msgspec.structs.replace(info, name=match[1]), data)
