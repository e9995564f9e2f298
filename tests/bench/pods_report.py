"""
The table and the chart of what `bench_pods` has measured.

Usage: python tests/bench/pods_report.py FILE: writes them into docs/benchmarks.md, between the comments that name this
script, and into docs/images. `nox -s bench -- pods` runs it.
"""

from __future__ import annotations

import argparse
import json
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale_report import COLOURS, DOCS, GREY, seconds, table, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]

BLOCK = re.compile(r"(<!-- pods_report\.py: begin -->\n).*?(<!-- pods_report\.py: end -->)", re.DOTALL)
FLOOR = "bare-pod"
NAMES = {
    "bare-pod": "`dbt build` in a KubernetesPodOperator",
    "one-pod": "one pod",
    "three-producers": "three producers, a task before each of two nodes",
    "pod-per-node": 'a pod for each node, `isolate="*"`',
    "cosmos-watcher": "astronomer-cosmos, `WATCHER_KUBERNETES`",
    "cosmos-kubernetes": "astronomer-cosmos, `KUBERNETES`",
}
WIDTH, BAR, LEFT, RIGHT = 720, 26, 290, 70


def in_order(figures: dict[str, Any]) -> list[Row]:
    """Return the rows in the order of `NAMES`."""
    return sorted(figures["rows"], key=lambda row: list(NAMES).index(row["way"]))


def tables(figures: dict[str, Any]) -> str:
    """Return what is known, for a page."""
    rows = in_order(figures)
    floor = next((row["run"] for row in rows if row["way"] == FLOOR), None)
    head = "way|run|fastest, slowest|over the floor|pods|worker starts|tail|Airflow's CPU s|runs|load"
    lines = [
        [
            NAMES[row["way"]],
            f"{seconds(row['run'])} s",
            f"{seconds(row['fastest'])}, {seconds(row['slowest'])}",
            "" if floor is None or row["way"] == FLOOR else f"{row['run'] - floor:+.1f} s",
            str(row["pods"]),
            str(row["worker_starts"]),
            seconds(row["tail"]),
            seconds(row["cpu"]),
            str(row["runs"]),
            f"{row['load']:.1f}",
        ]
        for row in rows
    ]
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    return f"{table(head, lines)}\n\nMeasured with {versions}; the load is that of the machine before the runs.\n"


def chart(rows: Sequence[Row]) -> str:
    """Return a drawing: a bar for each way, as long as its run."""
    title = "Seconds of a run of the example project"
    height = 44 + BAR * len(rows)
    longest = max(row["run"] for row in rows)
    frame = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" role="img"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame} aria-label="{escape(title)}">',
        text(8, 18, title, size=14),
    ]
    for number, row in enumerate(rows):
        top = 34 + BAR * number
        length = (WIDTH - LEFT - RIGHT) * row["run"] / longest
        is_peer = row["way"].startswith("cosmos")
        colour = GREY if row["way"] == FLOOR else COLOURS[1 if is_peer else 0]
        parts += [
            text(LEFT - 8, top + 14, NAMES[row["way"]].replace("`", ""), anchor="end"),
            f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR - 8}" rx="2" fill="{colour}"/>',
            text(LEFT + length + 6, top + 14, f"{seconds(row['run'])} s"),
        ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, metavar="FILE")
    figures = json.loads(parser.parse_args().figures.read_text())
    (DOCS / "images/pods-run.svg").write_text(chart(in_order(figures)))
    block = f"![pods-run](images/pods-run.svg)\n\n{tables(figures)}"
    page = DOCS / "benchmarks.md"
    page.write_text(BLOCK.sub(lambda found: found[1] + block + found[2], page.read_text()))


if __name__ == "__main__":
    main()
