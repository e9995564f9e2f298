"""
What a manifest says of the nodes that a report shows. `reporting.command` reads one, `reporting.assembly` uses it.

`core.manifest` leaves out what a DAG has no use for, such as columns, so they are read here, from the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.log.entries import TESTS
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.manifest.location import place_of
from dbt_watch.reporting.run_record import Column

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class _Column(msgspec.Struct, gc=False):
    name: str = ""
    description: str | None = None
    data_type: str | None = None


class _Resource(msgspec.Struct, gc=False):
    columns: dict[str, _Column] | None = None


class _Document(msgspec.Struct, gc=False):
    nodes: dict[str, _Resource] = {}
    sources: dict[str, _Resource] = {}


_documents: Final = msgspec.json.Decoder(_Document)


def columns_in(content: bytes) -> dict[str, tuple[Column, ...]]:
    """Return the columns that a manifest describes, by unique_id; none where they cannot be read."""
    try:
        document: Any = _documents.decode(content.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return {
        unique_id: tuple(
            Column(column.name or key, column.data_type or "", column.description or "")
            for key, column in resource.columns.items()
        )
        for section in (document.nodes, document.sources)
        for unique_id, resource in section.items()
        if resource.columns
    }
