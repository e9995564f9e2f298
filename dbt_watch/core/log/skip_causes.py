"""
Why a node was skipped: which failed nodes are upstream of it.

dbt's events do not name the cause, so it is found in the graph. In a build, a failed test too blocks the nodes downstream of
those it tests, and a failed unit test the very node it tests, though the graph has no such edge. `core.log.ledger` asks.

dbt skips all that is downstream of a failure, through nodes that it says nothing of itself: an ephemeral model is neither run nor
reported, and of a log a part may be missing. Such a silent node is looked through, as if what it depends on were its children's.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from dbt_watch.core.log.entries import TESTS
from dbt_watch.core.statuses import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
        found: set[str] = set()
        for entry in self._reported_before(unique_id):
            found.update((entry.unique_id,) if entry.is_failure else entry.skipped_because)
        return self._named(unique_id, found, tests=tests)

    def keep_back(self, unique_id: str, *, tests: bool) -> bool:
        """
        Return whether a node is downstream of a failure for which dbt is going to skip it; a stale source is none.

        :param tests: see `of`
        """
        return any(not cause.startswith("source.") for cause in self.of(unique_id, tests=tests))

    def settled(self) -> dict[str, tuple[str, ...]]:
        """Return the failed nodes of every skipped node, whatever the order in which they were reported."""
        skipped = [unique_id for unique_id, entry in self._entries.items() if entry.status == SKIPPED]
        if not skipped:
            return {}
        tests = any(entry.is_failure and entry.resource_type in TESTS for entry in self._entries.values())
        # A silent node gets causes as a skipped one does, for all that is behind it: so each edge counts once.
        waiting = deque(self._upstream_first(skipped))
        found: dict[str, tuple[str, ...]] = dict.fromkeys(waiting, ())
        queued = set(waiting)
        # In a graph without a cycle each comes once; a foreign one may have a cycle.
        budget = _MAX_VISITS * len(found)
        while waiting and budget:
            budget -= 1
            unique_id = waiting.popleft()
            queued.discard(unique_id)
            is_skipped = not _is_silent(self._entries.get(unique_id))
            causes = self._named(unique_id, self._before(unique_id, found), tests=tests and is_skipped)
            if causes != found[unique_id]:
                found[unique_id] = causes
                again = [child for child in self._children_of(unique_id) if child in found]
                waiting.extend(child for child in again if child not in queued)
                queued.update(again)
        return {unique_id: found[unique_id] for unique_id in skipped}

    def _named(self, unique_id: str, found: set[str], *, tests: bool) -> tuple[str, ...]:
        if not found and tests and unique_id in self._nodes:
            found = self._failed_tests_before(unique_id)
        return tuple(sorted(found)[:MAX_CAUSES])

    def _parents(self, unique_id: str) -> tuple[str, ...]:
        node = self._nodes.get(unique_id)
        return node.depends_on if node is not None else ()

    def _before(self, unique_id: str, found: Mapping[str, tuple[str, ...]]) -> set[str]:
        """Return the failed parents of a node, and the causes that were found for the others."""
        before: set[str] = set()
        for parent in self._parents(unique_id):
            entry = self._entries.get(parent)
            before.update((parent,) if entry is not None and entry.is_failure else found.get(parent, ()))
        return before

    def _reported_before(self, unique_id: str) -> Iterator[NodeResult]:
        """Yield the nearest nodes upstream that failed or were skipped; a silent node is looked through."""
        ways = [unique_id]
        seen = {unique_id}
        for way in ways:
            for parent in self._parents(way):
                entry = self._entries.get(parent)
                if entry is not None and (entry.is_failure or entry.is_skipped):
                    yield entry
                elif parent not in seen and len(seen) <= _MAX_VISITS and _is_silent(entry):
                    seen.add(parent)
                    ways.append(parent)

    def _upstream_first(self, skipped: Iterable[str]) -> dict[str, None]:
        """Return skipped nodes, and the silent ones between these and their causes, each behind those that it depends on."""
        found: dict[str, None] = {}
        begun: set[str] = set()
        for start in skipped:
            waiting = [start]
            while waiting:
                unique_id = waiting[-1]
                if unique_id in begun:
                    found.setdefault(waiting.pop())
                    continue
                begun.add(unique_id)
                waiting += [
                    parent
                    for parent in self._parents(unique_id)
                    if parent not in begun and self._hands_on(parent)
                ]
        return found

    def _hands_on(self, unique_id: str) -> bool:
        """Return whether a node has the causes of what it depends on, for those that depend on it."""
        entry = self._entries.get(unique_id)
        return _is_silent(entry) or (entry is not None and entry.is_skipped)

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
            for parent in self._parents(waiting.pop()):
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


def _is_silent(entry: NodeResult | None) -> bool:
    """Return whether dbt has said nothing of how a node ended."""
    return entry is None or entry.was_not_run or not entry.is_final
