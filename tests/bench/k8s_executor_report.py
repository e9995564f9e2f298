"""
The tables of what runs under the KubernetesExecutor: pods, what a worker pod takes, sizes, faults.

Usage: python tests/bench/k8s_executor_report.py FILE: prints them, and writes them into docs/kubernetes-executor.md, between the
comments that name this script. `nox -s k8s_executor` runs it.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale_report import DOCS, seconds, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = dict[str, Any]

PAGE = DOCS / "kubernetes-executor.md"
BLOCK = re.compile(
    r"(<!-- k8s_executor_report\.py: (\w+) begin -->\n).*?(<!-- k8s_executor_report\.py: \2 end -->)",
    re.DOTALL,
)
SIZES = (50, 500, 5_000)
# `[core] max_active_tasks_per_dag`, by default: so many worker pods of a DAG run at a time.
AT_ONCE = 16
NAMES = {
    ("floor", "a BashOperator"): "a BashOperator in a DAG of its own",
    ("dbt-watch", "a node"): "the task of a node",
    ("dbt-watch", "the producer"): "the producer",
    ("cosmos KUBERNETES", "a node"): "astronomer-cosmos, `KUBERNETES`: a node",
    ("cosmos WATCHER_KUBERNETES", "a node"): "astronomer-cosmos, `WATCHER_KUBERNETES`: a node",
    ("cosmos WATCHER_KUBERNETES", "the producer"): "astronomer-cosmos, `WATCHER_KUBERNETES`: the producer",
}


def pods(figures: dict[str, Any]) -> str:
    """Return the table of the pods that runs have taken."""
    head = "way|tasks of nodes|worker pods|their seconds|pods of dbt|their seconds|run|load"
    lines = [
        [
            row["way"], str(row["nodes"]), str(row["worker_pods"]), seconds(row["worker_seconds"]), str(row["dbt_pods"]),
            seconds(row["dbt_seconds"]), f"{seconds(row['run_seconds'])} s", f"{row['load']:.1f}",
        ]
        for row in figures["counts"]
    ]  # fmt: skip
    return table(head, lines)


def workers(figures: dict[str, Any]) -> str:
    """Return the table of what a worker pod takes before its task begins."""
    head = "task|tasks that are made|manifest decoded|Kubernetes imported|CPU s|seconds|at a load of|MB"
    lines = []
    for row in sorted(
        figures["workers"], key=lambda row: (list(NAMES).index((row["way"], row["task"])), row["cold"])
    ):
        is_ours = row["way"] == "dbt-watch"
        name = NAMES[row["way"], row["task"]]
        lines.append(
            [
                f"{name}, without the cache" if row["cold"] else name,
                f"{row['tasks']:,.0f}",
                ("yes" if row["decoded"] else "no") if is_ours else "",
                "yes" if row["kubernetes"] else "no",
                f"{row['cpu']:.2f}",
                seconds(row["seconds"]),
                f"{row['load']:.1f}",
                f"{row['megabytes']:.0f}",
            ]
        )
    return table(head, lines)


def sizes(figures: dict[str, Any]) -> str:
    """Return the table of what runs of some sizes take: counted where they were run, else computed from what one pod takes."""
    costs = {(row["way"], row["task"], row["cold"]): row for row in figures["workers"]}
    counted = {(row["way"], row["nodes"]): row["worker_pods"] for row in figures["counts"]}
    ours, peer = "dbt-watch", "cosmos KUBERNETES"
    ways: list[tuple[str, str, Callable[[int], int], tuple[str, str]]] = [
        ("the producer on a worker", "the producer on a worker", lambda _: 1, (ours, "the producer")),
        ("the producer deferred", "the producer deferred", lambda _: 2, (ours, "the producer")),
        ('`isolate="*"`', 'isolate="*"', lambda nodes: nodes, (ours, "the producer")),
        ('`sensors="lineage"`', 'sensors="lineage"', lambda nodes: 1 + nodes, (ours, "a node")),
        ("astronomer-cosmos, `KUBERNETES`", "astronomer-cosmos, `KUBERNETES`", lambda nodes: nodes, (peer, "a node")),
        (
            "astronomer-cosmos, `WATCHER_KUBERNETES`", "astronomer-cosmos, `WATCHER_KUBERNETES`", lambda nodes: 1 + nodes,
            ("cosmos WATCHER_KUBERNETES", "a node"),
        ),
    ]  # fmt: skip
    head = "way|nodes|worker pods|pod seconds until their tasks begin|CPU seconds|memory at a time"
    lines = []
    for name, way, number_for, kind in ways:
        cost = costs.get((*kind, False))
        for nodes in SIZES:
            known = counted.get((way, nodes))
            number = number_for(nodes) if known is None else known
            mark = "" if known is not None else " (computed)"
            if cost is None:
                continue
            starts, cpu = number * cost["seconds"], number * cost["cpu"]
            memory = min(number, AT_ONCE) * cost["megabytes"]
            if number_for(nodes) == 2:
                memory = cost["megabytes"]
            lines.append(
                [
                    name,
                    f"{nodes:,}",
                    f"{number:,}{mark}",
                    f"{starts:,.0f}",
                    f"{cpu:,.0f}",
                    f"{memory:,.0f} MB",
                ]
            )
    return table(head, lines)


def faults(figures: dict[str, Any]) -> str:
    """Return the table of what was struck, and what became of it."""
    head = "what fails|the producer|the run|worker pods|pods of dbt|at once|left behind"
    lines = [
        [
            row["fault"], row["producer"], row["result"], str(row["worker_pods"]), str(row["dbt_pods"]), str(row["at_once"]),
            str(row["left"]),
        ]
        for row in figures["faults"]
    ]  # fmt: skip
    return table(head, lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "pods": pods,
    "workers": workers,
    "sizes": sizes,
    "faults": faults,
}


def written(page: str, figures: dict[str, Any]) -> str:
    """Return the page with its tables."""
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]](figures)}\n{found[3]}", page)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, metavar="FILE")
    figures = json.loads(parser.parse_args(arguments).figures.read_text())
    for make in TABLES.values():
        print(make(figures), end="\n\n")
    PAGE.write_text(written(PAGE.read_text(), figures))


if __name__ == "__main__":
    main()
