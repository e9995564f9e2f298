"""
The nodes of a run as CSV, for a spreadsheet. `reporting.command` prints it; the page offers the same (`page/page.js`).

A cell that begins with what a spreadsheet takes for a formula gets an apostrophe in front, since names and messages come
from elsewhere: https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from dbt_watch.reporting.run_record import Before, NodeRecord, RunRecord

COLUMNS: Final = (
    "unique_id", "name", "kind", "state", "seconds", "seconds_before", "change", "rows", "failures", "attempt",
    "started_at", "finished_at", "file", "message",
)  # fmt: skip
"""The first line."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def csv_of(record: RunRecord) -> str:
    """Return the nodes of a run as CSV (RFC 4180), the first line with the names of the columns."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    before = record.comparison.before if record.comparison is not None else {}
    writer.writerows(_row(node, before.get(node.unique_id)) for node in record.nodes)
    return file.getvalue()


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _row(node: NodeRecord, before: Before | None) -> list[str]:
    earlier = before.seconds if before is not None else None
    change = node.seconds - earlier if node.seconds is not None and earlier is not None else None
    return [
        harmless(node.unique_id),
        harmless(node.name),
        harmless(node.kind),
        harmless(node.state),
        _number(node.seconds),
        _number(earlier),
        _number(change),
        "" if node.rows is None else str(node.rows),
        "" if node.failures is None else str(node.failures),
        str(node.attempt),
        _time(node.started_at),
        _time(node.finished_at),
        harmless(node.path),
        harmless(node.message or ""),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _time(value: datetime | None) -> str:
    return "" if value is None else value.isoformat().replace("+00:00", "Z")
