"""How a node's entry reads in a task log: used by the sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from dbt_watch.core.results import NodeResult


def started_line(result: NodeResult) -> str:
    """Say that dbt has started a node."""
    return f"dbt started {result.resource_type} {result.name}{_at(result.started_at)}"


def finished_lines(result: NodeResult) -> list[str]:
    """Say how dbt ended a node: one line, and the text of a warning below it. That of a failure is the outcome's."""
    facts = [f"{result.resource_type} {result.name}: {result.status}"]
    if result.execution_time is not None:
        facts.append(f"in {result.execution_time:.2f} s")
    if result.rows_affected is not None and result.rows_affected >= 0:
        facts.append(f"{result.rows_affected} rows")
    if result.failures:
        facts.append(f"{result.failures} failures")
    if result.relation_name:
        facts.append(f"into {result.relation_name}")
    lines = [", ".join(filter(None, facts)) + _at(result.finished_at)]
    if result.message and result.is_warning:
        lines += [f"  {line}" for line in result.message.strip().splitlines()]
    return lines


def _at(moment: datetime | None) -> str:
    return "" if moment is None else f" at {moment:%H:%M:%S} UTC"
