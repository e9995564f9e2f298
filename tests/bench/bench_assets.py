"""
What it costs to tell Airflow of each build by an asset, and how soon it is told, by who tells.

Usage: python tests/bench/bench_assets.py [--ways eager eager-each] [--sensors 180]. One run for each way, as `bench_scale` measures it:
half of the sensors stand for a model each, of which Airflow is told, and half for its tests. The delay of an event lasts from the
end of the model to the moment at which Airflow has registered it. `nox -s bench -- assets` runs it.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bench_scale import (
    LIMIT_S,
    WARM_UP,
    WITH_EXECUTOR,
    Case,
    Scale,
    Way,
    node_of,
    quantile,
    rounded,
    scale,
    versions,
)

BY_EXECUTOR = {"max_active_tasks": 10_000}
EACH = {"assets": "each"}
WAYS = {
    way.name: way
    for way in (
        Way("eager", "eager"),
        Way("eager-each", "eager", project=EACH),
        Way("eager-built", "eager", project={**EACH, "assets_when": "built"}),
        Way("executor", "executor", WITH_EXECUTOR, BY_EXECUTOR),
        Way("executor-each", "executor", WITH_EXECUTOR, BY_EXECUTOR, project=EACH),
    )
}
EVENTS = """
    select extra->>'unique_id', extract(epoch from timestamp)::float from asset_event where source_dag_id = %s
"""
CPU = ("workers", "api_server", "scheduler", "dag_processor", "supervisor", "runner", "database")


class AssetScale(Scale):
    """Measures runs, and the events of assets that they tell."""

    def figures(self, case: Case) -> dict[str, Any]:
        """Run a case, and return what it took."""
        row = rounded(self.measure(case, LIMIT_S))
        ends = self._ends()
        dag_id = f"{self._way.name}_{case.sensors}_{self._count}"
        events = self._bench.rows(EVENTS, dag_id)
        delays = sorted(at - ends[node_of(unique_id)] for unique_id, at in events)
        behind = [at - ends["dbt"] for _, at in events]
        if self._way.settings:
            row["worker_starts"] = 0  # what was counted are the executor's own requests
        return {
            **row,
            "events": len(events),
            "event_p50": quantile(delays, 0.5),
            "event_p95": quantile(delays, 0.95),
            "event_max": quantile(delays, 1.0),
            "last_behind_dbt": max(behind, default=None),
        }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a table."""
    lines = [
        "| way | events | median delay | p95 | longest | run | tail | worker starts | requests | workers, CPU s | api-server | database | in all |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cpu = {name: row[f"cpu_{name}"] for name in CPU}
        delays = [
            "" if row[name] is None else f"{row[name]:.1f} s"
            for name in ("event_p50", "event_p95", "event_max")
        ]
        cells = [
            row["way"], row["events"], *delays, f"{row['run']:.1f} s", f"{row['tail']:.1f} s", row["worker_starts"],
            row["requests"], cpu["workers"], cpu["api_server"], cpu["database"], round(sum(cpu.values()), 1),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--sensors", type=int, default=180)
    options = parser.parse_args()
    rows = []
    for name in options.ways:
        with scale(WAYS[name], AssetScale) as running:
            running.measure(WARM_UP, LIMIT_S)
            rows.append(running.figures(Case(options.sensors, 0.3, 8)))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))
    print(", ".join(f"{name} {version}" for name, version in versions().items()))


if __name__ == "__main__":
    main()
