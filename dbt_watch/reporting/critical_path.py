"""
The chain of nodes that kept a run from being shorter. `reporting.assembly` asks.

In a build, dbt begins a node when its parents and their tests are done. What depends on what counts only where the times agree
with it, so the chain is never longer than the run.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from dbt_watch.core.log.entries import TESTS
from dbt_watch.reporting.run_record import CriticalPath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Span = tuple[float, float]
"""When a node began and when it was over, in seconds."""

# How many tests of one node are looked at.
_MAX_GATES: Final = 200
_UNIT_TEST: Final = "unit_test"


def critical_path(spans: Mapping[str, Span], parents: Mapping[str, Sequence[str]]) -> CriticalPath | None:
    """
    Return the longest chain.

    :param spans: the nodes that ran; no end lies before its beginning
    :param parents: what each node depends on directly, of all nodes of the project
    :returns: None when nothing ran, or nothing is known of what depends on what
    """
    if not spans or not any(parents.values()):
        return None
    before = _Before(spans, parents)
    longest: dict[str, float] = {}
    via: dict[str, str] = {}
    # What was over before a node began stands before it in this order.
    for node in sorted(spans, key=lambda node: (*spans[node], node)):
        begin, end = spans[node]
        best = 0.0
        for earlier in before.of(node):
            if earlier in longest and spans[earlier][1] <= begin and longest[earlier] > best:
                best, via[node] = longest[earlier], earlier
        longest[node] = best + end - begin
    last = max(longest, key=lambda node: (longest[node], node))
    chain = [last]
    while chain[-1] in via:
        chain.append(via[chain[-1]])
    return CriticalPath(tuple(reversed(chain)), round(longest[last], 6))


class _Before:
    """Finds the nodes that ran and that a node had to wait for."""

    def __init__(self, spans: Mapping[str, Span], parents: Mapping[str, Sequence[str]]) -> None:
        self._spans = spans
        self._parents = parents
        self._nearest: dict[str, frozenset[str]] = {}
        self._ancestors: dict[str, frozenset[str]] = {}
        self._tests: defaultdict[str, list[str]] = defaultdict(list)
        for node in spans:
            if _kind(node) in TESTS:
                for parent in parents.get(node, ()):
                    self._tests[parent].append(node)

    def of(self, node: str) -> Iterator[str]:
        if _kind(node) == _UNIT_TEST:
            # It runs before the node that it tests, and needs what that one reads.
            for tested in self._parents.get(node, ()):
                yield from self._upstream(tested)
            return
        if _kind(node) in TESTS:
            yield from self._that_ran(node)
            return
        yield from self._upstream(node)
        yield from (test for test in self._tests.get(node, ()) if _kind(test) == _UNIT_TEST)

    def _upstream(self, node: str) -> Iterator[str]:
        """Yield the parents of a node, and the tests of what is before it."""
        for parent in self._that_ran(node):
            yield parent
            for test in self._tests.get(parent, ())[:_MAX_GATES]:
                tested = self._parents.get(test, ())
                if _kind(test) != _UNIT_TEST and (len(tested) == 1 or self._all_before(node, tested)):
                    yield test

    def _that_ran(self, node: str) -> frozenset[str]:
        """Return the nearest nodes upstream that ran; one that did not, such as an ephemeral model, is looked through."""
        known = self._nearest.get(node)
        if known is None:
            known = self._nearest[node] = frozenset(self._walk(node))
        return known

    def _walk(self, node: str) -> Iterator[str]:
        seen: set[str] = set()
        waiting = [*self._parents.get(node, ())]
        while waiting:
            parent = waiting.pop()
            if parent in seen:
                continue
            seen.add(parent)
            if parent in self._spans:
                yield parent
            else:
                waiting += self._parents.get(parent, ())

    def _all_before(self, node: str, others: Iterable[str]) -> bool:
        known = self._ancestors.get(node)
        if known is None:
            found: set[str] = set()
            waiting = [*self._parents.get(node, ())]
            while waiting:
                parent = waiting.pop()
                if parent not in found:
                    found.add(parent)
                    waiting += self._parents.get(parent, ())
            known = self._ancestors[node] = frozenset(found)
        return known.issuperset(others)


def _kind(unique_id: str) -> str:
    return unique_id.partition(".")[0]
