"""
The parts of a manifest.json that become a `Graph`, and how.

Only what is named here is decoded; the rest, nine tenths of a large manifest, is skipped. `core.manifest.load` calls it.
Format: https://schemas.getdbt.com/dbt/manifest/v12.json, which dbt 1.8 and later and Fusion write; older ones among them lack
some sections.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.core.manifest.graph import Facts, Graph, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA_VERSION = 12
"""The version of the format that is read."""

Text = str | None


class Metadata(msgspec.Struct, frozen=True):
    """The `metadata` of a manifest."""

    dbt_schema_version: str = ""
    dbt_version: str = ""
    project_name: Text = None
    adapter_type: Text = None

    @property
    def schema_version(self) -> int | None:
        """The number in the address of the schema, or None when this is no manifest."""
        match = _SCHEMA.search(self.dbt_schema_version)
        return int(match[1]) if match else None


class Heading(msgspec.Struct, frozen=True):
    """The metadata alone, to find out what kind of file it is."""

    metadata: Metadata | None = None


class _DependsOn(msgspec.Struct, frozen=True, gc=False):
    nodes: tuple[str, ...] | None = None


class _TestMetadata(msgspec.Struct, frozen=True, gc=False):
    name: str = ""


class _Config(msgspec.Struct, frozen=True, gc=False):
    enabled: bool | None = None
    materialized: Text = None
    group: Text = None
    tags: str | tuple[str, ...] | None = None
    freshness: msgspec.Raw = msgspec.Raw(b"null")


class _Age(msgspec.Struct, frozen=True, gc=False):
    count: int | None = None
    period: Text = None


class _Freshness(msgspec.Struct, frozen=True, gc=False):
    warn_after: _Age | None = None
    error_after: _Age | None = None


class _Meta(msgspec.Struct, frozen=True):
    dbt_watch: Any = None


class _Holder(msgspec.Struct, frozen=True):
    meta: _Meta | None = None


class _Resource(msgspec.Struct, frozen=True, gc=False):
    unique_id: str
    name: str
    resource_type: str
    package_name: str
    original_file_path: str
    fqn: tuple[str, ...] | None = None
    patch_path: Text = None
    tags: str | tuple[str, ...] | None = None
    depends_on: _DependsOn | None = None
    config: msgspec.Raw = msgspec.Raw(b"{}")
    meta: msgspec.Raw = msgspec.Raw(b"{}")
    version: str | int | float | None = None
    latest_version: str | int | float | None = None
    description: Text = None
    access: Text = None
    attached_node: Text = None
    test_metadata: _TestMetadata | None = None
    source_name: Text = None
    raw_code: msgspec.Raw = msgspec.Raw(b"null")
    freshness: msgspec.Raw = msgspec.Raw(b"")
    relation_name: Text = None


class _File(msgspec.Struct, frozen=True, gc=False):
    package_name: str = ""
    original_file_path: str = ""
    patch_path: Text = None


_Resources = dict[str, _Resource]


class Manifest(msgspec.Struct, frozen=True):
    """The sections of a manifest.json that are read."""

    metadata: Metadata
    nodes: _Resources
    sources: _Resources
    exposures: _Resources | None = None
    metrics: _Resources | None = None
    semantic_models: _Resources | None = None
    saved_queries: _Resources | None = None
    unit_tests: _Resources | None = None
    functions: _Resources | None = None
    selectors: dict[str, Any] | None = None
    disabled: dict[str, list[_File] | None] | None = None
    macros: dict[str, _File] | None = None
    docs: dict[str, _File] | None = None

    def resources(self) -> Iterator[_Resource]:
        """Yield every resource of every section."""
        for section in (
            self.nodes,
            self.sources,
            self.exposures,
            self.metrics,
            self.semantic_models,
            self.saved_queries,
            self.unit_tests,
            self.functions,
        ):
            if section:
                yield from section.values()


def graph_of(manifest: Manifest) -> Graph:
    """
    Return the graph of a decoded manifest.

    :raises msgspec.ValidationError: when a configuration is not what dbt writes
    """
    configs = _Configs()
    nodes = [node for resource in manifest.resources() if (node := configs.node(resource)) is not None]
    project = manifest.metadata.project_name
    facts = Facts(
        dbt_version=manifest.metadata.dbt_version,
        project_name=project,
        disabled=tuple({*(manifest.disabled or ()), *configs.disabled}),
        selectors=manifest.selectors or {},
        other_files=tuple(sorted(set(_other_files(manifest, project)))),
        adapter_type=manifest.metadata.adapter_type,
    )
    return Graph(facts, nodes, list(configs.indexes))


class _Configs:
    """
    The configurations met so far, each decoded once.

    Thousands of nodes of a project share a few hundred configurations, a kilobyte each.
    """

    def __init__(self) -> None:
        self.indexes: dict[bytes, int] = {}
        self.disabled: list[str] = []
        self._decoded: list[_Config] = []

    def node(self, resource: _Resource) -> Node | None:
        """Return the node of a resource, or None when it is disabled."""
        raw = bytes(resource.config)
        index = self.indexes.setdefault(raw, len(self.indexes))
        if index == len(self._decoded):
            self._decoded.append(_CONFIG.decode(raw) or _Config())
        config = self._decoded[index]
        if config.enabled is False:
            self.disabled.append(resource.unique_id)
            return None
        kind = resource.resource_type
        return Node(
            unique_id=resource.unique_id,
            name=resource.name,
            resource_type=kind,
            package_name=resource.package_name,
            fqn=resource.fqn or (),
            path=_path(resource.original_file_path),
            patch_path=_patch_path(resource.patch_path),
            # dbt gives a unit test no tags of its own, only those of its configuration
            tags=_texts(config.tags if kind == "unit_test" else resource.tags),
            depends_on=(resource.depends_on.nodes if resource.depends_on else None) or (),
            materialized=config.materialized,
            version=None if resource.version is None else str(resource.version),
            version_status=_version_status(resource) if kind == "model" else None,
            description=resource.description or "",
            group=config.group,
            access=resource.access,
            attached_node=resource.attached_node,
            test_name=resource.test_metadata.name if resource.test_metadata else None,
            source_name=resource.source_name,
            is_empty=kind not in _NEVER_EMPTY and _is_blank(resource.raw_code),
            meta=_our_meta(raw, resource.meta),
            config_index=index,
            # dbt 1.9 and older have it at the source itself only
            has_freshness=kind == "source" and _has_freshness(resource.freshness or config.freshness),
            relation_name=resource.relation_name,
        )


_SCHEMA = re.compile(r"/manifest/v(\d+)\.json")
_CONFIG = msgspec.json.Decoder(_Config | None)
_FRESHNESS = msgspec.json.Decoder(_Freshness | None)
_NEVER_EMPTY = frozenset({"seed", "source", "function"})
_MAY_BE_BLANK = re.compile(rb'"(?:["\\\s]|[\x80-\xff])')


def _is_blank(code: msgspec.Raw) -> bool:
    # Most files are not blank, which their first character shows without decoding them.
    if not _MAY_BE_BLANK.match(memoryview(code)):
        return False
    text = msgspec.json.decode(code)
    return isinstance(text, str) and not text.strip()


def _has_freshness(policy: msgspec.Raw) -> bool:
    decoded = _FRESHNESS.decode(policy)
    ages = (decoded.warn_after, decoded.error_after) if decoded is not None else ()
    return any(age is not None and age.count is not None and age.period is not None for age in ages)


def _our_meta(config: bytes, meta: msgspec.Raw) -> dict[str, Any]:
    if b"dbt_watch" in config:
        holder = msgspec.json.decode(config, type=_Holder)
        if holder.meta is not None and holder.meta.dbt_watch is not None:
            return {"dbt_watch": holder.meta.dbt_watch}
    raw = bytes(meta)
    if b"dbt_watch" in raw:
        ours = msgspec.json.decode(raw, type=_Meta).dbt_watch
        if ours is not None:
            return {"dbt_watch": ours}
    return {}


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _path(text: str) -> str:
    """Return a path with slashes, also when dbt ran on Windows, and without a dot in front."""
    return text.replace("\\", "/").removeprefix("./")


def _patch_path(address: str | None) -> str | None:
    """Return the path in an address such as "shop://models/schema.yml"."""
    return _path(address.partition("://")[2]) or None if address else None


def _version_status(resource: _Resource) -> str:
    version, latest = resource.version, resource.latest_version
    if version is None:
        return "none"
    if version == latest:
        return "latest"
    # when it compares, dbt treats version 0, as a number, as no version
    if not version or not latest:
        return ""
    return "old" if _is_less(version, latest) else "prerelease" if _is_less(latest, version) else ""


def _is_less(left: str | float, right: str | float) -> bool:
    try:
        return float(left) < float(right)
    except ValueError:
        return str(left) < str(right)


def _other_files(manifest: Manifest, project: str | None) -> Iterator[str]:
    sections: tuple[Mapping[str, _File] | None, ...] = (manifest.macros, manifest.docs)
    files = [file for section in sections if section for file in section.values()]
    files += [file for versions in (manifest.disabled or {}).values() for file in versions or ()]
    for file in files:
        if file.package_name == project:
            yield _path(file.original_file_path)
            if (patch := _patch_path(file.patch_path)) is not None:
                yield patch
