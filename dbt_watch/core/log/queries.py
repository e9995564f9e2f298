"""
The SQL that dbt sent to the database for a node, kept in case the node fails.

It stands in debug records, which are many, so they are kept as they are and decoded for a failure only. `core.log.stream`
notes them, `core.log.ledger` asks.
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

_UNIQUE_ID: Final = re.compile(rb'"unique_id": ?"([^"\\]+)"')
# dbt puts a comment about itself in front of each query.
_COMMENT: Final = re.compile(r"\A\s*/\*.*?\*/\s*", re.DOTALL)


class _QueryData(msgspec.Struct):
    sql: str = ""


class _Record(msgspec.Struct):
    data: _QueryData


_decode: Final = msgspec.json.Decoder(_Record).decode


class Queries:
    """The last query of each node that runs."""

    def __init__(self) -> None:
        self._latest: dict[str, bytes | str] = {}

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
        kept = self._latest.pop(unique_id, None)
        if kept is None:
            return None
        try:
            sql = kept if isinstance(kept, str) else _sql_in(kept)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return shortened(sanitize(_COMMENT.sub("", sql).strip()), MAX_SQL_CHARS) or None

    def _keep(self, unique_id: str, query: bytes | str) -> None:
        self._latest.pop(unique_id, None)
        self._latest[unique_id] = query
        if len(self._latest) > _MAX_NODES:
            del self._latest[next(iter(self._latest))]


def _sql_in(record: bytes) -> str:
    try:
        return _decode(record).data.sql
    except msgspec.MsgspecError:
        # A print without an end may stand in front of the record, or behind it.
        found = [part.data.sql for part in salvaged(record) if isinstance(part, DbtEvent)]
        return next(filter(None, found), "")
