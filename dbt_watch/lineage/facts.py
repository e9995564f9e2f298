"""
What a manifest, and the catalog beside it, tell of the nodes of a build and of the tables that they read.

`producers.lineage` reads them once for each attempt, on its worker. The graph that a DAG file is made of has none of this: it
is read by each process that parses one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

DATASETS: Final = frozenset({"model", "seed", "snapshot", "source"})
"""The resource types that are tables or views."""
JOBS: Final = frozenset({"model", "seed", "snapshot", "test", "unit_test"})
"""The resource types whose execution is a run."""


class ColumnFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A column: its name, its type as the warehouse or the project has it, and what the project says of it."""

    name: str
    type: str | None = None
    description: str = ""


class TestFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    What a data test checks.

    :param assertion: the kind of a generic test, such as "not_null"; the name of another
    :param column: the column that it is about
    :param of: the unique_id of what it was written at; for a singular test None
    :param severity: "error" or "warn"
    :param expected: how many failures are allowed, as OpenLineage's `expected`
    """

    assertion: str
    column: str | None = None
    of: str | None = None
    severity: str = "error"
    expected: str = "0"

    __test__ = False  # pytest takes it for tests otherwise


class NodeFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    A node, or a table that one reads.

    :param kind: its resource type
    :param name: its name in the project
    :param parts: database, schema and name of its table, as the manifest has them
    :param path: the file that defines it
    :param description: what the project says of it
    :param columns: its columns, as far as they are known
    :param reads: the unique_ids of the tables that it reads; what an ephemeral model reads is read by whoever uses it
    :param tags: its tags, and its `meta` as texts
    :param owners: who owns it, by its `meta`
    :param test: of a data test, what it checks
    """

    kind: str
    name: str
    parts: tuple[str | None, ...] = ()
    path: str = ""
    description: str = ""
    columns: tuple[ColumnFacts, ...] = ()
    reads: tuple[str, ...] = ()
    tags: tuple[tuple[str, str, str], ...] = ()
    owners: tuple[str, ...] = ()
    test: TestFacts | None = None


class ProjectFacts(msgspec.Struct, frozen=True, array_like=True):
    """
    A project, as far as one attempt builds it.

    :param name: the project's
    :param adapter: the type of its adapter
    :param nodes: by unique_id
    :param ephemeral: the unique_ids of those that are no tables, and so are not told
    """

    name: str = ""
    adapter: str = ""
    nodes: dict[str, NodeFacts] = {}
    ephemeral: frozenset[str] = frozenset()


def project_facts(manifest: bytes, wanted: Collection[str], catalog: bytes | None = None) -> ProjectFacts:
    """
    Return what is known of some nodes, and of what they read.

    :param manifest: the content of manifest.json
    :param wanted: the unique_ids of the nodes
    :param catalog: the content of catalog.json, which knows the types of columns, if there is one
    :raises msgspec.MsgspecError: when one of them is none
    """
    decoded = _MANIFEST.decode(manifest)
    columns = _CATALOG.decode(catalog) if catalog is not None else _Catalog()
    resources = {**decoded.nodes, **decoded.sources, **decoded.unit_tests}
    nodes: dict[str, NodeFacts] = {}
    ephemeral = set()
    for unique_id in wanted:
        resource = resources.get(unique_id)
        if resource is None or resource.resource_type not in JOBS:
            continue
        if resource.is_ephemeral:
            ephemeral.add(unique_id)
            continue
        reads = tuple(dict.fromkeys(_tables(resource.parents, resources)))
        nodes[unique_id] = resource.facts(reads, columns.of(unique_id))
        for table in reads:
            if table not in nodes:
                nodes[table] = resources[table].facts((), columns.of(table))
    metadata = decoded.metadata
    return ProjectFacts(metadata.project_name or "", metadata.adapter_type or "", nodes, frozenset(ephemeral))


def _tables(unique_ids: Iterable[str], resources: Mapping[str, _DescribedResource]) -> Iterator[str]:
    """Yield the tables among some nodes, and those behind the ephemeral ones; dbt refuses cycles."""
    for unique_id in unique_ids:
        resource = resources.get(unique_id)
        if resource is None or resource.resource_type not in DATASETS:
            continue
        if resource.is_ephemeral:
            yield from _tables(resource.parents, resources)
        else:
            yield unique_id


Text = str | None


class _DescribedMetadata(msgspec.Struct, frozen=True):
    project_name: Text = None
    adapter_type: Text = None


class _DescribedColumn(msgspec.Struct, frozen=True, gc=False):
    name: str
    data_type: Text = None
    description: Text = None


