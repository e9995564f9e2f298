"""
The methods of dbt's node selection: what `tag:`, `path:`, `config.materialized:` and the others find.

Source: https://docs.getdbt.com/reference/node-selection/methods. `evaluator` and `near` call `find`; `parser`
checks a name against `METHODS`. Some of these need an earlier run (`state`), which a graph has only when dbt is about to run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dbt_watch.core.selection import state
from dbt_watch.core.selection.index import Ids, Index, QualifiedName, index_of
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Graph
    from dbt_watch.core.selection.spec import Criterion

#: all that dbt calls a resource type, whether or not it can be selected
RESOURCE_TYPES = frozenset(
    {
        "analysis",
        "doc",
        "exposure",
        "fixture",
        "function",
        "group",
        "macro",
        "metric",
        "model",
        "operation",
        "rpc",
        "saved_query",
        "seed",
        "semantic_model",
        "snapshot",
        "source",
        "sql_operation",
        "test",
        "unit_test",
    }
)
#: package, source, table
_SOURCE_PARTS = 3
_VERSION_STATUSES = ("latest", "prerelease", "old", "none")
#: the values of `test_type:`; the last two are older names
_TEST_KINDS: Mapping[str, tuple[str, ...]] = {
    "generic": ("generic",),
    "singular": ("singular",),
    "unit": ("unit",),
    "data": ("generic", "singular"),
    "schema": ("generic",),
}


class _Query(NamedTuple):
    """One criterion on its way to a method."""

    graph: Graph
    indexes: Index
    criterion: Criterion
    argument: str
    value: str

    def refuse(self, expected: str, known: Iterable[str] = ()) -> SelectionError:
        return SelectionError(
            self.argument, self.value, f"{expected}, in {self.criterion.text!r}", known=known
        )


Method = Callable[[_Query], Iterable[str]]


def find(graph: Graph, criterion: Criterion, *, argument: str) -> set[str]:
    """
    Return the nodes that a criterion names itself, without its operators.

    :param argument: what to call it in messages
    :raises SelectionError: when its value is none that its method takes
    """
    value = criterion.value
    if (reason := UNKNOWABLE.get(criterion.method)) is not None and graph.compared is None:
        raise SelectionError(argument, criterion.text, f"no `{criterion.method}:`, since {reason}")
    if criterion.method == "config":
        return set(_config(graph, criterion))
    if not isinstance(value, str):
        raise SelectionError(argument, value, f"text as the value of `{criterion.method}`")
    return set(METHODS[criterion.method](_Query(graph, index_of(graph), criterion, argument, value)))


def _fqn(query: _Query) -> Iterable[str]:
    names = query.indexes.qualified_names
    if query.value == "*":
        return [name[0] for name in names]
    # Of a versioned model the last two segments alone decide, joined either way.
    versioned = "_".join(query.value.split(".")[-2:]) or None
    matching = _wildcard_fqn if _has_wildcard(query.value) else _plain_fqn
    return matching(names, query.value, versioned)


def _has_wildcard(value: str) -> bool:
    return any(sign in value for sign in "*?[]")


def _plain_fqn(names: Iterable[QualifiedName], value: str, versioned: str | None) -> list[str]:
    folder = f"{value}."
    return [
        unique_id
        for unique_id, full, unscoped, leaf, underscored in names
        if value == leaf
        or full.startswith(folder)
        or unscoped.startswith(folder)
        or value in (unscoped, full)
        or underscored == versioned
    ]


def _wildcard_fqn(names: Iterable[QualifiedName], value: str, versioned: str | None) -> list[str]:
    matches = _pattern(value)
    dots = value.count(".")
    return [
        unique_id
        for unique_id, full, unscoped, leaf, underscored in names
        if (full.count(".") >= dots and matches(full))
        or (unscoped.count(".") >= dots and matches(unscoped))
        or (not dots and matches(leaf))
        or value == leaf
        or underscored == versioned
    ]


def _path(query: _Query) -> Iterable[str]:
    if query.value.startswith("/") or not query.value:
        raise query.refuse("a path relative to the project's directory")
    if any("**" in part and part != "**" for part in query.value.split("/")):
        raise query.refuse("`**` only by itself between slashes")  # as pathlib had it until Python 3.13
    found = query.indexes.files.glob(query.value)
    inside: dict[str, bool] = {"": "" in found}

    def is_inside(path: str) -> bool:
        if path not in inside:
            inside[path] = path in found or is_inside(path.rpartition("/")[0])
        return inside[path]

    for path, ids in query.indexes.paths.items():
        if is_inside(path):
            yield from ids
    for path, ids in query.indexes.patch_paths.items():
        if path in found:
            yield from ids


def _file(query: _Query) -> Iterable[str]:
    matches = _pattern(query.value)
    for path, ids in query.indexes.paths.items():
        name = path.rpartition("/")[2]
        stem, _, suffix = name.rpartition(".")
        if matches(name) or matches(stem if stem and suffix else name):
            yield from ids


def _package(query: _Query) -> Iterable[str]:
    project = query.graph.project_name
    value = project if query.value == "this" and project else query.value
    return _matching(query.indexes.packages, value)


def _source(query: _Query) -> Iterable[str]:
    parts = query.value.split(".")
    if len(parts) > _SOURCE_PARTS:
        raise query.refuse("`source`, `source.table` or `package.source.table`")
    package, source, table = ("*", parts[0], "*") if len(parts) == 1 else ("*", "*", *parts)[-3:]
    in_package, in_source, is_table = _pattern(package), _pattern(source), _pattern(table)
    for unique_id in query.indexes.types.get("source", ()):
        node = query.graph.nodes[unique_id]
        if in_package(node.package_name) and in_source(node.source_name or "") and is_table(node.name):
            yield unique_id


def _by_name(resource_type: str) -> Method:
    def method(query: _Query) -> Iterable[str]:
        package, _, name = query.value.rpartition(".")
        if "." in package:
            raise query.refuse(f"`{resource_type}` or `package.{resource_type}`, one dot at most")
        in_package, is_name = _pattern(package if "." in query.value else "*"), _pattern(name)
        for unique_id in query.indexes.types.get(resource_type, ()):
            node = query.graph.nodes[unique_id]
            if in_package(node.package_name) and is_name(node.name):
                yield unique_id

    return method


def _resource_type(query: _Query) -> Iterable[str]:
    if query.value not in RESOURCE_TYPES:
        raise query.refuse("a resource type of dbt", known=RESOURCE_TYPES)
    return query.indexes.types.get(query.value, ())


def _test_type(query: _Query) -> Iterable[str]:
    if query.value not in _TEST_KINDS:
        raise query.refuse("generic, singular, unit or data", known=_TEST_KINDS)
    for kind in _TEST_KINDS[query.value]:
        yield from query.indexes.test_kinds.get(kind, ())


def _version(query: _Query) -> Iterable[str]:
    if query.value not in _VERSION_STATUSES:
        raise query.refuse("latest, prerelease, old or none", known=_VERSION_STATUSES)
    return query.indexes.version_statuses.get(query.value, ())


def _config(graph: Graph, criterion: Criterion) -> Iterable[str]:
    # dbt looks for an attribute first, so a key with the name of one is out of its reach
    if not criterion.arguments or any(hasattr(dict, key) for key in criterion.arguments):
        return
    decoders = [_decoder(key) for key in criterion.arguments]
    for index, ids in index_of(graph).configs.items():
        value = graph.configs[index] if index >= 0 else b""
        for decoder in decoders:
            value = _member(decoder, value)
        if value and _has(msgspec.json.decode(value), criterion):
            yield from ids


def _decoder(key: str) -> msgspec.json.Decoder[Any]:
    """Return a decoder that reads one key of an object and skips the others: a project has thousands of configurations."""
    field = ("value", msgspec.Raw, msgspec.Raw(b""))
    return msgspec.json.Decoder(msgspec.defstruct("Member", [field], rename={"value": key}))


def _member(decoder: msgspec.json.Decoder[Any], value: bytes | msgspec.Raw) -> bytes | msgspec.Raw:
    """Return the JSON text of a key's value, empty when this is no object with that key."""
    try:
        return decoder.decode(value).value if value else b""
    except msgspec.ValidationError:
        return b""


