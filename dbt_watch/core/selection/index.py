"""
A graph turned round: from a tag, a path, a package, a type to the nodes that have it.

`methods` looks nodes up here. Each index is made when it is first asked for, and kept as long as the graph lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

from dbt_watch.core.graph import Graph, Node
from dbt_watch.core.selection.files import FileTree

Ids = Mapping[str, list[str]]

#: what dbt keeps in the section `nodes` of a manifest
_EXECUTABLE = frozenset({"model", "test", "seed", "snapshot", "analysis", "operation", "sql_operation", "rpc"})
#: what dbt looks at when it selects by configuration
_CONFIGURABLE = _EXECUTABLE | {"source"}
#: what dbt looks at when it selects by group
_GROUPABLE = _EXECUTABLE | {"metric"}


class QualifiedName(NamedTuple):
    """The names by which `fqn:` knows a node."""

    unique_id: str
    #: package, folders, name and version, joined by dots
    full: str
    #: the same without the package
    unscoped: str
    #: its name, without the version
    leaf: str
    #: name and version joined by an underscore, which also names it; empty when it has no version
    underscored: str


class Index:
    """
    The indexes of one graph.

    :param graph: what they are made of
    """

    def __init__(self, graph: Graph) -> None:
        self._nodes = graph.nodes
        self._project = graph.project_name
        self._other_files = graph.facts.other_files

    @cached_property
    def types(self) -> Ids:
        """Nodes by resource type."""
        return self._by(lambda node: (node.resource_type,))

    @cached_property
    def tags(self) -> Ids:
        """Nodes by tag."""
        return self._by(lambda node: node.tags)

    @cached_property
    def packages(self) -> Ids:
        """Nodes by package."""
        return self._by(lambda node: (node.package_name,))

    @cached_property
    def groups(self) -> Ids:
        """Nodes by group."""
        return self._by(
            lambda node: (node.group,) if node.group and node.resource_type in _GROUPABLE else ()
        )

    @cached_property
    def access(self) -> Ids:
        """Models by access: private, protected, public."""
        return self._by(lambda node: (node.access,) if node.access and node.resource_type == "model" else ())

    @cached_property
    def version_statuses(self) -> Ids:
        """Models by what their version is: latest, old, prerelease, none."""
        return self._by(lambda node: (node.version_status,) if node.version_status else ())

    @cached_property
    def test_names(self) -> Ids:
        """Generic tests by what they are an instance of, unit tests by name."""
        return self._by(_test_names)

    @cached_property
    def test_kinds(self) -> Ids:
        """Tests by kind: generic, singular, unit."""
        return self._by(_test_kinds)

    @cached_property
    def configs(self) -> Mapping[int, list[str]]:
        """Nodes by the index of their configuration in the graph."""
        ids: dict[int, list[str]] = {}
        for node in self._nodes.values():
            if node.resource_type in _CONFIGURABLE:
                ids.setdefault(node.config_index, []).append(node.unique_id)
        return ids

    @cached_property
    def paths(self) -> Ids:
        """Nodes by the file that defines them."""
        return self._by(lambda node: (node.path,))

    @cached_property
    def patch_paths(self) -> Ids:
        """Nodes by the YAML file that describes them."""
        return self._by(lambda node: (node.patch_path,) if node.patch_path else ())

    @cached_property
    def files(self) -> FileTree:
        """The files of the root project, as far as the manifest names them."""
        own = [node for node in self._nodes.values() if node.package_name == self._project]
        tree = FileTree()
        for path in {*self._other_files, *(node.path for node in own), *(node.patch_path for node in own)}:
            if path:
                tree.add(path)
        return tree

    @cached_property
    def qualified_names(self) -> list[QualifiedName]:
        """The names of all nodes but sources."""
        return [_qualified(node) for node in self._nodes.values() if node.resource_type != "source" and node.fqn]

    def _by(self, keys: Callable[[Node], Iterable[str | None]]) -> Ids:
        ids: dict[str, list[str]] = {}
        for node in self._nodes.values():
            for key in keys(node):
                if key is not None:
                    ids.setdefault(key, []).append(node.unique_id)
        return ids


_INDEXES: WeakKeyDictionary[Graph, Index] = WeakKeyDictionary()


def index_of(graph: Graph) -> Index:
    """Give the indexes of a graph, the same ones each time."""
    index = _INDEXES.get(graph)
    if index is None:
        index = _INDEXES[graph] = Index(graph)
    return index


def _test_names(node: Node) -> Iterable[str | None]:
    if node.resource_type == "unit_test":
        return (node.name,)
    return (node.test_name,) if node.resource_type == "test" else ()


def _test_kinds(node: Node) -> Iterable[str]:
    if node.resource_type == "unit_test":
        return ("unit",)
    if node.resource_type != "test":
        return ()
    return ("generic",) if node.is_generic_test else ("singular",)


def _qualified(node: Node) -> QualifiedName:
    fqn = node.fqn
    versioned = node.resource_type == "model" and node.version is not None and len(fqn) > 1
    return QualifiedName(
        node.unique_id,
        ".".join(fqn),
        ".".join(fqn[1:]),
        fqn[-2] if versioned else fqn[-1],
        f"{fqn[-2]}_{fqn[-1]}" if versioned else "",
    )