class _Arguments(msgspec.Struct, frozen=True, gc=False):
    column_name: Any = None


class _DescribedTest(msgspec.Struct, frozen=True, gc=False):
    name: str = ""
    kwargs: _Arguments = _Arguments()


class _DescribedConfig(msgspec.Struct, frozen=True, gc=False):
    materialized: Text = None
    severity: Text = None
    error_if: Any = None
    warn_if: Any = None


class _Parents(msgspec.Struct, frozen=True, gc=False):
    nodes: tuple[str, ...] | None = None


class _DescribedResource(msgspec.Struct, frozen=True, gc=False):
    name: str
    resource_type: str
    database: Text = None
    schema: Text = None
    alias: Text = None
    identifier: Text = None
    original_file_path: Text = None
    description: Text = None
    columns: dict[str, _DescribedColumn] | None = None
    tags: str | tuple[str, ...] | None = None
    meta: dict[str, Any] | None = None
    config: _DescribedConfig = _DescribedConfig()
    depends_on: _Parents | None = None
    attached_node: Text = None
    test_metadata: _DescribedTest | None = None
    column_name: Text = None

    @property
    def is_ephemeral(self) -> bool:
        return self.config.materialized == "ephemeral"

    @property
    def parents(self) -> tuple[str, ...]:
        return (self.depends_on.nodes if self.depends_on else None) or ()

    def facts(self, reads: tuple[str, ...], types: Mapping[str, str]) -> NodeFacts:
        is_table = self.resource_type in DATASETS
        table = self.identifier or self.alias or self.name
        meta = self.meta or {}
        return NodeFacts(
            kind=self.resource_type,
            name=self.name,
            parts=(self.database, self.schema, table) if is_table else (),
            path=self.original_file_path or "",
            description=self.description or "",
            columns=tuple(self._columns(types)) if is_table else (),
            reads=reads,
            tags=(
                *((tag, "true", "DBT") for tag in _texts(self.tags)),
                *((key, _tag_value(value), "DBT_META") for key, value in meta.items() if key != "dbt_watch"),
            ),
            owners=_texts(meta.get("owner")),
            test=self._test(reads) if self.resource_type == "test" else None,
        )

    def _columns(self, types: Mapping[str, str]) -> Iterator[ColumnFacts]:
        """Yield the columns that the warehouse has, where that is known, else those that the project describes."""
        described = {column.name.lower(): column for column in (self.columns or {}).values()}
        if not types:
            for column in described.values():
                yield ColumnFacts(column.name, column.data_type, column.description or "")
        for name, kind in types.items():
            known = described.get(name.lower())
            yield ColumnFacts(name, kind, (known.description if known is not None else None) or "")

    def _test(self, reads: tuple[str, ...]) -> TestFacts:
        severity = (self.config.severity or "error").lower()
        allowed = self.config.warn_if if severity == "warn" else self.config.error_if
        expected = "0" if allowed is None or "".join(str(allowed).split()) == "!=0" else str(allowed)
        if self.test_metadata is None:
            return TestFacts(self.name, None, None, severity, expected)
        column = self.test_metadata.kwargs.column_name or self.column_name
        return TestFacts(
            self.test_metadata.name,
            column if isinstance(column, str) else None,
            # dbt leaves it empty for a test of a source, which then is what the test reads last.
            self.attached_node or (reads[-1] if reads else None),
            severity,
            expected,
        )


class _DescribedProject(msgspec.Struct, frozen=True):
    metadata: _DescribedMetadata
    nodes: dict[str, _DescribedResource]
    sources: dict[str, _DescribedResource]
    unit_tests: dict[str, _DescribedResource] = {}


class _CatalogColumn(msgspec.Struct, frozen=True, gc=False):
    name: str
    type: Text = None
    index: float = 0


class _CatalogTable(msgspec.Struct, frozen=True, gc=False):
    columns: dict[str, _CatalogColumn] = {}


class _Catalog(msgspec.Struct, frozen=True):
    nodes: dict[str, _CatalogTable] = {}
    sources: dict[str, _CatalogTable] = {}

    def of(self, unique_id: str) -> dict[str, str]:
        """Return the types of a table's columns, in their order; none where it is not in the catalog."""
        table = self.nodes.get(unique_id) or self.sources.get(unique_id) or _CatalogTable()
        columns = sorted(table.columns.values(), key=lambda column: column.index)
        return {column.name: column.type or "" for column in columns}


_MANIFEST: Final = msgspec.json.Decoder(_DescribedProject)
_CATALOG: Final = msgspec.json.Decoder(_Catalog)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _tag_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
