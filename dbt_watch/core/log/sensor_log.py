"""How a node's entry reads in a task log: used by the sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.core.log.task_log import MAX_LINE_CHARS
from dbt_watch.core.text import printable

if TYPE_CHECKING:
    from datetime import datetime

    from dbt_watch.core.results import NodeResult


def started_line(result: NodeResult) -> str:
    """Say that dbt has started a node."""
    return _line(f"dbt started {result.resource_type} {result.label}{_at(result.started_at)}")


def finished_lines(result: NodeResult) -> list[str]:
    """
    Say how dbt ended a node: one line, and below it the text of a warning, or the SQL that failed.

    The text of a failure is the outcome's.
    """
    facts = [f"{result.resource_type} {result.label}: {result.status}"]
    if result.execution_time is not None and not result.is_skipped:
        facts.append(f"in {result.execution_time:.2f} s")
    if result.rows_affected is not None and result.rows_affected >= 0:
        facts.append(f"{result.rows_affected} rows")
    if result.failures:
        facts.append(f"{result.failures} failures")
    if result.relation_name and (result.is_success or result.is_warning):
        facts.append(f"into {result.relation_name}")
    lines = [_line(", ".join(filter(None, facts)) + _at(result.finished_at))]
    if result.message and result.is_warning:
        lines += [_line(f"  {line}") for line in result.message.strip().split("\n")]
    if result.sql:
        lines += ["dbt had sent to the database:", *(_line(f"  {line}") for line in result.sql.split("\n"))]
    return lines


def _line(text: str) -> str:
    """Make a line harmless: a name in it may hold anything."""
    return printable(text, MAX_LINE_CHARS)


def _at(moment: datetime | None) -> str:
    return "" if moment is None else f" at {moment:%H:%M:%S} UTC"
