"""
What has changed since an earlier run: the methods `state:`, `result:` and `source_status:` of dbt's node selection.

Two manifests are compared, as dbt compares them: what the project was when it was built last, and what it is now. `methods` calls `StateComparison.find`.
Source: https://docs.getdbt.com/reference/node-selection/methods#state, and `same_contents` of each kind of node in dbt-core 1.8 to
1.11; the differential tests hold this against dbt itself.
"""

from __future__ import annotations

import copy
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.exceptions import ArgumentError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

METHODS: Final = frozenset({"state", "result", "source_status"})
"""The methods that need an earlier run."""


class _Checksum(msgspec.Struct, frozen=True, gc=False):
    name: str = ""
    checksum: str = ""


class _Contract(msgspec.Struct, frozen=True, gc=False):
    enforced: bool = False
    checksum: str | None = None


class _Column(msgspec.Struct, frozen=True, gc=False):
    description: str | None = None


class _DependsOn(msgspec.Struct, frozen=True, gc=False):
    macros: tuple[str | None, ...] | None = None


class _PersistDocs(msgspec.Struct, frozen=True, gc=False):
    relation: Any = None
    columns: Any = None


class _Config(msgspec.Struct, frozen=True, gc=False):
    persist_docs: _PersistDocs | None = None


class _Resource(msgspec.Struct, frozen=True, gc=False):
    resource_type: str
    checksum: _Checksum | str | None = None
    raw_code: str | None = None
    fqn: tuple[str, ...] | None = None
    unrendered_config: dict[str, Any] | None = None
    config: _Config | None = None
    description: str | None = None
    columns: dict[str, _Column] | None = None
    contract: _Contract | None = None
    latest_version: Any = None
    access: str | None = None
    deprecation_date: str | None = None
    depends_on: _DependsOn | None = None
    test_metadata: Any = None
    # Of a source:
    database: str | None = None
    schema: str | None = None
    identifier: str | None = None
    quoting: Any = None
    freshness: Any = None
    loaded_at_field: str | None = None
    external: Any = None


class _Macro(msgspec.Struct, frozen=True, gc=False):
    macro_sql: str = ""
    depends_on: _DependsOn | None = None


# Of a kind that a build hardly ever has: what is not read in full is compared as a whole.
_Others = dict[str, dict[str, Any]]


class StateManifest(msgspec.Struct, frozen=True):
    """What is compared of a manifest.json."""

    nodes: dict[str, _Resource] = {}
    sources: dict[str, _Resource] = {}
    unit_tests: dict[str, _Resource] | None = None
    functions: dict[str, _Resource] | None = None
    macros: dict[str, _Macro] | None = None
    exposures: _Others | None = None
    metrics: _Others | None = None
    semantic_models: _Others | None = None
    saved_queries: _Others | None = None

    def find(self, unique_id: str) -> _Resource | dict[str, Any] | None:
        """Return a resource."""
        for section in (self.nodes, self.sources, self.unit_tests, self.functions):
            if section and unique_id in section:
                return section[unique_id]
        for others in (self.exposures, self.metrics, self.semantic_models, self.saved_queries):
            if others and unique_id in others:
                return {key: value for key, value in others[unique_id].items() if key not in _VOLATILE}
        return None


_VOLATILE: Final = frozenset({"created_at", "patch_path", "path", "original_file_path", "tags", "meta"})


