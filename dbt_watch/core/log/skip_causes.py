"""
Why a node was skipped: which failed nodes are upstream of it.

dbt's events do not name the cause, so it is found in the graph. In a build, a failed test too blocks the nodes downstream of
those it tests, and a failed unit test the very node it tests, though the graph has no such edge. `core.log.ledger` asks.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from dbt_watch.core.log.entries import TESTS
from dbt_watch.core.statuses import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbt_watch.core.results import NodeResult, SelectedNode

MAX_CAUSES: Final = 20
"""How many failed nodes are named for one skipped node."""

_MAX_VISITS: Final = 100


class SkipCauses:
    """
    Finds the failed nodes upstream of a skipped one.

    :param nodes: the graph; edges to nodes that are not in it are followed nowhere
    :param entries: what is known of each node by now; read at every call
    """

    def __init__(self, nodes: Mapping[str, SelectedNode], entries: Mapping[str, NodeResult]) -> None:
        self._nodes = nodes
        self._entries = entries
        self._children: dict[str, list[str]] | None = None

    def of(self, unique_id: str, *, tests: bool) -> tuple[str, ...]:
        """
        Return the failed nodes that a skipped node waited for, as far as they are known by now.

        :param tests: whether any test failed; when not, none is looked for
        """
        return self._of(unique_id, lambda parent: self._entries[parent].skipped_because, tests=tests)

    def keep_back(self, unique_id: str, *, tests: bool) -> bool:
        """
        Return whether a node is downstream of a failure for which dbt is going to skip it; a stale source is none.

        :param tests: see `of`
        """
        return any(not cause.startswith("source.") for cause in self.of(unique_id, tests=tests))

    def settled(self) -> dict[str, tuple[str, ...]]:
        """Return the failed nodes of every skipped node, whatever the order in which they were reported."""
        found: dict[str, tuple[str, ...]] = {
            unique_id: () for unique_id, entry in self._entries.items() if entry.status == SKIPPED
        }
        if not found:
            return found
        tests = any(entry.is_failure and entry.resource_type in TESTS for entry in self._entries.values())
        waiting = deque(found)
        # In a graph without a cycle this ends by itself; a foreign one may have a cycle.
        budget = _MAX_VISITS * len(found)
        while waiting and budget:
            budget -= 1
            unique_id = waiting.popleft()
            causes = self._of(unique_id, found.__getitem__, tests=tests)
            if causes != found[unique_id]:
                found[unique_id] = causes
                waiting.extend(child for child in self._children_of(unique_id) if child in found)
        return found

    def _of(
        self, unique_id: str, of_skipped: Callable[[str], tuple[str, ...]], *, tests: bool
    ) -> tuple[str, ...]:
        node = self._nodes.get(unique_id)
        if node is None:
            return ()
        found: set[str] = set()
        for parent in node.depends_on:
            entry = self._entries.get(parent)
            if entry is None:
                continue
            if entry.is_failure:
                found.add(parent)
            elif entry.is_skipped:
                found.update(of_skipped(parent))
        if not found and tests:
            found = self._failed_tests_before(unique_id)
        return tuple(sorted(found)[:MAX_CAUSES])

    def _failed_tests_before(self, unique_id: str) -> set[str]:
        before = self._ancestors(unique_id)
        found = set()
        for ancestor in (*before, unique_id):
            for child in self._children_of(ancestor):
                entry = self._entries.get(child)
                if entry is None or not entry.is_failure or entry.resource_type not in TESTS:
                    continue
                tested = set(self._nodes[child].depends_on)
                if tested <= before or (entry.resource_type == "unit_test" and unique_id in tested):
                    found.add(child)
        return found

    def _ancestors(self, unique_id: str) -> set[str]:
        seen: set[str] = set()
        waiting = [unique_id]
        while waiting:
            node = self._nodes.get(waiting.pop())
            for parent in node.depends_on if node is not None else ():
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        return seen

    def _children_of(self, unique_id: str) -> list[str]:
        if self._children is None:
            self._children = defaultdict(list)
            for child, node in self._nodes.items():
                for parent in node.depends_on:
                    self._children[parent].append(child)
        return self._children.get(unique_id, [])
