"""
What a manifest says of the nodes that a report shows. `reporting.command` reads one, `reporting.assembly` uses it.

The graph leaves out what a DAG has no use for, such as columns, so these are read apart, from the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbt_watch.core.log.entries import TESTS
from dbt_watch.core.manifest.columns import columns_in
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.manifest.location import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.core.manifest.columns import Column
    from dbt_watch.core.manifest.graph import Graph, Node

OPTION: Final = "--manifest"

# The types that a build may run; a run reports no other, but for sources, whose freshness is checked.
_RUNNABLE: Final = frozenset(
    {"model", "test", "unit_test", "seed", "snapshot", "function", "saved_query", "exposure"}
)


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """
    A manifest, as far as a report needs it.

    :param graph: its nodes, and what depends on what
    :param columns: the columns of each node that describes any
    """

    graph: Graph
    columns: Mapping[str, tuple[Column, ...]]

    @property
    def runnable(self) -> dict[str, Node]:
        """The nodes that a build may run."""
        return {key: node for key, node in self.graph.nodes.items() if node.resource_type in _RUNNABLE}

    def tests_of(self, unique_id: str) -> tuple[str, ...]:
        """Return the tests and unit tests that read a node, those of several nodes as well."""
        nodes = self.graph.nodes
        return tuple(
            child for child in self.graph.child_map.get(unique_id, ()) if nodes[child].resource_type in TESTS
        )


def manifest_at(location: str) -> ManifestFacts:
    """
    Read a manifest.

    :param location: a path, or a URL as `load_manifest` takes it
    :raises ManifestError: when nothing can be read there, or it is not a manifest of dbt 1.8 or later
    """
    graph = load_manifest(location, argument=OPTION)
    return ManifestFacts(graph, columns_in(place_of(location, argument=OPTION).read()))
