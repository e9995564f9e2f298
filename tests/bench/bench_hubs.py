"""
What many projects at once cost one triggerer: requests, CPU and delay of the hubs.

Usage: python tests/bench/bench_hubs.py [--projects N] [--seconds S] [--json]. The hubs are the real ones, in one event loop
with a subscription for each node, as in a triggerer; the journals are written by the real publishers, into a dictionary that
answers after 5 ms. So it is the library's part that is measured, not Airflow's database. `nox -s bench` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.outcome import Verdict
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.journal_publisher import JournalPublisher
from dbt_watch.sensors.hub import Hub, Subscription
from dbt_watch.sensors.updates import Sensor

_LATENCY_S = 0.005
_SHAPES = ((50, 4), (50, 40), (50, 400), (100, 40))


class Project:
    """A producer whose nodes are done one after the other, at even distances."""

    def __init__(self, name: str, nodes: int, seconds: float) -> None:
        self.name = name
        self.unique_ids = [f"model.{name}.m{number}" for number in range(nodes)]
        self.finished: dict[str, float] = {}
        self.requests = 0
        self._xcoms: dict[str, Any] = {}
        self._seconds = seconds
        self._state = "running"
        self._writer = JournalWriter(attempt=1)
        self._publisher = JournalPublisher(
            Publication(self._writer, will_retry=False), self._xcoms.__setitem__
        )
        self._publisher.flush()

    async def state(self) -> str | None:
        """Answer as Airflow would, which takes a moment."""
        return await self._answer(self._state)

    async def page(self, key: str) -> Any:
        """The same for a value of the journal."""
        return await self._answer(self._xcoms.get(key))

    async def states(self, task_ids: tuple[str, ...]) -> dict[str, str | None]:
        """The same for the states of tasks."""
        return dict(await self._answer(dict.fromkeys(task_ids, "success")))

    async def _answer(self, value: Any) -> Any:
        self.requests += 1
        await asyncio.sleep(_LATENCY_S)
        return value

    async def run(self) -> None:
        """Build all nodes."""
        start = time.monotonic()
        for number, unique_id in enumerate(self.unique_ids, 1):
            due = start + self._seconds * number / len(self.unique_ids)
            while time.monotonic() < due:
                await asyncio.sleep(min(0.1, max(0.0, due - time.monotonic())))
                self._publisher.write()
            self.finished[unique_id] = time.monotonic()
            self._writer.add([NodeResult(unique_id=unique_id, name=unique_id, status="success")])
        self._writer.close(0)
        self._publisher.finish()
        self._state = "success"


async def sensor(hub: Hub, unique_id: str, project: Project) -> float | None:
    """Wait for a node as a trigger does; give the seconds after its end, None when it did not succeed."""
    with Subscription(hub, Sensor(unique_ids=(unique_id,))) as updates:
        async for update in updates:
            if update.is_over:
                well = update.decision.verdict is Verdict.SUCCEED
                return time.monotonic() - project.finished[unique_id] if well else None
    return None


async def measure(projects: int, nodes: int, seconds: float) -> dict[str, Any]:
    """Run so many projects at once, and give what it took."""
    all_of_them = [Project(f"p{number}", nodes, seconds) for number in range(projects)]
    cpu, wall = time.process_time(), time.monotonic()
    work: list[Any] = []
    hubs = []
    for project in all_of_them:
        hub = Hub(project.name, project)
        hubs.append(asyncio.create_task(hub.run()))
        work += [sensor(hub, unique_id, project) for unique_id in project.unique_ids]
    builds = asyncio.gather(*(project.run() for project in all_of_them))
    lags = await asyncio.gather(*work)
    await builds
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    for task in hubs:
        task.cancel()
    await asyncio.gather(*hubs, return_exceptions=True)
    known = sorted(lag for lag in lags if lag is not None)
    requests = sum(project.requests for project in all_of_them) / wall
    return {
        "projects": projects, "nodes": nodes, "sensors": len(lags), "requests_per_s": round(requests),
        "per_project_per_s": round(requests / projects, 1), "cpu_share": round(cpu / wall, 2),
        "median_lag_s": round(known[len(known) // 2], 2), "longest_lag_s": round(known[-1], 2),
        "lost": len(lags) - len(known),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, help="measure only so many projects, of 40 nodes each")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each project takes")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    shapes = _SHAPES if options.projects is None else ((options.projects, 40),)
    rows = [asyncio.run(measure(projects, nodes, options.seconds)) for projects, nodes in shapes]
    sys.stdout.write((json.dumps({"hubs": rows}) if options.json else table(HEAD, rows)) + "\n")


HEAD = (
    "| projects | nodes each | sensors | requests per second | per project | share of a CPU | median delay, s |"
    " longest, s | lost |"
)


def table(head: str, rows: list[dict[str, Any]]) -> str:
    """Draw rows below a head; `bench_load` has one of its own."""
    body = ("| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


if __name__ == "__main__":
    main()
