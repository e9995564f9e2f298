"""
A run as a summary for a terminal: what failed and why, what took the time, what became slower. `reporting.command` prints it.

Lines fit in 100 columns. Long lists are cut, with the number of what is left out, unless all is asked for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dbt_watch.core.labels import label_of
from dbt_watch.core.text import printable
from dbt_watch.reporting.durations import change, duration
from dbt_watch.reporting.timeline import MAIN_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from dbt_watch.core.causes import RootCause
    from dbt_watch.reporting.run_record import (
        CommandTimeline,
        Comparison,
        Meaning,
        NodeRecord,
        RunRecord,
    )

COLUMNS: Final = 100
_STYLES: Final[dict[Meaning, str]] = {
    "success": "green", "warning": "yellow", "failure": "red", "skipped": "dim", "not run": "dim", "open": "cyan",
}  # fmt: skip
_OUTCOMES: Final = {"success": "green", "failure": "red", "error": "red", "unfinished": "yellow"}
_CAUSES: Final = 5
_SLOWEST: Final = 10
_CHANGES: Final = 10
_MESSAGE_LINES: Final = 6
_SQL_LINES: Final = 8
_BLOCKED: Final = 5
_BAR_CELLS: Final = 28
_NAME_CELLS: Final = 38


def summary_of(record: RunRecord, *, everything: bool = False) -> Group:
    """
    Return a run as a summary.

    :param record: the run
    :param everything: whether to show all causes, all nodes, whole messages
    """
    return Group(*_Summary(record, everything=everything).parts())


def causes_of(record: RunRecord) -> Group:
    """Return only why a run did not go well: what failed by itself, with dbt's error, and what was not built because of it."""
    return Group(*_headed(_shown(record.project or "dbt"), _Summary(record, everything=False).causes()))


