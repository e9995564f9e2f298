"""
The SQL that dbt sent to the database for a node, kept in case the node fails, and for its lineage where that is wanted.

It stands in debug records, which are many, so they are kept as they are and decoded only when somebody asks. `core.log.stream`
notes them, `core.log.ledger` and `lineage.happenings` ask.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from dbt_watch.core.log.events import DbtEvent, salvaged
from dbt_watch.core.results import shortened
from dbt_watch.core.text import sanitize

MAX_SQL_CHARS: Final = 4_000
"""How much of a query is kept with the result of a node."""
# Beyond this a record is not kept; dbt runs a few nodes at a time, and each has one record here.
_MAX_RECORD_BYTES: Final = 256 * 1024
_MAX_NODES: Final = 64
# For lineage more nodes are kept: many may end in the lines that are read at once.
_MAX_MAIN: Final = 2_000
_MAX_MAIN_BYTES: Final = 32 << 20

_UNIQUE_ID: Final = re.compile(rb'"unique_id": ?"([^"\\]+)"')
# dbt puts a comment about itself in front of each query.
_COMMENT: Final = re.compile(r"\A\s*/\*.*?\*/\s*", re.DOTALL)


class _QueryData(msgspec.Struct):
    sql: str = ""


class _Record(msgspec.Struct):
    data: _QueryData


_decode: Final = msgspec.json.Decoder(_Record).decode


class Queries:
    """The last query of each node that runs; and the main one, which builds or checks it, once that is asked for."""

    def __init__(self) -> None:
        self._latest: dict[str, bytes | str] = {}
        self._main: dict[str, bytes | str] | None = None
        self._main_bytes = 0

    def keep_main(self) -> None:
        """Keep the main query of each node as well from now on."""
        self._main = {}

    def note_record(self, record: bytes) -> None:
        """
        Keep a query.

        :param record: the line of the log, an event of the kind `SQLQuery`
        """
        node = _UNIQUE_ID.search(record)
        if node is not None and len(record) <= _MAX_RECORD_BYTES:
            self._keep(node[1].decode("utf-8", "replace"), record)

    def note(self, unique_id: str, sql: str | None) -> None:
        """Keep a query whose record has been decoded already."""
        if unique_id and sql and len(sql) <= _MAX_RECORD_BYTES:
            self._keep(unique_id, sql)

    def last_of(self, unique_id: str) -> str | None:
        """Return the last query of a node, once, without dbt's comment; None when none is known."""
        sql = _decoded(self._latest.pop(unique_id, None))
        return shortened(sanitize(sql), MAX_SQL_CHARS) or None

    def main_of(self, unique_id: str) -> str | None:
        """
        Return the main query of a node, once, whole and without dbt's comment; None when none is known.

        That is the longest of those that make or fill a table, or count the failures of a test; of a node that came to none of
        these, the longest.
        """
        kept = None if self._main is None else self._main.pop(unique_id, None)
        self._main_bytes -= len(kept or b"")
        return _decoded(kept) or None

    def _keep(self, unique_id: str, query: bytes | str) -> None:
        if self._main is not None:
            self._keep_if_main(self._main, unique_id, query)
        self._latest.pop(unique_id, None)
        self._latest[unique_id] = query
        if len(self._latest) > _MAX_NODES:
            del self._latest[next(iter(self._latest))]

    def _keep_if_main(self, main: dict[str, bytes | str], unique_id: str, query: bytes | str) -> None:
        known = main.pop(unique_id, b"")
        if _weight(query) < _weight(known):
            main[unique_id] = known
            return
        main[unique_id] = query
        self._main_bytes += len(query) - len(known)
        while len(main) > _MAX_MAIN or self._main_bytes > _MAX_MAIN_BYTES:
            self._main_bytes -= len(main.pop(next(iter(main))))


# What an adapter asks of its catalog has none of these; the name is that of dbt's macro for tests. In a record, the end of a line
# is written as `\n`.
_WORDS: Final = rb"(?i)(?:\b|\\[nrt])(?:create|insert|merge)\b|dbt_internal_test"
_BUILDS_IN_RECORD: Final = re.compile(_WORDS)
_BUILDS: Final = re.compile(_WORDS.decode())


def _weight(query: bytes | str) -> tuple[bool, int]:
    builds = _BUILDS.search(query) if isinstance(query, str) else _BUILDS_IN_RECORD.search(query)
    return (builds is not None, len(query))


def _decoded(kept: bytes | str | None) -> str:
    """Return a query without dbt's comment; empty when there is none, or it cannot be read."""
    try:
        sql = kept if isinstance(kept, str) else _sql_in(kept or b"{}")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return _COMMENT.sub("", sql).strip()


def _sql_in(record: bytes) -> str:
    try:
        return _decode(record).data.sql
    except msgspec.MsgspecError:
        # A print without an end may stand in front of the record, or behind it.
        found = [part.data.sql for part in salvaged(record) if isinstance(part, DbtEvent)]
        return next(filter(None, found), "")