def _has(value: Any, criterion: Criterion) -> bool:
    values = value if isinstance(value, list) else [value]
    wanted = criterion.value
    text = str(wanted).lower()
    if criterion.arguments == ("severity",):
        return any(isinstance(one, str) and one.lower() == text for one in values)
    if wanted in values:
        return True
    return (text == "true" and True in values) or (text == "false" and False in values)


def _compared(query: _Query) -> Iterable[str]:
    method = query.criterion.method
    value = ".".join([query.value, *query.criterion.arguments])
    compared = query.graph.compared
    found = compared.find(method, value, query.graph.nodes) if compared is not None else None
    if found is None:
        known = state.SOURCE_VALUES if method == "source_status" else state.VALUES
        raise query.refuse(f"`{method}:` and one of {', '.join(sorted(known))}", known=known)
    return found


def _indexed(ids: Callable[[Index], Ids]) -> Method:
    return lambda query: _matching(ids(query.indexes), query.value)


def _matching(ids: Ids, pattern: str) -> Iterable[str]:
    matches = _pattern(pattern)
    for key, some in ids.items():
        if matches(key):
            yield from some


def _pattern(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


METHODS: Mapping[str, Method] = {
    "access": lambda query: query.indexes.access.get(query.value, ()),
    "config": lambda query: _config(query.graph, query.criterion),
    "exposure": _by_name("exposure"),
    "file": _file,
    "fqn": _fqn,
    "group": _indexed(lambda index: index.groups),
    "metric": _by_name("metric"),
    "package": _package,
    "path": _path,
    "resource_type": _resource_type,
    "result": _compared,
    "saved_query": _by_name("saved_query"),
    "semantic_model": _by_name("semantic_model"),
    "source": _source,
    "source_status": _compared,
    "state": _compared,
    "tag": _indexed(lambda index: index.tags),
    "test_name": _indexed(lambda index: index.test_names),
    "test_type": _test_type,
    "unit_test": _by_name("unit_test"),
    "version": _version,
}

UNKNOWABLE: Mapping[str, str] = {
    "state": "what has changed since an earlier run is not known while a DAG is parsed",
    "result": "the results of an earlier run are not known while a DAG is parsed",
    "source_status": "the freshness of sources is not known while a DAG is parsed",
}
