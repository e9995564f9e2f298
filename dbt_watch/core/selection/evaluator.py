"""
Finds the nodes of a specification: graph operators, sets, and the tests that come along. `select_nodes` calls it.

The rules are those of https://docs.getdbt.com/reference/node-selection/syntax and
https://docs.getdbt.com/reference/node-selection/test-selection-examples; the differential tests hold them against dbt itself.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from dbt_watch.core.selection.index import index_of
from dbt_watch.core.selection.methods import find
from dbt_watch.core.selection.spec import (
    UNLIMITED,
    Criterion,
    Group,
    IndirectSelection,
    Operator,
    Specification,
    Written,
)
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.selection.definitions import Definitions

_COMBINE: Mapping[Operator, Callable[..., set[str]]] = {
    Operator.UNION: set.union,
    Operator.INTERSECTION: set.intersection,
    Operator.DIFFERENCE: set.difference,
}


class _Selected(NamedTuple):
    """
    What a specification selects.

    `candidates` are tests of some of the selected nodes that wait for the rest of what they test.
    """

    selected: set[str]
    candidates: AbstractSet[str]


class Evaluator:
    """
    Finds the nodes of specifications in one graph.

    :param keep: the nodes of a kind that is asked for
    :param definitions: the YAML selectors, for `selector:`
    :param on_unmatched: is told of what the user wrote and matches nothing
    """

    def __init__(
        self,
        graph: Graph,
        keep: AbstractSet[str],
        definitions: Definitions,
        on_unmatched: Callable[[Written], object],
    ) -> None:
        self._graph = graph
        self._index = index_of(graph)
        self._keep = keep
        self._definitions = definitions
        self._on_unmatched = on_unmatched
        self._open: list[str] = []

    def select(self, specification: Specification, *, argument: str) -> set[str]:
        """
        Return the ids of the selected nodes.

        :param argument: what to call the specification in messages
        :raises SelectionError: when a part of it has no answer
        """
        return self._find(specification, argument).selected & self._keep

    def _find(self, specification: Specification, argument: str) -> _Selected:
        if isinstance(specification, Criterion):
            return self._find_criterion(specification, argument)
        found = self._find_group(specification, argument)
        if specification.written is not None and not found.selected:
            self._on_unmatched(specification.written)
        return found

    def _find_group(self, group: Group, argument: str) -> _Selected:
        if not group.parts:
            return _Selected(set(), frozenset())
        if len(group.parts) == 1:
            return self._find(group.parts[0], argument)  # which is complete already
        found = [self._find(part, argument) for part in group.parts]
        combine = _COMBINE[group.operator]
        selected = combine(*(part.selected for part in found))
        candidates = combine(*(part.selected | part.candidates for part in found))
        return _Selected(selected | self._complete(selected, candidates, group.indirect), candidates)

    def _find_criterion(self, criterion: Criterion, argument: str) -> _Selected:
        if criterion.method == "selector":
            # The selectors have brought their tests along already, or have excluded them.
            return _Selected(
                self._with_relatives(criterion, self._find_selectors(criterion, argument)), frozenset()
            )
        selected = self._with_relatives(criterion, find(self._graph, criterion, argument=argument))
        return self._with_tests(selected, criterion.indirect)

    def _find_selectors(self, criterion: Criterion, argument: str) -> set[str]:
        pattern = str(criterion.value)
        if self._definitions.inherit:
            version = self._graph.facts.dbt_version
            raise SelectionError(
                argument,
                criterion.text,
                f"no `selector:`, which does not exist in dbt {version}; use the argument selector=... for a YAML selector",
            )
        names = sorted(name for name in self._definitions.names if fnmatchcase(name, pattern))
        if not names:
            raise SelectionError(
                argument,
                pattern,
                "the name of a YAML selector in the manifest",
                known=self._definitions.names,
            )
        selected: set[str] = set()
        for name in names:
            if name in self._open:
                circle = " -> ".join([*self._open, name])
                raise SelectionError(argument, name, f"YAML selectors without circular references ({circle})")
            self._open.append(name)
            selected |= self.select(
                self._definitions.specification(name, argument=argument), argument=argument
            )
            self._open.pop()
        return selected

    def _with_relatives(self, criterion: Criterion, named: set[str]) -> set[str]:
        parents, children = self._graph.parent_map, self._graph.child_map
        selected = set(named)
        if criterion.childrens_parents:
            selected |= reach(parents, named | reach(children, named))
            selected |= reach(children, named)
        if criterion.parents is not None:
            selected |= reach(parents, named, criterion.parents)
        if criterion.children is not None:
            selected |= reach(children, named, criterion.children)
        return selected

    def _with_tests(self, selected: set[str], indirect: IndirectSelection) -> _Selected:
        if indirect is IndirectSelection.EMPTY:
            return _Selected(selected, frozenset())
        tests = self._tests_of(selected) - selected
        if indirect is IndirectSelection.EAGER:
            return _Selected(selected | tests, frozenset())
        present = set(selected)
        if indirect is IndirectSelection.BUILDABLE:
            present |= reach(self._graph.parent_map, selected)
            present.update(self._index.types.get("source", ()))
        complete = {test for test in tests if self._tests_only(test, present)}
        return _Selected(selected | complete, tests - complete)

    def _complete(
        self, selected: set[str], candidates: AbstractSet[str], indirect: IndirectSelection
    ) -> set[str]:
        """Return the candidates all of whose nodes have been selected by now, by whatever part of a group."""
        if indirect not in {IndirectSelection.CAUTIOUS, IndirectSelection.BUILDABLE}:
            return set()
        waiting = candidates - selected
        if not waiting:
            return set()
        present = set(selected)
        if indirect is IndirectSelection.BUILDABLE:
            present |= reach(self._graph.parent_map, selected)
        nodes = self._graph.nodes
        # dbt leaves out unit tests here: they test one model, which would have brought them along
        return {
            unique_id
            for unique_id in waiting
            if nodes[unique_id].resource_type != "unit_test" and self._tests_only(unique_id, present)
        }

    def _tests_of(self, selected: AbstractSet[str]) -> set[str]:
        tests_of = self._index.tests_of
        return {test for unique_id in tests_of.keys() & selected for test in tests_of[unique_id]}

    def _tests_only(self, unique_id: str, present: AbstractSet[str]) -> bool:
        return all(tested in present for tested in self._graph.nodes[unique_id].depends_on)


def reach(edges: Mapping[str, tuple[str, ...]], start: Iterable[str], depth: int = UNLIMITED) -> set[str]:
    """
    Return the nodes that edges lead to, without those of the start unless an edge leads back to them.

    :param depth: how many edges to follow at most; UNLIMITED for all
    """
    reached: set[str] = set()
    layer = set(start)
    while layer and depth != 0:
        layer = {neighbour for unique_id in layer for neighbour in edges.get(unique_id, ())} - reached
        reached |= layer
        depth -= 1
    return reached
