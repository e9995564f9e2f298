"""The timeline of a run as a picture: a lane for each thread, a bar for each node. `reporting.command` writes it as SVG."""

from __future__ import annotations

# Only written, never read.
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from dbt_watch.core.labels import label_of
from dbt_watch.core.text import printable
from dbt_watch.reporting.durations import duration
from dbt_watch.reporting.timeline import MAIN_THREAD

if TYPE_CHECKING:
    from dbt_watch.reporting.run_record import Bar, CommandTimeline, Lane, RunRecord

WIDTH: Final = 1200
_MARGIN: Final = 24
_NAMES: Final = 120  # for the names of the lanes
_LANE: Final = 22
_BAR: Final = 16
_HEAD: Final = 84
_TITLE: Final = 26
_TICKS: Final = 6
# Characters of a small text are this wide, and fewer say nothing.
_CHAR: Final = 6.2
_LEAST_CHARS: Final = 4

_STYLE: Final = """
text { font: 12px Helvetica, Arial, sans-serif; fill: #1f2933 }
.head { font-size: 16px; font-weight: bold } .small { fill: #52606d; font-size: 11px } .name { font-size: 10.5px; fill: white }
.lane { fill: #f4f5f7 } .tick { stroke: #d5dae0; stroke-width: 1 } .critical { stroke: #111827; stroke-width: 2 }
.success { fill: #1f7a4d } .warning { fill: #b36b00 } .failure { fill: #c22f2f } .open, .not-run, .skipped { fill: #6b7480 }
"""


def picture_of(record: RunRecord) -> str:
    """Return the timeline of a run as an SVG document."""
    height = _HEAD + sum(_TITLE + len(command.lanes) * _LANE for command in record.commands) + _MARGIN
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": str(WIDTH),
            "height": str(height),
            "viewBox": f"0 0 {WIDTH} {height}",
            "role": "img",
        },
    )
    heading = ": ".join(filter(None, [record.project, record.outcome]))
    ET.SubElement(root, "title").text = _legal(f"{heading}, {record.source}")
    ET.SubElement(root, "style").text = _STYLE
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    _text(root, heading, _MARGIN, _MARGIN + 8, "head")
    _text(root, _facts(record), _MARGIN, _MARGIN + 28, "small")
    scale = _Scale(record)
    _draw_ticks(root, scale, height)
    y = _HEAD
    for command in record.commands:
        _text(root, _title(command), _MARGIN, y + 16, "")
        y += _TITLE
        for number, lane in enumerate(command.lanes, 1):
            _draw_lane(root, scale, lane, number, y)
            y += _LANE
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


class _Scale:
    """Where a moment stands in the picture."""

    def __init__(self, record: RunRecord) -> None:
        commands = [command for command in record.commands if any(lane.bars for lane in command.lanes)]
        self.begin = min((command.begin for command in commands), default=0.0)
        self.end = max((command.end for command in commands), default=self.begin)
        self.critical = frozenset(record.critical_path.nodes if record.critical_path is not None else ())
        self._per_second = (WIDTH - 2 * _MARGIN - _NAMES) / (self.end - self.begin or 1.0)

    def at(self, seconds: float) -> float:
        return _MARGIN + _NAMES + (seconds - self.begin) * self._per_second


def _draw_ticks(root: ET.Element, scale: _Scale, height: int) -> None:
    for number in range(_TICKS + 1):
        seconds = scale.begin + (scale.end - scale.begin) * number / _TICKS
        x = scale.at(seconds)
        line = {
            "x1": f"{x:.1f}",
            "x2": f"{x:.1f}",
            "y1": str(_HEAD),
            "y2": str(height - _MARGIN),
            "class": "tick",
        }
        ET.SubElement(root, "line", line)
        anchor = "start" if number == 0 else "end" if number == _TICKS else "middle"
        _text(root, duration(seconds), x, _HEAD - 6, "small", anchor=anchor)


def _draw_lane(root: ET.Element, scale: _Scale, lane: Lane, number: int, y: int) -> None:
    name = f"{lane.name.partition(' ')[0] or number}, idle {duration(lane.idle)}"
    if lane.name == MAIN_THREAD:
        name = "hooks"
    _text(root, name, _MARGIN, y + 13, "small")
    x, width = scale.at(scale.begin), scale.at(scale.end) - scale.at(scale.begin)
    back = {"x": f"{x:.1f}", "y": str(y + 1), "width": f"{width:.1f}", "height": str(_BAR), "class": "lane"}
    ET.SubElement(root, "rect", back)
    for bar in lane.bars:
        _draw_bar(root, scale, bar, y)


def _draw_bar(root: ET.Element, scale: _Scale, bar: Bar, y: int) -> None:
    x, width = scale.at(bar.begin), max(scale.at(bar.end) - scale.at(bar.begin), 1.0)
    label = label_of(bar.node)
    style = bar.meaning.replace(" ", "-") + (" critical" if bar.node in scale.critical else "")
    group = ET.SubElement(root, "g")
    ET.SubElement(group, "title").text = _legal(f"{label}: {bar.state}, {duration(bar.end - bar.begin)}")
    place = {"x": f"{x:.2f}", "y": str(y + 1), "width": f"{width:.2f}", "height": str(_BAR), "class": style}
    ET.SubElement(group, "rect", place)
    room = int((width - 6) / _CHAR)
    if room >= _LEAST_CHARS:
        shown = label if len(label) <= room else f"{label[: room - 1]}…"
        _text(group, shown, x + 3, y + 13, "name")


def _facts(record: RunRecord) -> str:
    facts = [f"nodes: {len(record.nodes)}"]
    if record.seconds is not None:
        facts.append(f"took {duration(record.seconds)}")
    if record.dbt_version:
        facts.append(f"dbt {record.dbt_version}")
    if record.critical_path is not None:
        facts.append(f"critical path (framed): {duration(record.critical_path.seconds)}")
    return ", ".join(facts)


def _title(command: CommandTimeline) -> str:
    lanes = "threads" if command.has_threads else "lanes, worked out from the times"
    count = sum(lane.name != MAIN_THREAD for lane in command.lanes)
    return f"{command.label}: {count} {lanes}"


def _text(parent: ET.Element, text: str, x: float, y: float, style: str, *, anchor: str = "start") -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": style, "text-anchor": anchor}
    ET.SubElement(parent, "text", place).text = _legal(text)


def _legal(text: str) -> str:
    """Return a text without the characters that XML has no place for."""
    return "\n".join(printable(line, len(line)) for line in text.split("\n"))
