"""
The lines of task logs: for the producer, one for each event worth showing; for a sensor, those of its node's entry.

`core.log.stream` calls it for the producer, `sensors.trigger` for a sensor. Never raw JSON; foreign text is sanitized and kept
short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbt_watch.core.causes import causes_of, has_broken_off
from dbt_watch.core.labels import label_of
from dbt_watch.core.log.event_roles import MEANS, Role
from dbt_watch.core.log.events import DbtEvent, event_inside
from dbt_watch.core.results import shortened
from dbt_watch.core.statuses import NOT_RUN, SKIPPED, STARTED
from dbt_watch.core.text import printable, without_backtrace, without_escapes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from dbt_watch.core.causes import RootCause
    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult

MAX_LINE_CHARS: Final = 2_000
MAX_LINES: Final = 60
"""How many lines one message may take."""

_INDENT: Final = "    "
# What these say is in the line of the node.
_SAID_BY_THE_NODE: Final = frozenset(Role) - {
    Role.COMMAND, Role.BATCH_RESULT, Role.MESSAGE, Role.CANCEL, Role.CRASH, Role.SUMMARY, Role.NOTHING,
    Role.NOTE,
}  # fmt: skip
# Empty lines, and files that are there only inside the pod.
_OF_NO_USE: Final = frozenset({"CheckNodeTestFailure", "Formatting", "SQLCompiledPath"})
_HIDDEN: Final = _OF_NO_USE | {name for name, role in MEANS.items() if role in _SAID_BY_THE_NODE}
_WORDS: Final = {"success": "OK"}
_FROM_RESULTS: Final = " (from run_results.json)"


def tell_changes(lines: list[str], changes: list[NodeResult], told: dict[str, NodeResult], ts: str) -> None:
    """
    Append a line for each node that changed.

    :param lines: to append to
    :param changes: the new entries
    :param told: the final entries that have a line already, by unique_id; those of now are added
    :param ts: the time of the event, as dbt wrote it; empty when there is none
    """
    clock = ts[11:19]
    for change in changes:
        unique_id, name, status = change.unique_id, change.name, change.status
        if not unique_id.endswith(name) or change.resource_type == "source":
            name = change.label
        if status == STARTED:
            line = f"{clock} {name} started"
        else:
            before, told[unique_id] = told.get(unique_id), change
            if before is not None and before.status == status:
                if change.message and before.message != change.message:
                    lines += _block(f"{clock} {name}: ", change.message)
                continue
            line = f"{clock} {name} {_WORDS.get(status) or status.upper()}{_figures(change)}"
            if change.from_run_results:
                line += _FROM_RESULTS
            if change.skipped_because:
                line += f" because of {', '.join(map(label_of, change.skipped_because))}"
            if change.message:
                lines += _block(line + (": " if status == NOT_RUN else "\n"), change.message)
                continue
        lines.append(
            line if line.isprintable() and len(line) < MAX_LINE_CHARS else printable(line, MAX_LINE_CHARS)
        )


def tell_end(lines: list[str], changes: list[NodeResult], told: dict[str, NodeResult]) -> None:
    """
    Append what the end of dbt means for the nodes that were open; one line where it is the same for many of them.

    :param lines: see `tell_changes`, and so for the others
    """
    not_run: dict[str, list[NodeResult]] = {}
    others = []
    for change in changes:
        if change.status == NOT_RUN and change.unique_id not in told:
            not_run.setdefault(change.message or "", []).append(change)
        else:
            others.append(change)
    for message, nodes in not_run.items():
        if len(nodes) == 1:
            others += nodes
            continue
        told.update((node.unique_id, node) for node in nodes)
        names = ", ".join(sorted(node.label for node in nodes)[:MAX_NAMES])
        more = "" if len(nodes) <= MAX_NAMES else ", ..."
        lines += _block(f" {len(nodes)} nodes {NOT_RUN.upper()} ({names}{more}): ", message)
    tell_changes(lines, others, told, "")


MAX_NAMES: Final = 20
"""How many nodes one line names."""


def failure_lines(results: Mapping[str, NodeResult], closed: Closed) -> list[str]:
    """
    Return what a failure of the task that runs dbt begins with: the first root cause with its error, then the others.

    :param results: the last word on each node
    :param closed: how the attempt ended; nothing is returned where that is well
    """
    if closed.exit_code == 0:
        return []
    causes = causes_of(results, broke_off=has_broken_off(closed, results), why=closed.reason or "")
    if not causes:
        return []
    first, *others = causes
    node = results.get(first.node or "")
    head = first.title if node is None else f"{node.resource_type} {first.title}".strip()
    message = (first.message if node is None else node.message) or ""
    lines = _block(f"{head}: ", shortened(message, _MAX_CAUSE_CHARS)) if message else [_line(head)]
    if first.blocked:
        lines.append(_line(f"not built because of it: {_counted(first.blocked)}"))
    if others:
        lines.append(_line(f"besides: {'; '.join(map(_in_short, others[:_MAX_CAUSES]))}{_more(others)}"))
    return lines


_MAX_CAUSE_CHARS: Final = 4_000
_MAX_CAUSES: Final = 5


def _in_short(cause: RootCause) -> str:
    return cause.title + (f" (not built: {_counted(cause.blocked, names=3)})" if cause.blocked else "")


def _more(causes: Sequence[RootCause]) -> str:
    return f"; and {len(causes) - _MAX_CAUSES} more" if len(causes) > _MAX_CAUSES else ""


def _counted(nodes: Collection[str], names: int = 10) -> str:
    """Return how many nodes there are, and the names of the first."""
    shown = ", ".join(label_of(unique_id) for unique_id in list(nodes)[:names])
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    return f"{count}, {shown}" + (", ..." if len(nodes) > names else "")


def lines_of_message(event: DbtEvent) -> list[str]:
    """Return the lines of an event that is not about the state of a node; none when it is not worth showing."""
    info = event.info
    if info.level == "debug" or info.name in _HIDDEN:
        return []
    if info.level == "error" and MEANS.get(info.name) is Role.MESSAGE and event.unique_id:
        return []
    if MEANS.get(info.name) is Role.NOTE and event_inside(event) is not None:
        return []
    text = without_backtrace(without_escapes(info.msg))
    return _block(f"{info.ts[11:19]} ", text.strip("\n")) if text.strip() else []


def line_of_text(text: str) -> str:
    """Return a line that is not dbt's, sanitized."""
    return printable(text, MAX_LINE_CHARS)


