"""
The tables and charts of what `bench_scale` has measured.

Usage: python tests/bench/scale_report.py FILE: writes them into docs/benchmarks.md, between the comments that name this
script, and into docs/images. `nox -s bench -- scale` runs it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Row = dict[str, Any]

DOCS = Path(__file__).parent.parent.parent / "docs"
BLOCK = re.compile(r"(<!-- scale_report\.py: begin -->\n).*?(<!-- scale_report\.py: end -->)", re.DOTALL)
FLOOR = "pod"
# The hardest pace, whose figures are drawn.
DRAWN = (0.3, 8)


def seconds(value: float | None) -> str:
    """Write seconds in as few digits as they are worth."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.1f}"


def tables(figures: dict[str, Any]) -> str:
    """Return what is known, for a page."""
    rows = sorted(figures["rows"], key=lambda row: (row["seconds"], row["threads"], row["sensors"]))
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    return f"{times(rows)}\n\n{costs(rows)}\n\nMeasured with {versions}; the load is that of the machine before each run.\n"


def times(rows: Sequence[Row]) -> str:
    """Return the table of what a user waits for."""
    floors = {pace_and_size(row): row["run"] for row in rows if row["way"] == FLOOR and not row["cut_off"]}
    head = (
        "a node takes, threads|sensors|way|run|over the floor|median delay|p95|longest|tail|wrong|runs|load"
    )
    lines = []
    for row in rows:
        floor = floors.get(pace_and_size(row))
        if row["cut_off"]:
            run, over = f"{row['done']:,} of {row['sensors']:,} {row['cut_off']}", ""
        else:
            run = f"{seconds(row['run'])} s"
            over = "" if floor is None or row["way"] == FLOOR else f"{row['run'] - floor:+.1f} s"
        delays = [seconds(row[name]) for name in ("delay_p50", "delay_p95", "delay_max", "tail")]
        wrong = "" if row["way"] == FLOOR else str(row["wrong"])
        lines.append([*leading(row), run, over, *delays, wrong, str(row["runs"]), f"{row['load']:.1f}"])
    return table(head, lines)


def costs(rows: Sequence[Row]) -> str:
    """Return the table of what Airflow spends."""
    head = (
        "a node takes, threads|sensors|way|triggerer: supervisor, CPU s|its runner|for each sensor, ms|scheduler|workers|"
        "api-server|dag-processor|database|loop blocked, s|triggerer, MB|worker starts|requests"
    )
    lines = []
    for row in rows:
        cpu = [seconds(row[f"cpu_{name}"]) for name in ("supervisor", "runner")]
        each = "" if row["way"] == FLOOR else f"{triggerer_ms(row):.0f}"
        others = [
            seconds(row[f"cpu_{name}"])
            for name in ("scheduler", "workers", "api_server", "dag_processor", "database")
        ]
        blocked = seconds(row["blocked"]) + (" (heartbeats left out)" if row["heartbeats_skipped"] else "")
        counts = [f"{row['megabytes']:.0f}", f"{row['worker_starts']:,}", f"{row['requests']:,}"]
        lines.append([*leading(row), *cpu, each, *others, blocked, *counts])
    return table(head, lines)


def leading(row: Row) -> list[str]:
    """Return the columns that name a row."""
    return [f"{row['seconds']:g} s, {row['threads']}", f"{row['sensors']:,}", row["way"]]


def pace_and_size(row: Row) -> tuple[Any, ...]:
    """Return what a row has in common with that of its floor."""
    return row["seconds"], row["threads"], row["sensors"]


def triggerer_ms(row: Row) -> float:
    """Return the CPU milliseconds of the triggerer for each sensor that has ended."""
    return float(1000 * (row["cpu_supervisor"] + row["cpu_runner"]) / max(1, row["done"]))


