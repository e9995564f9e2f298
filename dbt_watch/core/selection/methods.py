"""
The methods of dbt's node selection: what `tag:`, `path:`, `config.materialized:` and the others find.

Source: https://docs.getdbt.com/reference/node-selection/methods. `evaluator` calls `METHODS`; `UNKNOWABLE` are those that need
the state of an earlier run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any, NamedTuple

from dbt_watch.core.graph import Graph
from dbt_watch.core.selection.index import Ids, Index, QualifiedName, index_of
from dbt_watch.core.selection.spec import Criterion
from dbt_watch.exceptions import SelectionError

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
    index: Index
    criterion: Criterion
    argument: str
    value: str

    def refuse(self, expected: str, known: Iterable[str] = ()) -> SelectionError:
        return SelectionError(self.argument, self.value, f"{expected}, in {self.criterion.text!r}", known=known)


Method = Callable[[_Query], Iterable[str]]


def find(graph: Graph, criterion: Criterion, *, argument: str) -> set[str]:
    """
    Give the nodes that a criterion names itself, without its operators.

    :param argument: what to call it in messages
    :raises SelectionError: when its value is none that its method takes
    """
    value = criterion.value
    if criterion.method == "config":
        return set(_config(graph, criterion))
    if not isinstance(value, str):
        raise SelectionError(argument, value, f"text as the value of `{criterion.method}`")
    return set(METHODS[criterion.method](_Query(graph, index_of(graph), criterion, argument, value)))


def _fqn(query: _Query) -> Iterable[str]:
    if query.value == "*":
        return [name.unique_id for name in query.index.qualified_names]
    is_match = _wildcard_fqn if set("*?[]") & set(query.value) else _plain_fqn
    return is_match(query.index.qualified_names, query.value)


def _plain_fqn(names: Iterable[QualifiedName], value: str) -> list[str]:
    folder = f"{value}."
    # Of a versioned model the last two segments alone decide, joined either way.
    versioned = "_".join(value.split(".")[-2:])
    return [
        name.unique_id
        for name in names
        if value in (name.leaf, name.full, name.unscoped)
        or name.full.startswith(folder)
        or name.unscoped.startswith(folder)
        or name.underscored == versioned
    ]


def _wildcard_fqn(names: Iterable[QualifiedName], value: str) -> list[str]:
    matches = _pattern(value)
    dots = value.count(".")
    versioned = "_".join(value.split(".")[-2:])
    return [
        name.unique_id
        for name in names
        if (name.full.count(".") >= dots and matches(name.full))
        or (name.unscoped.count(".") >= dots and matches(name.unscoped))
        or (not dots and matches(name.leaf))
        or value == name.leaf
        or name.underscored == versioned
    ]


def _path(query: _Query) -> Iterable[str]:
    if query.value.startswith("/") or not query.value:
        raise query.refuse("a path relative to the project's directory")
    found = query.index.files.glob(query.value)
    inside: dict[str, bool] = {"": "" in found}

    def is_inside(path: str) -> bool:
        if path not in inside:
            inside[path] = path in found or is_inside(path.rpartition("/")[0])
        return inside[path]

    for path, ids in query.index.paths.items():
        if is_inside(path):
            yield from ids
    for path, ids in query.index.patch_paths.items():
        if path in found:
            yield from ids


def _file(query: _Query) -> Iterable[str]:
    matches = _pattern(query.value)
    for path, ids in query.index.paths.items():
        name = path.rpartition("/")[2]
        stem, _, suffix = name.rpartition(".")
        if matches(name) or matches(stem if stem and suffix else name):
            yield from ids


def _package(query: _Query) -> Iterable[str]:
    project = query.graph.project_name
    value = project if query.value == "this" and project else query.value
    return _matching(query.index.packages, value)


def _source(query: _Query) -> Iterable[str]:
    parts = query.value.split(".")
    if len(parts) > 3:  # noqa: PLR2004  (the three parts of the message)
        raise query.refuse("`source`, `source.table` or `package.source.table`")
    package, source, table = ("*", parts[0], "*") if len(parts) == 1 else ("*", "*", *parts)[-3:]
    in_package, in_source, is_table = _pattern(package), _pattern(source), _pattern(table)
    for unique_id in query.index.types.get("source", ()):
        node = query.graph.nodes[unique_id]
        if in_package(node.package_name) and in_source(node.source_name or "") and is_table(node.name):
            yield unique_id


def _by_name(resource_type: str) -> Method:
    def method(query: _Query) -> Iterable[str]:
        package, _, name = query.value.rpartition(".")
        if "." in package:
            raise query.refuse(f"`{resource_type}` or `package.{resource_type}`, one dot at most")
        in_package, is_name = _pattern(package if "." in query.value else "*"), _pattern(name)
        for unique_id in query.index.types.get(resource_type, ()):
            node = query.graph.nodes[unique_id]
            if in_package(node.package_name) and is_name(node.name):
                yield unique_id

    return method


def _resource_type(query: _Query) -> Iterable[str]:
    if query.value not in RESOURCE_TYPES:
        raise query.refuse("a resource type of dbt", known=RESOURCE_TYPES)
    return query.index.types.get(query.value, ())


def _test_type(query: _Query) -> Iterable[str]:
    if query.value not in _TEST_KINDS:
        raise query.refuse("generic, singular, unit or data", known=_TEST_KINDS)
    for kind in _TEST_KINDS[query.value]:
        yield from query.index.test_kinds.get(kind, ())


def _version(query: _Query) -> Iterable[str]:
    if query.value not in _VERSION_STATUSES:
        raise query.refuse("latest, prerelease, old or none", known=_VERSION_STATUSES)
    return query.index.version_statuses.get(query.value, ())


def _config(graph: Graph, criterion: Criterion) -> Iterable[str]:
    for index, ids in index_of(graph).configs.items():
        if _has(graph.config_at(index), criterion.arguments, criterion.value):
            yield from ids


def _has(config: Any, keys: Sequence[str], wanted: str | bool | float) -> bool:
    value = config
    for key in keys:
        # dbt looks for an attribute first, so a key of this name is out of its reach
        if not isinstance(value, dict) or key not in value or hasattr(dict, key):
            return False
        value = value[key]
    values = value if isinstance(value, list) else [value]
    text = str(wanted).lower()
    if keys == ("severity",):
        return any(isinstance(one, str) and one.lower() == text for one in values)
    if wanted in values:
        return True
    return (text == "true" and True in values) or (text == "false" and False in values)


def _indexed(ids: Callable[[Index], Ids]) -> Method:
    return lambda query: _matching(ids(query.index), query.value)


def _matching(ids: Ids, pattern: str) -> Iterable[str]:
    matches = _pattern(pattern)
    for key, some in ids.items():
        if matches(key):
            yield from some


def _pattern(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


METHODS: Mapping[str, Method] = {
    "access": lambda query: query.index.access.get(query.value, ()),
    "config": lambda query: _config(query.graph, query.criterion),
    "exposure": _by_name("exposure"),
    "file": _file,
    "fqn": _fqn,
    "group": _indexed(lambda index: index.groups),
    "metric": _by_name("metric"),
    "package": _package,
    "path": _path,
    "resource_type": _resource_type,
    "saved_query": _by_name("saved_query"),
    "semantic_model": _by_name("semantic_model"),
    "source": _source,
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
