"""
What a long run's journal costs: rows, writes, the delay of news, and how long a hub that comes late reads.

Usage: python tests/bench/bench_journal.py [--nodes N --hours H] [--json]. The publisher and the hub are the real ones. So many nodes
start and end at even distances, by a clock that is moved on; each XCom that is set takes 12 ms of it. The delay is from the
end of a node to the look of a hub, in its own pace, that finds the page which tells of it. Then, by the real clock, a hub comes
that has read nothing, and waits 10 ms for each answer. `nox -s bench` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from bench_hubs import table

from dbt_watch.core.journal.pace import ReadingPace
from dbt_watch.core.journal.reader import JournalReader
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.results import NodeResult
from dbt_watch.producers.journal_publisher import JournalPublisher
from dbt_watch.sensors.hub import Hub, Subscription
from dbt_watch.sensors.updates import Sensor

_SET_S, _GET_S, _TICK_S = 0.012, 0.01, 0.1
_BUILD_S = 30.0  # what a node takes
_BEGAN = datetime(2026, 11, 21, tzinfo=timezone.utc)
_SHAPES = ((200, 10 / 60), (15_000, 1.0), (15_000, 10.0))


class Run:
    """A run and its journal, in a dictionary; `now` is the time in it."""

    def __init__(self, nodes: int, hours: float) -> None:
        self.nodes = nodes
        self.now = 0.0
        self.xcoms: dict[str, Any] = {}
        self.writes = 0
        self.longest_write = 0.0
        self.delays: list[float] = []
        self.requests = 0
        self._distance = (hours * 3_600 - _BUILD_S) / nodes
        self._writer = JournalWriter(attempt=1)
        self._publisher = JournalPublisher(
            Publication(self._writer, will_retry=False, clock=lambda: self.now), self._set, sleep=self._sleep
        )
        self._reader = JournalReader()
        self._look_due = 0.0
        self._pace = ReadingPace()

    def build(self) -> None:
        """Let all nodes start and end."""
        starts = [number * self._distance for number in range(self.nodes)]
        events = [(start, number, False) for number, start in enumerate(starts)]
        events += [(start + _BUILD_S, number, True) for number, start in enumerate(starts)]
        self._publisher.flush()
        for at, number, is_end in sorted(events):
            while self.now < at:
                self._tick()
            self._writer.add([self._entry(number, is_end=is_end)])
        self._writer.close(0)
        self._publisher.finish()

    def _tick(self) -> None:
        start = self.now
        self._publisher.write()
        self.longest_write = max(self.longest_write, self.now - start)
        if self.now >= self._look_due:
            self._look()
        self.now += _TICK_S

    def _look(self) -> None:
        more = True
        while more:
            more = self._reader.take(self.xcoms[self._reader.key])
            for result in self._reader.news:
                if result.finished_at is not None:
                    self.delays.append(self.now - (result.finished_at - _BEGAN).total_seconds())
        self._look_due = self.now + self._pace.after(self._reader.state.next_seq)

    def _set(self, key: str, value: Any) -> None:
        self.writes += 1
        self._sleep(_SET_S)
        self.xcoms[key] = value

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _entry(self, number: int, *, is_end: bool) -> NodeResult:
        started = _BEGAN + timedelta(seconds=number * self._distance)
        common = {
            "unique_id": f"model.some_project.some_model_{number:05}",
            "name": f"some_model_{number:05}",
            "resource_type": "model",
            "started_at": started,
            "invocation_id": "5236559e-90e8-486e-83ef-ef48c21ff47e",
        }
        if not is_end:
            return NodeResult(status="started", **common)
        relation = f'"warehouse"."analytics"."some_model_{number:05}"'
        return NodeResult(
            status="success", finished_at=started + timedelta(seconds=_BUILD_S), execution_time=29.98765432,
            rows_affected=12_345 + number, relation_name=relation,
            adapter_response={"_message": "SELECT 12345", "code": "SELECT", "rows_affected": 12_345 + number}, **common,
        )  # fmt: skip

    # For the hub that comes late.

    async def state(self) -> str | None:
        """Answer as Airflow would, which takes a moment."""
        await asyncio.sleep(_GET_S)
        return "success"

    async def page(self, key: str) -> Any:
        """The same for a value of the journal."""
        self.requests += 1
        await asyncio.sleep(_GET_S)
        return self.xcoms.get(key)


async def late_hub(run: Run) -> float:
    """Return the seconds after which a hub that has read nothing can decide about a node."""
    start = time.perf_counter()
    hub = Hub("late", run)
    reading = asyncio.create_task(hub.run())
    with Subscription(
        hub, Sensor(unique_ids=(f"model.some_project.some_model_{run.nodes // 2:05}",))
    ) as updates:
        async for update in updates:
            if update.is_over:
                break
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return time.perf_counter() - start


def measure(nodes: int, hours: float) -> dict[str, Any]:
    """Build so many nodes within so many hours, and give what it took."""
    run = Run(nodes, hours)
    run.build()
    seconds = asyncio.run(late_hub(run))
    late = run.delays[-len(run.delays) // 10 :]
    sizes = [len(str(value)) for value in run.xcoms.values()]
    return {
        "nodes": nodes, "hours": round(hours, 2), "set": run.writes, "set_per_node": round(run.writes / nodes, 1),
        "rows": len(run.xcoms), "mb": round(sum(sizes) / 1e6, 1), "longest_value_kib": round(max(sizes) / 1024, 1),
        "longest_write_s": round(run.longest_write, 2),
        "median_delay_s": round(statistics.median(run.delays), 2), "longest_delay_s": round(max(run.delays), 2),
        "median_delay_of_last_tenth_s": round(statistics.median(late), 2),
        "late_hub_requests": run.requests, "late_hub_s": round(seconds, 2),
    }  # fmt: skip


HEAD = (
    "| nodes | hours | XComs set | per node | rows | MB | longest value, KiB | longest write, s | median delay, s |"
    " longest, s | median of the last tenth | values a late hub reads | its seconds |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, help="measure only a run of so many nodes")
    parser.add_argument("--hours", type=float, default=1.0, help="how long that run takes")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    shapes = _SHAPES if options.nodes is None else ((options.nodes, options.hours),)
    rows = [measure(nodes, hours) for nodes, hours in shapes]
    sys.stdout.write((json.dumps({"journal": rows}) if options.json else table(HEAD, rows)) + "\n")


if __name__ == "__main__":
    main()