def table(head: str, lines: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    names = head.split("|")
    rule_below = "|" + "---|" * len(names)
    return "\n".join([written(names), rule_below, *map(written, lines)])


def written(cells: Sequence[str]) -> str:
    """Return a row of a table of Markdown."""
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Chart:
    """
    A chart with logarithmic axes: a figure by the number of sensors, a line for each way.

    :param title: what is drawn, and its unit
    :param value: the figure of a row; None leaves it out
    """

    title: str
    value: Callable[[Row], float | None]

    def svg(self, rows: Sequence[Row], colours: Mapping[str, str]) -> str:
        """Return the drawing, in these colours of the ways."""
        lines: dict[str, list[tuple[float, float, bool]]] = {}
        for row in sorted(rows, key=lambda row: row["sensors"]):
            value = self.value(row)
            if value is not None:
                point = (row["sensors"], max(value, 0.1), bool(row["cut_off"]))
                lines.setdefault(row["way"], []).append(point)
        points = [point for line in lines.values() for point in line]
        across = Axis.over([x for x, *_ in points], LEFT, WIDTH - RIGHT)
        up = Axis.over([y for _, y, _ in points], HEIGHT - BOTTOM, TOP)
        parts = [
            SVG.format(title=escape(self.title)),
            text(LEFT, 18, self.title, size=14),
            text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "sensors", anchor="middle"),
            *(rule(LEFT, up.place(y), WIDTH - RIGHT, up.place(y)) for y in up.ticks()),
            *(text(LEFT - 6, up.place(y) + 4, f"{y:,g}", anchor="end") for y in up.ticks()),
            *(
                text(across.place(x), HEIGHT - BOTTOM + 17, f"{x:,g}", anchor="middle")
                for x in across.ticks()
            ),
        ]
        for number, (way, line) in enumerate(lines.items()):
            colour = colours[way]
            places = [(across.place(x), up.place(y), is_cut) for x, y, is_cut in line]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            for x, y, is_cut in places:
                # Hollow: a run that was cut off, so that the figure is of a part of it.
                fill = "none" if is_cut else colour
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" stroke="{colour}"/>')
            key = TOP + 14 + 18 * number
            parts.append(f'<circle cx="{WIDTH - RIGHT + 16}" cy="{key - 4}" r="4" fill="{colour}"/>')
            parts.append(text(WIDTH - RIGHT + 26, key, way))
        return "\n".join([*parts, "</svg>", ""])


WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 110, 36, 48
# These can be read on white and on black.
COLOURS = ("#3b82f6", "#d97706", "#16a34a", "#db2777", "#8b5cf6", "#0d9488", "#dc2626")
GREY = "#7d8590"
SVG = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    ' role="img" aria-label="{title}">'
)


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis: which values it spans, and where these two are drawn."""

    low: float
    high: float
    begin: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float) -> Axis:
        """Return an axis that spans the values, with a little room around them."""
        return cls(min(values) / 1.2, max(values) * 1.2, begin, end)

    def place(self, value: float) -> float:
        """Return where a value is drawn."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Return round values on it."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [digit * 10.0**power for power in powers for digit in (1, 3)]
        return [value for value in values if self.low <= value <= self.high]


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    """Return words in a drawing."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{GREY}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a thin line in a drawing."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{GREY}" stroke-opacity="0.35"/>'


def charts(rows: Sequence[Row]) -> dict[str, str]:
    """Return the drawings by the names of their files."""
    drawn = [row for row in rows if (row["seconds"], row["threads"]) == DRAWN]
    with_sensors = [row for row in drawn if row["way"] != FLOOR]
    pace = f"nodes of {DRAWN[0]:g} s, {DRAWN[1]} threads"
    all_charts = {
        "scale-run.svg": (Chart(f"Seconds of a run ({pace})", lambda row: row["run"]), drawn),
        "scale-delay.svg": (
            Chart(f"Median delay of a sensor, seconds ({pace})", lambda row: row["delay_p50"]),
            with_sensors,
        ),
        "scale-triggerer.svg": (
            Chart(f"CPU of the triggerer for each sensor, ms ({pace})", triggerer_ms),
            with_sensors,
        ),
    }
    ways = list(dict.fromkeys(row["way"] for row in with_sensors))
    colours = {FLOOR: GREY, **dict(zip(ways, COLOURS, strict=False))}
    return {name: chart.svg(chosen, colours) for name, (chart, chosen) in all_charts.items() if chosen}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, metavar="FILE")
    figures = json.loads(parser.parse_args().figures.read_text())
    page = DOCS / "benchmarks.md"
    drawings = charts(figures["rows"])
    for name, drawing in drawings.items():
        (DOCS / "images" / name).write_text(drawing)
    shown = "\n".join(f"![{name.removesuffix('.svg')}](images/{name})" for name in drawings)
    block = f"{shown}\n\n{tables(figures)}"
    page.write_text(BLOCK.sub(lambda found: found[1] + block + found[2], page.read_text()))


if __name__ == "__main__":
    main()
