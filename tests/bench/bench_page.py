"""
Measures the page: what a run leaves in XCom for it, and what its back end needs for a run of some size.

    python tests/bench/bench_page.py --nodes 20 360 3000

The database is a dictionary, so times are those of reading and answering alone.
"""

import argparse
import asyncio
import json
import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "page"))

from made_airflow import DAG, GROUP, RUN, AirflowOfATest, MadeProject

from dbt_watch.core.run_notes import (
    OUTLINE_KEY,
    SUMMARY_KEY,
    outline_of,
    pack_outline,
    pack_summary,
    summary_of,
)
from dbt_watch.page import readers
from dbt_watch.page.projects import ProjectKey
from dbt_watch.page.readers import ReaderRegistry

WIDTH = 20


def names_of(count):
    """Return the nodes of a project in layers, each of which depends on three of the layer before."""
    return {
        f"stage_{number // WIDTH:03d}_customer_orders_{number:05d}": [
            f"stage_{number // WIDTH - 1:03d}_customer_orders_{(number // WIDTH - 1) * WIDTH + (number + step) % WIDTH:05d}"
            for step in range(3)
        ]
        if number >= WIDTH
        else []
        for number in range(count)
    }


def timed(function, times=5):
    """Return the milliseconds of the fastest of some calls, and what it returned."""
    took, result = [], None
    for _ in range(times):
        began = time.perf_counter()
        result = function()
        took.append(time.perf_counter() - began)
    return 1000 * min(took), result


def measure(count):
    readers.PACE = readers.PACE_WHEN_OVER = 0.0
    airflow = AirflowOfATest()
    project = MadeProject(airflow, names_of(count))
    project.begin()
    names = list(names_of(count))
    watched = {project.task(key): (key,) for key in project.parents}
    outline_ms, outline = timed(
        lambda: pack_outline(outline_of(project.graph, project.parents, watched, GROUP), 1)
    )
    results = [
        project.result(name, "success", number, number + 0.1 + number * 7919 % 5000 / 1000)
        for number, name in enumerate(names)
    ]
    summary_ms, summary = timed(lambda: pack_summary(summary_of(results, 0, 1), 1))
    half = results[: count // 2]
    project.tell(*half)

    async def page():
        registry = ReaderRegistry(airflow)
        began = time.perf_counter()
        reader = await registry.of(ProjectKey(DAG, RUN, GROUP, -1))
        first = 1000 * (time.perf_counter() - began)
        began = time.perf_counter()
        record = await reader.record()
        making = 1000 * (time.perf_counter() - began)
        since = reader.version
        project.tell(*results[count // 2 : count // 2 + 5])
        began = time.perf_counter()
        await reader.refresh()
        looking = 1000 * (time.perf_counter() - began)
        began = time.perf_counter()
        change = reader.changes(since)
        answering = 1000 * (time.perf_counter() - began)
        return first, making, len(record), len(zlib.compress(record, 5)), looking, answering, len(change)

    first, making, record, packed, looking, answering, change = asyncio.run(page())
    journal = sum(
        len(str(value)) for place, value in airflow.values.items() if place[3].startswith("journal")
    )
    return {
        "nodes": count,
        "outline, bytes": sum(len(value) for _, value in outline),
        "outline, XComs": len([key for key, _ in outline if key.startswith(OUTLINE_KEY)]),
        "outline, ms": outline_ms,
        "summary, bytes": sum(len(value) for _, value in summary),
        "summary, XComs": len([key for key, _ in summary if key.startswith(SUMMARY_KEY)]),
        "summary, ms": summary_ms,
        "journal, half of the nodes, bytes": journal,
        "first look, ms": first,
        "record, ms": making,
        "record, bytes": record,
        "record compressed, bytes": packed,
        "look with 5 changes, ms": looking,
        "answer with 5 changes, ms": answering,
        "answer with 5 changes, bytes": change,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[20, 360, 3000])
    args = parser.parse_args()
    found = [measure(count) for count in args.nodes]
    for name in found[0]:
        print(
            f"{name:34}"
            + "".join(
                f"{one[name]:>14,.1f}" if isinstance(one[name], float) else f"{one[name]:>14,}"
                for one in found
            )
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
