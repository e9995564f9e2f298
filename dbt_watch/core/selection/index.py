"""
The nodes of a graph by tag, path, package, type and more.

`methods`, `evaluator` and `near` look nodes up here. Each index is made when it is first asked for, and kept as long as the
graph lives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from dbt_watch.core.selection.files import Files

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Graph, Node

Ids = Mapping[str, list[str]]

#: what dbt keeps in the section `nodes` of a manifest
_EXECUTABLE = frozenset(
    {"model", "test", "seed", "snapshot", "analysis", "operation", "sql_operation", "rpc"}
)
#: what dbt looks at when it selects by configuration
_CONFIGURABLE = _EXECUTABLE | {"source"}
#: what dbt looks at when it selects by group
_GROUPABLE = _EXECUTABLE | {"metric"}


#: the names by which `fqn:` knows a node: its unique_id; package, folders, name and version, joined by dots; the same
#: without the package; its name alone, without the version; and name and version joined by an underscore, or nothing
QualifiedName = tuple[str, str, str, str, str]


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
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for unique_id, node in self._nodes.items():
            ids[node.resource_type].append(unique_id)
        return dict(ids)

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
        return self._by(lambda node: (node.group,) if node.group and node.resource_type in _GROUPABLE else ())

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
    def tests_of(self) -> Ids:
        """Tests and unit tests by each node that they test."""
        tests: defaultdict[str, list[str]] = defaultdict(list)
        for resource_type in ("test", "unit_test"):
            for unique_id in self.types.get(resource_type, ()):
                for tested in self._nodes[unique_id].depends_on:
                    tests[tested].append(unique_id)
        return tests

    @cached_property
    def empty(self) -> frozenset[str]:
        """Nodes whose file holds no code."""
        return frozenset(node.unique_id for node in self._nodes.values() if node.is_empty)

    @cached_property
    def configs(self) -> Mapping[int, list[str]]:
        """Nodes by the index of their configuration in the graph."""
        ids: defaultdict[int, list[str]] = defaultdict(list)
        for unique_id, node in self._nodes.items():
            if node.resource_type in _CONFIGURABLE:
                ids[node.config_index].append(unique_id)
        return dict(ids)

    @cached_property
    def paths(self) -> Ids:
        """Nodes by the file that defines them."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for unique_id, node in self._nodes.items():
            ids[node.path].append(unique_id)
        return dict(ids)

    @cached_property
    def patch_paths(self) -> Ids:
        """Nodes by the YAML file that describes them."""
        return self._by(lambda node: (node.patch_path,) if node.patch_path else ())

    @cached_property
    def files(self) -> Files:
        """The files of the root project, as far as the manifest names them."""
        own = [node for node in self._nodes.values() if node.package_name == self._project]
        patches = {node.patch_path for node in own if node.patch_path}
        return Files({node.path for node in own}.union(patches, self._other_files))

    @cached_property
    def qualified_names(self) -> list[QualifiedName]:
        """The names of all nodes but sources."""
        # Tens of thousands are made for one selection, so none of them costs a call.
        return [
            (
                unique_id,
                full := ".".join(node.fqn),
                full[len(node.fqn[0]) + 1 :],
                node.fqn[-1] if node.version is None or node.resource_type != "model" else node.fqn[-2],
                "" if node.version is None or node.resource_type != "model" else "_".join(node.fqn[-2:]),
            )
            for unique_id, node in self._nodes.items()
            if len(node.fqn) > 1 and node.resource_type != "source"
        ]

    def _by(self, keys: Callable[[Node], Iterable[str]]) -> Ids:
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for unique_id, node in self._nodes.items():
            for key in keys(node):
                ids[key].append(unique_id)
        return dict(ids)


_INDEXES: WeakKeyDictionary[Graph, Index] = WeakKeyDictionary()


def index_of(graph: Graph) -> Index:
    """Return the indexes of a graph, the same ones each time."""
    index = _INDEXES.get(graph)
    if index is None:
        index = _INDEXES[graph] = Index(graph)
    return index


def _test_names(node: Node) -> Iterable[str]:
    if node.resource_type == "unit_test":
        return (node.name,)
    return (node.test_name,) if node.resource_type == "test" and node.test_name else ()


def _test_kinds(node: Node) -> Iterable[str]:
    if node.resource_type == "unit_test":
        return ("unit",)
    if node.resource_type != "test":
        return ()
    return ("singular",) if node.test_name is None else ("generic",)
