"""Selections to try on a graph: mostly of words that occur in it, bent a little, in every shape that dbt's grammar has."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from dbt_watch.core.selection.methods import METHODS
from dbt_watch.core.selection.state import METHODS as METHODS_OF_STATE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbt_watch.core.manifest.graph import Graph

MODES = ["eager", "cautious", "buildable", "empty"]
CONFIGS = {
    "config.materialized": ["table", "view", "ephemeral", "incremental", "test", "seed", "Table"],
    "config.severity": ["warn", "WARN", "error", "ERROR", "Warn"],
    "config.tags": ["nightly", "pii", "night*"],
    "config.enabled": ["true", "false", "True"],
    "config.group": ["finance", "web"],
    "config.access": ["private", "public"],
    "config.meta.owner": ["ann", "bob", "a*"],
    "config.meta.level": ["1", "2"],
    "config.meta.certified": ["true", "false", "TRUE", "no"],
    "config.meta.topics": ["money", "people", "true"],
    "config.meta.sla.strict": ["true", "false"],
    "config.meta.sla.hours": ["24", "12"],
    "config.meta.nothing.there": ["true"],
    "config.meta": ["ann"],
    "config.docs.show": ["true"],
    "config": ["table"],
}
PATHS = [
    "models",
    "models/",
    "./models/marts",
    "models/marts/*",
    "models/*/*.sql",
    "models/**",
    "models/**/*.yml",
    "**/web",
    "**",
    "models/only_here",
    "models/staging/base.sql",
    "seeds/*.csv",
    "tests",
    "snapshots/*",
    "models/[sm]*",
    "models/marts/??ders.sql",
    "models/../seeds",
    "dbt_packages/toolkit/models",
    "m*",
]
BROKEN = [
    "state:modified",
    "result:error",
    "source_status:fresher",
    "tags:x",
    "source:a.b.c.d",
    "metric:a.b.c",
]
BROKEN += [
    "test_type:bogus",
    "version:newest",
    "resource_type:modle",
    "@orders+",
    "access.x:y:z",
    "exposure:a.b.c",
]


def requests(graph: Graph) -> st.SearchStrategy[dict]:
    """Return what `select_nodes` can be asked, with the YAML selectors that hold."""
    return st.booleans().flatmap(lambda with_yaml: _requests(graph, with_yaml=with_yaml))


@st.composite
def _requests(draw: st.DrawFn, graph: Graph, *, with_yaml: bool) -> dict:
    # Made in here: as an argument the strategy would be part of each example's description, megabytes of it.
    selectors = draw(definitions(graph)) if with_yaml else None
    names = list(graph.facts.selectors) if selectors is None else [one["name"] for one in selectors]
    by_name = st.sampled_from([*names * 5, "no_such_selector"])
    if draw(st.integers(0, 5)) < (1 if selectors is None else 4):
        select, exclude, selector = None, None, draw(by_name)
    else:
        texts = _texts(graph, tuple(names))
        select, exclude, selector = (
            draw(st.one_of(texts, texts, texts, st.none())),
            draw(st.none() | texts),
            None,
        )
        if draw(st.integers(0, 9)) == 9:
            select = [*(select or ()), draw(st.sampled_from(BROKEN))]
    command = draw(st.sampled_from(["ls", "build"]))
    kinds = ["model", "test", "seed", "snapshot", "unit_test", "exposure", "saved_query", "function"]
    if command == "ls":
        kinds += ["source", "metric", "semantic_model", "analysis"]
    few = st.just([]) | st.lists(st.sampled_from(kinds), max_size=3, unique=True)
    return {
        "command": command,
        "select": select,
        "exclude": exclude,
        "selector": selector,
        "selectors": selectors,
        "resource_types": draw(few),
        "exclude_resource_types": draw(few),
        "indirect_selection": draw(st.sampled_from(MODES)),
    }


@lru_cache(maxsize=64)
def _texts(graph: Graph, selectors: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    one = st.one_of(*[criteria(graph)] * 5, _references(selectors))
    intersection = st.one_of(one, one, st.lists(one, min_size=2, max_size=3).map(",".join))
    union = st.lists(intersection, min_size=1, max_size=3)
    # We refuse a text without a word, in which dbt finds nothing. Mapped, not filtered: hypothesis describes at length
    # what it filters.
    return (union | union.map(lambda words: [" ".join(words)])).map(
        lambda texts: [text if text.strip() else "no_such_node" for text in texts]
    )


def _references(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    words = st.sampled_from([*names, *names, *names, *names, "ma*", "*d_*", "no_such_selector"])
    return st.builds(_whole, _in_front(), words.map("selector:{}".format), _behind())


@lru_cache(maxsize=4)
def criteria(graph: Graph) -> st.SearchStrategy[str]:
    """Return single criteria as text."""
    bodies = st.one_of(_names(graph), _versions(graph), _with_method(graph), st.sampled_from(PATHS))
    whole = st.builds(_whole, _in_front(), bodies, _behind())
    return st.one_of(*[whole] * 15, st.just(""))


@lru_cache
def _in_front() -> st.SearchStrategy[str]:
    return st.sampled_from(["", "", "", "", "+", "1+", "2+", "0+", "@", "@+"])


@lru_cache
def _behind() -> st.SearchStrategy[str]:
    return st.sampled_from(["", "", "", "", "+", "+1", "+2", "+0"])


def _whole(front: str, body: str, behind: str) -> str:
    text = f"{front}{body}{behind}"
    contradicts_itself = text.startswith("@") and "+" in text[2:]
    return body if contradicts_itself else text


@lru_cache(maxsize=4)
def _names(graph: Graph) -> st.SearchStrategy[str]:
    names = set()
    for node in graph.nodes.values():
        names |= {
            node.name,
            ".".join(node.fqn),
            ".".join(node.fqn[1:]),
            ".".join(node.fqn[:2]),
            node.unique_id,
        }
        names |= {".".join(node.fqn[:-1]), node.path.rpartition("/")[2], node.path}
    return _bent(sorted(name for name in names if name))


@lru_cache(maxsize=4)
def _versions(graph: Graph) -> st.SearchStrategy[str]:
    shapes = ("{0}.v{1}", "{0}_v{1}", "anything.{0}.v{1}", "{2}.{0}.v{1}", "{2}.{0}", "anything.{0}_v{1}")
    versioned = [node for node in graph.nodes.values() if node.version and node.resource_type == "model"]
    return _bent(
        [shape.format(node.name, node.version, node.package_name) for node in versioned for shape in shapes]
    )


@lru_cache(maxsize=4)
def _values(graph: Graph) -> dict[str, list[str]]:
    nodes = graph.nodes.values()
    own = {
        kind: [node for node in nodes if node.resource_type == kind]
        for kind in {n.resource_type for n in nodes}
    }
    values = {
        "tag": sorted({tag for node in nodes for tag in node.tags}),
        "path": [*PATHS, *sorted({node.path for node in nodes})],
        "file": [
            *sorted({node.path.rpartition("/")[2] for node in nodes}),
            "orders",
            "history",
            "seman*.yml",
        ],
        "package": ["shop", "toolkit", "this"],
        "source": [
            "web",
            "web.events",
            "shop.web.events",
            "toolkit.web.log",
            "erp.events",
            "toolkit.web",
            "*.*.events",
        ],
        "resource_type": [*own, "analysis", "macro"],
        "test_type": ["generic", "singular", "unit", "data", "schema"],
        "test_name": ["unique", "not_null", "relationships", "accepted_values", "orders_are_counted"],
        "group": ["finance", "web"],
        "access": ["private", "protected", "public"],
        "version": ["latest", "prerelease", "old", "none"],
        "fqn": [*sorted({".".join(node.fqn) for node in nodes} | {node.name for node in nodes}), "*"],
    }
    for kind in ("exposure", "metric", "semantic_model", "saved_query", "unit_test"):
        some = own.get(kind, [])
        values[kind] = (
            [node.name for node in some] + [f"{node.package_name}.{node.name}" for node in some] + ["none"]
        )
    # What compares with an earlier run is compared with dbt in `test_state_against_dbt`, or refused.
    assert {*values, "config"} == set(METHODS) - METHODS_OF_STATE - {"source_status"}
    return values


@lru_cache(maxsize=4)
def _with_method(graph: Graph) -> st.SearchStrategy[str]:
    fixed = {"resource_type", "test_type", "version"}
    plain = [
        (st.sampled_from(values) if method in fixed else _bent(values)).map(f"{method}:{{}}".format)
        for method, values in _values(graph).items()
    ]
    return st.one_of(*plain, _config().map("{0[0]}:{0[1]}".format))


@lru_cache
def _config() -> st.SearchStrategy[tuple[str, str]]:
    return st.sampled_from(sorted(CONFIGS)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(CONFIGS[name]))
    )


@st.composite
def _bent_text(draw: st.DrawFn, text: str) -> str:
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, len(text)))
    return text[:start] + draw(st.sampled_from(["*", "?", "[a-z]", "[!x]*", "", "*."])) + text[end:]


def _bent(texts: Iterable[str]) -> st.SearchStrategy[str]:
    """Return the texts, now and then with a wildcard or a gap in them."""
    whole = st.sampled_from(list(texts))
    bent = whole.flatmap(_bent_text).filter(
        lambda text: text.strip("*/.") and not text.startswith(("/", "+", "@"))
    )
    # in a path, older versions of pathlib refuse these and newer ones do not
    bent = bent.filter(lambda text: all(part == "**" or "**" not in part for part in text.split("/")))
    return st.one_of(whole, whole, whole, bent)


@st.composite
def definitions(draw: st.DrawFn, graph: Graph) -> list[dict]:
    """Return YAML selectors, as a `selectors.yml` has them."""
    selectors: list[dict] = []
    for number in range(draw(st.integers(1, 3))):
        earlier = tuple(one["name"] for one in selectors)
        definition = draw(_definition(graph, earlier, 2))
        selectors.append({"name": f"made_{number}", "definition": definition})
    if draw(st.booleans()):
        draw(st.sampled_from(selectors))["default"] = True
    return selectors


@lru_cache(maxsize=64)
def _definition(graph: Graph, earlier: tuple[str, ...], depth: int) -> st.SearchStrategy[object]:
    leaves = _leaf_definitions(graph)
    if earlier:
        leaves |= st.sampled_from(earlier).map(lambda name: {"method": "selector", "value": name})
    if not depth:
        return leaves
    inner = _definition(graph, earlier, depth - 1)
    exclusions = st.lists(inner, min_size=1, max_size=2).map(lambda some: [{"exclude": some}])
    parts = st.builds(
        lambda included, excluded: included + excluded,
        st.lists(inner, min_size=1, max_size=3),
        st.just([]) | exclusions,
    )
    return st.one_of(
        leaves,
        parts.map(lambda some: {"union": some}),
        parts.map(lambda some: {"intersection": some}),
        st.builds(
            lambda one, some: {**one, "exclude": some},
            _mappings(graph),
            st.lists(inner, min_size=1, max_size=2),
        ),
    )


@lru_cache(maxsize=4)
def _leaf_definitions(graph: Graph) -> st.SearchStrategy[object]:
    texts = criteria(graph).filter(bool)
    return st.one_of(texts, _pairs(graph).map(lambda pair: {pair[0]: pair[1]}), _mappings(graph))


@lru_cache(maxsize=4)
def _pairs(graph: Graph) -> st.SearchStrategy[tuple[str, object]]:
    values = _values(graph)
    plain = st.sampled_from(sorted(values)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(values[name]))
    )
    typed = st.sampled_from(
        [
            ("config.meta.certified", True),
            ("config.meta.level", 1),
            ("config.meta.sla.strict", False),
            ("config.enabled", True),
        ]
    )
    return st.one_of(plain, plain, _config(), typed)


@st.composite
def _mappings(draw: st.DrawFn, graph: Graph) -> dict:
    method, value = draw(_pairs(graph))
    definition = {"method": method, "value": value}
    if draw(st.booleans()):
        definition["parents"] = draw(st.booleans())
        if draw(st.booleans()):
            definition["parents_depth"] = draw(st.integers(0, 2))
    relatives = draw(
        st.sampled_from(
            [{}, {}, {"children": True}, {"children": True, "children_depth": 1}, {"childrens_parents": True}]
        )
    )
    definition.update(relatives)
    if draw(st.booleans()):
        definition["indirect_selection"] = draw(st.sampled_from(MODES))
    return json.loads(json.dumps(definition))