def _figures(change: NodeResult) -> str:
    failures, rows, seconds = change.failures, change.rows_affected, change.execution_time
    figures = ""
    if failures:
        figures += f" {failures} failures" if failures != 1 else " 1 failure"
    if rows is not None:
        figures += f" {rows} rows" if rows != 1 else " 1 row"
    if seconds is not None and change.status != SKIPPED:
        figures += f" {seconds:.1f} s"
    return figures


def _block(head: str, text: str) -> list[str]:
    first, *more = (head + text).split("\n", MAX_LINES)
    if len(more) == MAX_LINES:
        more[-1] = f"[{more[-1].count(chr(10)) + 1} more lines]"
    lines = [printable(first.rstrip(), MAX_LINE_CHARS)]
    lines += [printable(_INDENT + line.rstrip(), MAX_LINE_CHARS) for line in more if line.strip()]
    return lines


# What a sensor shows of its node.


def started_line(result: NodeResult) -> str:
    """Return the line of a node that dbt has started."""
    return _line(f"dbt started {result.resource_type} {result.label}{_at(result.started_at)}")


def finished_lines(result: NodeResult) -> list[str]:
    """
    Return how dbt ended a node: one line, and below it the text of a warning, or the SQL that failed.

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
    origin = _FROM_RESULTS if result.from_run_results else ""
    lines = [_line(", ".join(filter(None, facts)) + _at(result.finished_at) + origin)]
    if result.message and result.is_warning:
        lines += [_line(f"  {line}") for line in result.message.strip().split("\n")]
    if result.sql:
        lines += ["dbt had sent to the database:", *(_line(f"  {line}") for line in result.sql.split("\n"))]
    return lines


def _line(text: str) -> str:
    """Return a line sanitized: a name in it may hold anything."""
    return printable(text, MAX_LINE_CHARS)


def _at(moment: datetime | None) -> str:
    return "" if moment is None else f" at {moment:%H:%M:%S} UTC"