class _Summary:
    def __init__(self, record: RunRecord, *, everything: bool) -> None:
        self.record = record
        self.everything = everything
        self.nodes = {node.unique_id: node for node in record.nodes}

    def parts(self) -> Iterator[RenderableType]:
        record = self.record
        yield from self._heading()
        if record.causes:
            yield from _headed("Why", self.causes())
        if record.comparison is not None:
            yield from _headed("Compared", self._changes(record.comparison))
        if any(node.seconds for node in record.nodes):
            path = record.critical_path
            if path is not None and len(path.nodes) > 1:
                title = f"Critical path: {duration(path.seconds)}"
                yield from _headed(title, [self._chart([self.nodes[node] for node in path.nodes])])
            slowest = sorted(record.nodes, key=lambda node: -(node.seconds or 0.0))
            shown = [node for node in slowest if node.seconds is not None]
            cut = len(shown) if self.everything else _SLOWEST
            yield from _headed("Slowest nodes", [self._chart(shown[:cut]), *_more(len(shown) - cut)])
        if any(command.lanes for command in record.commands):
            yield from _headed("Threads", map(_threads, record.commands))
        if record.notes:
            yield from _headed("Not known", (_line(note, "dim") for note in record.notes))

    def _heading(self) -> Iterator[Text]:
        record = self.record
        title = Text(no_wrap=False)
        title.append(_shown(record.project or "dbt"), style="bold")
        title.append(": ")
        title.append(record.outcome, style=f"bold {_OUTCOMES[record.outcome]}")
        facts = [f"dbt {record.dbt_version}"] if record.dbt_version else []
        if record.seconds is not None and record.started_at is not None:
            facts += [f"{duration(record.seconds)} from {record.started_at:%Y-%m-%d %H:%M:%S} UTC"]
        title.append(f"  {_shown(', '.join(facts))}", style="dim")
        yield title
        counts = Counter(node.meaning for node in record.nodes)
        bar = Text()
        for meaning, style in _STYLES.items():
            if counts[meaning]:
                cells = max(round(counts[meaning] / len(record.nodes) * (COLUMNS - 4)), 1)
                bar.append("█" * cells, style=style)
        if bar:
            bar.truncate(COLUMNS)
            yield bar
        legend = Text()
        for meaning, style in _STYLES.items():
            if counts[meaning]:
                legend.append(f"{counts[meaning]} {meaning}  ", style=style)
        yield legend or Text("no nodes", style="dim")

    def causes(self) -> Iterator[RenderableType]:
        """Yield the reasons why it did not go well, each with what it held back."""
        causes = self.record.causes
        limit = len(causes) if self.everything else _CAUSES
        for cause in causes[:limit]:
            yield from self._cause(cause)
        yield from _more(len(causes) - limit, "cause")

    def _cause(self, cause: RootCause) -> Iterator[RenderableType]:
        node = self.nodes.get(cause.node or "")
        title = _line(cause.title, "bold red")
        if node is not None and node.path:
            title.append(f"  {_shown(node.path)}", style="dim")
        yield title
        message = cause.message or (node.message if node is not None else None)
        yield from self._text(message, _MESSAGE_LINES)
        if node is not None and node.sql:
            yield _indented("SQL that was sent:", "dim")
            yield from self._text(node.sql, _SQL_LINES, "cyan")
        if cause.blocked:
            names = self._names(cause.blocked)
            verb = "was" if len(cause.blocked) == 1 else "were"
            reason = " because of it" if node is not None else ""
            yield _indented(f"{_count(len(cause.blocked))} {verb} not built{reason}: {names}")

    def _text(self, text: str | None, limit: int, style: str = "") -> Iterator[RenderableType]:
        lines = [line for line in (text or "").splitlines() if line.strip()]
        cut = len(lines) if self.everything else limit
        for line in lines[:cut]:
            yield _indented(line, style)
        yield from _more(len(lines) - cut, "line")

    def _names(self, nodes: Sequence[str]) -> str:
        cut = len(nodes) if self.everything else _BLOCKED
        more = f" and {len(nodes) - cut} more" if len(nodes) > cut else ""
        return ", ".join(map(label_of, nodes[:cut])) + more

    def _changes(self, comparison: Comparison) -> Iterator[RenderableType]:
        words = f"with {comparison.other}"
        if comparison.seconds is not None and comparison.seconds_before is not None:
            words += f": {change(comparison.seconds_before, comparison.seconds)}"
        yield _line(words, "dim")
        for title, nodes, style in (
            ("failed or skipped, and had not before", comparison.broken, "red"),
            ("well again", comparison.repaired, "green"),
            ("new", comparison.added, ""),
            ("gone", comparison.removed, ""),
        ):
            if nodes:
                yield _line(f"{_count(len(nodes))} {title}: {self._names(nodes)}", style)
        for title, nodes in (("slower", comparison.slower), ("faster", comparison.faster)):
            if nodes:
                yield _line(f"{_count(len(nodes))} {title}", "bold")
                yield from self._differences(nodes, comparison)
        if not comparison.slower:
            yield _line("no node became clearly slower")

    def _differences(self, nodes: Sequence[str], comparison: Comparison) -> Iterator[RenderableType]:
        cut = len(nodes) if self.everything else _CHANGES
        table = _grid()
        for unique_id in nodes[:cut]:
            before, now = comparison.before[unique_id].seconds, self.nodes[unique_id].seconds
            if before is not None and now is not None:
                table.add_row(
                    f"  {_shown(label_of(unique_id))}", duration(before), duration(now), change(before, now)
                )
        yield table
        yield from _more(len(nodes) - cut)

    def _chart(self, nodes: Iterable[NodeRecord]) -> Table:
        """Return nodes with a bar each: where in the run it ran, and for how long."""
        record = self.record
        begin = min((command.begin for command in record.commands), default=0.0)
        end = max((command.end for command in record.commands), default=0.0)
        table = _grid()
        for node in nodes:
            bar = Text("·" * _BAR_CELLS, style="dim")
            if record.started_at is not None and node.started_at is not None and end > begin:
                first = ((node.started_at - record.started_at).total_seconds() - begin) / (end - begin)
                cells = max(round((node.seconds or 0.0) / (end - begin) * _BAR_CELLS), 1)
                start = min(max(int(first * _BAR_CELLS), 0), _BAR_CELLS - 1)
                cells = min(cells, _BAR_CELLS - start)
                bar = Text.assemble(
                    ("·" * start, "dim"),
                    ("█" * cells, _STYLES[node.meaning]),
                    ("·" * (_BAR_CELLS - start - cells), "dim"),
                )
            table.add_row(
                Text(
                    f"  {_shown(node.name)}", style=_STYLES[node.meaning] if node.meaning != "success" else ""
                ),
                duration(node.seconds) if node.seconds is not None else "",
                bar,
                Text(_shown(node.kind), style="dim"),
            )
        return table


def _threads(command: CommandTimeline) -> Text:
    # dbt's main thread runs nothing but hooks.
    lanes = [lane for lane in command.lanes if lane.name != MAIN_THREAD]
    busy = sum(bar.end - bar.begin for lane in lanes for bar in lane.bars)
    room = busy + sum(lane.idle for lane in lanes)
    share = f", busy {busy / room:.0%} of the time" if room > 0 else ""
    count = len(lanes)
    kind = "thread" if command.has_threads else "lane"
    how = "" if command.has_threads else ", worked out from the times"
    return _line(f"{command.label}: {count} {kind}{'s' if count != 1 else ''}{how}{share}")


def _headed(title: str, parts: Iterable[RenderableType]) -> Iterator[RenderableType]:
    yield Text("")
    yield Text(title, style="bold underline")
    yield from parts


def _grid() -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(max_width=_NAME_CELLS, min_width=_NAME_CELLS, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    return table


def _more(count: int, what: str = "") -> list[Text]:
    if count <= 0:
        return []
    noun = f" {what}{'s' if count > 1 else ''}" if what else ""
    return [Text(f"  and {count} more{noun}; --all shows them", style="dim")]


def _line(text: str, style: str = "") -> Text:
    return Text(_shown(text), style=style, overflow="fold")


def _indented(text: str, style: str = "") -> Padding:
    return Padding(_line(text, style), (0, 0, 0, 2), expand=False)


def _shown(text: str) -> str:
    return printable(text, 2_000)


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"