def decode_state(content: bytes, *, location: str) -> StateManifest:
    """
    Read what is compared of a manifest.json.

    :param content: the JSON text
    :param location: where it comes from, for the message
    :raises ManifestError: when it is not one
    """
    try:
        return msgspec.json.decode(content, type=StateManifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ManifestError("state", location, f"a manifest.json of dbt ({error})") from error


class StateComparison:
    """
    The project as it is, beside what it was.

    :param now: its manifest
    :param before: the one of an earlier run
    :param results: the statuses of that run by unique_id
    :param since: which run that was, in words; empty when there was none
    :param knows_sources: whether it has left when the sources were loaded last; without it, all of them have newer data
    """

    def __init__(
        self,
        now: StateManifest,
        before: StateManifest | None,
        results: Mapping[str, str] | None = None,
        *,
        since: str = "",
        knows_sources: bool = False,
    ) -> None:
        self.knows_sources = knows_sources
        self._fresher: frozenset[str] | None = None
        self._now = now
        self._before = before or StateManifest()
        self._results = results or {}
        self.since = since

    def with_fresher(self, sources: Iterable[str]) -> StateComparison:
        """
        Return the same comparison, as it would be if just some sources had newer data than in the earlier run.

        :param sources: their unique_ids
        """
        supposed = copy.copy(self)
        supposed._fresher = frozenset(sources)  # noqa: SLF001 - its own
        return supposed

    def find(self, method: str, value: str, unique_ids: Iterable[str]) -> list[str] | None:
        """
        Return those of some nodes that a method finds; None when it does not take the value.

        Which sources have newer data is known only in the pod: without `with_fresher`, everything counts as newer.

        :param method: one of `METHODS`
        :param value: what stands behind its colon
        :param unique_ids: the nodes
        """
        if method == "result":
            return [unique_id for unique_id in unique_ids if self._results.get(unique_id) == value]
        if method == "source_status":
            fresher = self._fresher
            found = [one for one in unique_ids if fresher is None or one in fresher]
            return found if value in SOURCE_VALUES else None
        check = _CHECKS.get(value)
        return None if check is None else [one for one in unique_ids if check(self, one)]

    def _pair(self, unique_id: str) -> tuple[Any, Any]:
        return self._before.find(unique_id), self._now.find(unique_id)

    def is_new(self, unique_id: str) -> bool:
        """Return whether the earlier run did not know a node."""
        return self._before.find(unique_id) is None

    def is_modified(self, unique_id: str) -> bool:
        """Return whether anything about a node has changed that could change what it makes."""
        old, new = self._pair(unique_id)
        return not _same_contents(old, new) or self.has_other_macros(unique_id)

    def differs(self, aspect: Callable[[Any], object], unique_id: str) -> bool:
        """Return whether one aspect of a node has changed."""
        old, new = self._pair(unique_id)
        if not isinstance(new, _Resource):
            return False
        return not isinstance(old, _Resource) or not _same(aspect, old, new)

    def has_other_macros(self, unique_id: str) -> bool:
        """Return whether a macro has changed that a node uses, directly or through others."""
        new = self._now.find(unique_id)
        if not self._changed_macros or not isinstance(new, _Resource):
            return False
        macros = self._now.macros or {}
        open_ids, seen = list(_macros_of(new)), set[str]()
        while open_ids:
            macro = open_ids.pop()
            if macro in self._changed_macros:
                return True
            if macro not in seen and macro in macros:
                seen.add(macro)
                open_ids += _macros_of(macros[macro])
        return False

    @cached_property
    def _changed_macros(self) -> frozenset[str]:
        old, new = self._before.macros or {}, self._now.macros or {}
        both = {key for key in old.keys() & new.keys() if old[key].macro_sql == new[key].macro_sql}
        return frozenset((old.keys() | new.keys()) - both)


def _macros_of(resource: _Resource | _Macro) -> Iterable[str]:
    macros = resource.depends_on.macros if resource.depends_on is not None else None
    return filter(None, macros or ())


def _same_contents(old: Any, new: Any) -> bool:
    if not isinstance(new, _Resource):
        return bool(old == new)
    kind = new.resource_type
    if not isinstance(old, _Resource):
        return kind == "source" and old is None  # a source that is new is no change, for dbt
    return all(_same(aspect, old, new) for aspect in _aspects(new))


def _same(aspect: Callable[[_Resource], object], old: _Resource, new: _Resource) -> bool:
    if aspect is _descriptions:  # what was stored before counts for nothing
        old = msgspec.structs.replace(old, config=new.config)
    return aspect(old) == aspect(new)


def _aspects(resource: _Resource) -> Iterable[Callable[[_Resource], object]]:
    kind = resource.resource_type
    if kind == "source":
        return (_address, _fqn, _configured, _of_a_source)
    if kind == "unit_test":
        return (_sum,)
    if kind == "test" and resource.test_metadata:
        return (_configured, _fqn)
    shared = (_body, _configured, _descriptions, _fqn, _relation, _contract)
    return (*shared, _referred) if kind == "model" else shared


def _body(resource: _Resource) -> object:
    return _sum(resource) if resource.resource_type == "seed" else resource.raw_code


def _sum(resource: _Resource) -> object:
    return resource.checksum


def _configured(resource: _Resource) -> object:
    given = resource.unrendered_config or {}
    if resource.resource_type == "test":
        return {key: given[key] for key in _OF_A_TEST if key in given}
    return {key: value for key, value in given.items() if key not in _NO_CHANGE}


def _descriptions(resource: _Resource) -> object:
    persisted = resource.config.persist_docs if resource.config is not None else None
    if persisted is None:
        return None
    columns = resource.columns or {}
    return (
        resource.description if persisted.relation else None,
        {name: column.description for name, column in columns.items()} if persisted.columns else None,
    )


def _fqn(resource: _Resource) -> object:
    return resource.fqn


def _relation(resource: _Resource) -> object:
    given = resource.unrendered_config or {}
    return [given.get(key) for key in ("database", "schema", "alias")]


def _contract(resource: _Resource) -> object:
    contract = resource.contract
    is_kept = contract is not None and contract.enforced and resource.resource_type == "model"
    return contract if is_kept else None


def _referred(resource: _Resource) -> object:
    return resource.latest_version, resource.access, resource.deprecation_date


def _address(resource: _Resource) -> object:
    return resource.database, resource.schema, resource.identifier


def _of_a_source(resource: _Resource) -> object:
    return resource.quoting, resource.freshness, resource.loaded_at_field, resource.external


# What dbt leaves out of account in a configuration, and all that it looks at in that of a test.
_NO_CHANGE: Final = frozenset({"alias", "schema", "database", "tags", "group"})
_OF_A_TEST: Final = (
    "severity", "where", "limit", "fail_calc", "warn_if", "error_if", "store_failures", "store_failures_as",
)  # fmt: skip

_CHECKS: Final[Mapping[str, Callable[[StateComparison, str], bool]]] = {
    "new": StateComparison.is_new,
    "old": lambda compared, unique_id: not compared.is_new(unique_id),
    "modified": StateComparison.is_modified,
    "unmodified": lambda compared, unique_id: not compared.is_modified(unique_id),
    "modified.body": lambda compared, unique_id: compared.differs(_body, unique_id),
    "modified.configs": lambda compared, unique_id: compared.differs(_configured, unique_id),
    "modified.persisted_descriptions": lambda compared, unique_id: compared.differs(_descriptions, unique_id),
    "modified.relation": lambda compared, unique_id: compared.differs(_relation, unique_id),
    "modified.macros": StateComparison.has_other_macros,
    "modified.contract": lambda compared, unique_id: compared.differs(_contract, unique_id),
}
VALUES: Final = tuple(_CHECKS)
SOURCE_VALUES: Final = ("fresher",)


def needs_state(words: Iterable[str]) -> bool:
    """
    Return whether a selection compares with an earlier run.

    :param words: its words, as `core.command.criteria` returns them
    """
    return any(_COMPARES.match(part) for word in words for part in word.split(","))


def needs_sources(words: Iterable[str]) -> bool:
    """
    Return whether a selection asks which sources have newer data than in an earlier run.

    :param words: its words, as `core.command.criteria` returns them
    """
    return any(_OF_SOURCES.match(part) for word in words for part in word.split(","))


def check_sources(select: Iterable[str], exclude: Iterable[str], *, are_checked: bool) -> None:
    """
    Check that dbt can be asked which sources have newer data, where a selection needs that.

    :param select: the words of `select`
    :param exclude: those of `exclude`
    :param are_checked: whether sources are checked in front of the build
    :raises ArgumentError: when it cannot
    """
    if needs_sources(exclude):
        raise ArgumentError("exclude", " ".join(exclude), "`source_status:` in select only")
    for word in select:
        parts = word.split(",")
        if not needs_sources(parts):
            continue
        if not are_checked:
            raise ArgumentError(
                "select", word, 'freshness="before" of @dbt_k8s_project: sources are checked in the pod'
            )
        if any(needs_state([part]) and not needs_sources([part]) for part in parts):
            raise ArgumentError(
                "select", word, "no `state:` and no `result:` joined with `source_status:` by a comma"
            )


def takes_all_changes(select: Iterable[str], exclude: Iterable[str]) -> bool:
    """
    Return whether what is left of a project by a narrower selection is at least all that has changed in it.

    :param select: the words of `select`; none for everything
    :param exclude: those of `exclude`
    """
    words = tuple(select)
    return not tuple(exclude) and (not words or any(_ALL_CHANGES.fullmatch(word) for word in words))


def takes_all_fresher(select: Iterable[str], exclude: Iterable[str]) -> bool:
    """
    Return whether what is left of a project by a narrower selection is at least all that reads newer data.

    :param select: the words of `select`; none for everything
    :param exclude: those of `exclude`
    """
    words = tuple(select)
    return not tuple(exclude) and (not words or any(_ALL_FRESHER.fullmatch(word) for word in words))


_COMPARES: Final = re.compile(r"@?(\d*\+)?(state|result|source_status)(\.[\w.]+)?:")
_ALL_CHANGES: Final = re.compile(r"(\d*\+)?state:modified\+")
_OF_SOURCES: Final = re.compile(r"@?(\d*\+)?source_status(\.[\w.]+)?:")
_ALL_FRESHER: Final = re.compile(r"(\d*\+)?source_status:fresher\+")


def reduced(manifest: bytes, *, location: str) -> bytes:
    """
    Return as much of a manifest.json as `--defer` needs: what each relation is called.

    :param manifest: the JSON text
    :param location: where it comes from, for the message
    :raises ManifestError: when it is not one
    """
    try:
        whole = msgspec.json.decode(manifest)
        nodes = {
            unique_id: _named(node)
            for unique_id, node in whole["nodes"].items()
            if node["resource_type"] in _RELATIONS
        }
        metadata = {key: value for key, value in whole["metadata"].items() if key not in {"env", "vars"}}
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError("state", location, f"a manifest.json of dbt ({error})") from error
    sections: dict[str, Any] = {key: {} for key in _EMPTY}
    return msgspec.json.encode({"metadata": metadata, "nodes": nodes, **sections})


def _named(node: dict[str, Any]) -> dict[str, Any]:
    config = {key: node["config"][key] for key in ("enabled", "materialized") if key in node["config"]}
    kept = {key: node[key] for key in _KEPT if key in node}
    return {**kept, "config": config}


_RELATIONS: Final = frozenset({"model", "seed", "snapshot", "function"})
_KEPT: Final = (
    "database", "schema", "name", "resource_type", "package_name", "path", "original_file_path", "unique_id", "fqn", "alias",
    "checksum", "relation_name", "version", "latest_version", "access", "group",
)  # fmt: skip
_EMPTY: Final = (
    "sources", "macros", "docs", "exposures", "metrics", "groups", "selectors", "disabled", "parent_map", "child_map",
    "group_map", "saved_queries", "semantic_models", "unit_tests", "functions",
)  # fmt: skip
