"""
What a part of a selection that matches nothing may have been meant to say, for messages about it.

A hint, and no more: it looks at each criterion alone, and knows the methods that look for names. `authoring`, the producer and
`dbt-watch ls` ask.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from dbt_watch.core.labels import label_of
from dbt_watch.core.selection.index import index_of
from dbt_watch.core.selection.methods import find
from dbt_watch.core.selection.parser import parse_criterion
from dbt_watch.core.selection.spec import IndirectSelection, Written
from dbt_watch.exceptions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dbt_watch.core.manifest.graph import Graph

_OPERATORS: Final = re.compile(r"^@?(\d*\+)?|\+\d*$")


def complaint(graph: Graph, unmatched: Written) -> str:
    """Return the warning for what matches nothing, in dbt's words, with what is near."""
    text = (
        f"{unmatched.argument}: The selection criterion {unmatched.text!r} does not match any enabled nodes"
    )
    return text + did_you_mean(*alternatives(graph, unmatched.text))


def alternatives(graph: Graph, text: str) -> tuple[str, list[str]]:
    """
    Return the criterion that matches nothing, without graph operators, and what exists of its kind, written likewise.

    :param graph: the project
    :param text: one word of a selection, as the user wrote it
    """
    for part in text.split(","):
        criterion = parse_criterion(part, argument="select", indirect=IndirectSelection.EMPTY)
        if criterion.method in _NAMES and not find(graph, criterion, argument="select"):
            bare = _OPERATORS.sub("", part)
            front = f"{criterion.method}:" if bare.startswith(f"{criterion.method}:") else ""
            return bare, sorted({f"{front}{name}" for name in _NAMES[criterion.method](graph)})
    return text, []


def _nodes(graph: Graph) -> Iterable[str]:
    for node in graph.nodes.values():
        if node.resource_type != "source":
            yield from (node.name, label_of(node.unique_id), *node.fqn[:-1])


def _sources(graph: Graph) -> Iterable[str]:
    for node in graph.nodes.values():
        if node.source_name is not None:
            yield from (node.source_name, f"{node.source_name}.{node.name}")


def _paths(graph: Graph) -> Iterable[str]:
    for path in map(PurePosixPath, index_of(graph).paths):
        yield from (str(path), *(str(folder) for folder in path.parents[:-1]))


_NAMES: Final[Mapping[str, Callable[[Graph], Iterable[str]]]] = {
    "fqn": _nodes,
    "source": _sources,
    "path": _paths,
    "file": lambda graph: (PurePosixPath(path).name for path in index_of(graph).paths),
    "tag": lambda graph: index_of(graph).tags,
    "group": lambda graph: index_of(graph).groups,
    "package": lambda graph: index_of(graph).packages,
    "test_name": lambda graph: index_of(graph).test_names,
}
