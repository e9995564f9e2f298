"""Runs the nodes of a command of a `FakeDbt` in dbt's order, on so many threads; `player` tells of what happens."""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING

from dbt_watch.testing.log_lines import now, written
from dbt_watch.testing.played_results import BLOCKING, FAILED, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.testing.player import CommandPlayer


class NodeRun:
    """
    The run of the nodes of a command, on so many threads.

    :param command: is told of what begins and ends
    :param graph: the project
    :param waits: the nodes, each with those that it waits for
    :param threads: how many run at once
    :ivar results: how those ended that have, in this order
    """

    def __init__(
        self, command: CommandPlayer, graph: Graph, waits: Mapping[str, tuple[str, ...]], threads: int
    ) -> None:
        self.results: dict[str, Result] = {}
        self._command = command
        self._graph = graph
        self._waits = waits
        self._open = {unique_id: set(before) for unique_id, before in waits.items()}
        self._children: dict[str, list[str]] = {}
        for unique_id, before in waits.items():
            for parent in before:
                self._children.setdefault(parent, []).append(unique_id)
        self._ready = [unique_id for unique_id, before in waits.items() if not before]
        self._threads = [f"Thread-{number} (worker)" for number in range(threads, 0, -1)]
        self._running: list[tuple[float, int, int, Result]] = []
        self._index = 0
        self._failed_fast = False

    def run(self) -> None:
        """Run them all; :raises ProcessEnded: when the process ends before."""
        while self._ready or self._running:
            while self._ready and self._threads and not self._failed_fast:
                self._start(self._ready.pop(0))
            if self._running:
                self._end(*heapq.heappop(self._running))
            elif self._failed_fast:
                break
        for unique_id in self._waits if self._failed_fast else ():
            if unique_id not in self.results:
                node = self._graph.nodes[unique_id]
                self.results[unique_id] = Result(node, "skipped", message="Skipping due to fail_fast")

    def _start(self, unique_id: str) -> None:
        self._index += 1
        node, began, thread = self._graph.nodes[unique_id], written(now()), self._threads[-1]
        if any(self.results[parent].status in BLOCKING for parent in self._waits[unique_id]):
            result = Result(node, "skipped", began=began, thread=thread)
            self._command.skip(result, self._index, len(self._waits))
            self._is_over(result)
            return
        self._threads.pop()
        result = self._command.result_of(self._graph, node)
        result.began, result.thread = began, thread
        self._command.begin(result, self._index, len(self._waits))
        self._go_on(time.monotonic(), self._index, result, 1)

    def _go_on(self, at: float, index: int, result: Result, batch: int) -> None:
        """Begin a batch of a node; one that has none is like one with a single batch."""
        unique_id = result.node.unique_id
        if result.batches:
            self._command.begin_batch(result, batch)
        self._command.die(unique_id, "during")
        seconds = self._command.act(unique_id).seconds / max(len(result.batches), 1)
        heapq.heappush(self._running, (at + seconds, index, batch, result))

    def _end(self, due: float, index: int, batch: int, result: Result) -> None:
        self._command.wait(due - time.monotonic())
        unique_id = result.node.unique_id
        if result.batches:
            self._command.end_batch(result, batch)
            if batch < len(result.batches):
                self._go_on(due, index, result, batch + 1)
                return
        result.over = written(now())
        result.seconds = self._command.act(unique_id).seconds
        self._command.end(result, index, len(self._waits))
        self._threads.append(result.thread)
        self._is_over(result)
        self._command.die(unique_id, "after")
        if result.status in FAILED and self._command.call.has("--fail-fast"):
            self._failed_fast = True

    def _is_over(self, result: Result) -> None:
        self.results[result.node.unique_id] = result
        for child in self._children.get(result.node.unique_id, ()):
            self._open[child].discard(result.node.unique_id)
            if not self._open[child]:
                self._ready.append(child)
