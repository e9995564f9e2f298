"""
A dbt project as a graph: its resources, and what depends on what.

`core.manifest.load` makes a `Graph`; the selection, `authoring`, `rendering` and the producer read it. A graph never changes
once it is made, so all of them may share one.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dbt_watch.core.selection.state import StateComparison


class Node(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    One resource of a dbt project that can have a task or be selected.

    The order of the fields is the format of the cache; `core.manifest.cache.FORMAT` counts its changes.
    """

    unique_id: str
    name: str
    resource_type: str
    package_name: str
    fqn: tuple[str, ...] = ()
    #: the file that defines it, relative to the directory of its own package
    path: str = ""
    #: the YAML file that describes it, when that is another one
    patch_path: str | None = None
    tags: tuple[str, ...] = ()
    #: unique_ids as the manifest has them: nodes, sources, metrics; of a test, what it tests
    depends_on: tuple[str, ...] = ()
    materialized: str | None = None
    version: str | None = None
    #: of a model: "latest", "old" or "prerelease" when it has versions, "none" when it has not
    version_status: str | None = None
    description: str = ""
    group: str | None = None
    access: str | None = None
    #: of a generic test, the model that it was written at; None for a test of a source (dbt leaves it empty)
    attached_node: str | None = None
    #: the generic test that it is an instance of, such as "not_null"; None for a singular test
    test_name: str | None = None
    source_name: str | None = None
    #: whether its file holds nothing but blanks, so that a build passes over it
    is_empty: bool = False
    #: what `meta` holds for dbt_watch: {"dbt_watch": ...}, or nothing
    meta: dict[str, Any] = {}
    #: where its configuration is in `Graph.configs`
    config_index: int = -1
    #: of a source, whether it has a freshness policy
    has_freshness: bool = False
    #: its quoted name in the database, for the target that the manifest was made for
    relation_name: str | None = None


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What a manifest says of the project as a whole; a part of the cache's format too."""

    #: the version of dbt that wrote it, such as "1.12.0"
    dbt_version: str
    project_name: str | None = None
    #: ids of the resources that are disabled
    disabled: tuple[str, ...] = ()
    #: the YAML selectors by name, as dbt writes them
    selectors: dict[str, Any] = {}
    #: files of the root project that define no node: macros, documentation, disabled resources
    other_files: tuple[str, ...] = ()
    #: dbt's adapter, such as "postgres"
    adapter_type: str | None = None


class Graph:
    """
    The enabled resources of a project, and their dependencies.

    :param facts: what the manifest says of the project as a whole
    :param nodes: all enabled resources
    :param configs: the distinct configurations of the nodes, as JSON; `Node.config_index` points into it
    """

    def __init__(self, facts: Facts, nodes: Iterable[Node], configs: Sequence[bytes] = ()) -> None:
        self.facts = facts
        self.nodes: Mapping[str, Node] = MappingProxyType({node.unique_id: node for node in nodes})
        self.disabled = frozenset(facts.disabled)
        self.configs = tuple(configs)
        self.compared: StateComparison | None = None
        """What it was in an earlier run, for the parts of a selection that ask; see `compared_with`."""

    def compared_with(self, comparison: StateComparison) -> Graph:
        """Return the same graph, with what an earlier run knew of it."""
        graph = copy.copy(self)
        graph.compared = comparison
        return graph

    def __repr__(self) -> str:
        return f"<Graph {self.project_name}: {len(self.nodes)} nodes, dbt {self.facts.dbt_version}>"

    @property
    def project_name(self) -> str:
        """The name of the root project; empty when the manifest does not tell."""
        return self.facts.project_name or ""

    def parents(self, unique_id: str) -> tuple[str, ...]:
        """Return the ids of the enabled resources that this one depends on directly."""
        return self.parent_map[self.nodes[unique_id].unique_id]

    @cached_property
    def parent_map(self) -> Mapping[str, tuple[str, ...]]:
        """For each resource, the enabled ones that it depends on directly."""
        nodes = self.nodes
        parents_of: dict[str, tuple[str, ...]] = {}
        for unique_id, node in nodes.items():
            parents = node.depends_on
            if len(parents) > 1:
                parents = tuple([parent for parent in dict.fromkeys(parents) if parent in nodes])
            elif parents and parents[0] not in nodes:
                parents = ()
            parents_of[unique_id] = parents
        return parents_of

    @cached_property
    def child_map(self) -> Mapping[str, tuple[str, ...]]:
        """For each resource that has any, the enabled ones that depend directly on it."""
        children: defaultdict[str, list[str]] = defaultdict(list)
        for unique_id, parents in self.parent_map.items():
            for parent in parents:
                children[parent].append(unique_id)
        return {unique_id: tuple(ids) for unique_id, ids in children.items()}

    def find(self, name: str) -> list[Node]:
        """
        Return the resources that a person may mean by a name, in the manifest's order.

        :param name: a unique_id, `name`, `package.name`, `name.v2`, `package.name.v2`; of a source `source.table` and
            `package.source.table`, since models are often named as the table that they are made of
        """
        node = self.nodes.get(name)
        if node is not None:
            return [node]
        return [self.nodes[unique_id] for unique_id in self._ids_by_name.get(name, ())]

    @cached_property
    def _ids_by_name(self) -> Mapping[str, Sequence[str]]:
        ids: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for name in dict.fromkeys(_names(node)):
                ids.setdefault(name, []).append(node.unique_id)
        return ids


def _names(node: Node) -> Iterable[str]:
    names = [node.name] if node.source_name is None else [f"{node.source_name}.{node.name}"]
    if node.version is not None:
        names.append(f"{node.name}.v{node.version}")
    yield from names
    for name in names:
        yield f"{node.package_name}.{name}"
