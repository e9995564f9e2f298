"""
dbt's node selection, without dbt: which nodes of a graph a command would take.

`authoring.settings` and `dbt-watch ls` call `select_nodes`, and so does all that narrows a selection later. Inside, `parser` or
`definitions` make a `spec`, and `evaluator` finds its nodes with the `methods`, which look into an `index` of the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.core.selection.definitions import Definitions
from dbt_watch.core.selection.evaluator import Evaluator
from dbt_watch.core.selection.index import index_of
from dbt_watch.core.selection.parser import parse_arguments
from dbt_watch.core.selection.resource_types import asked_for, release
from dbt_watch.core.selection.spec import IndirectSelection, Written
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbt_watch.core.manifest.graph import Graph

__all__ = ["Written", "default_selector", "select_nodes"]

#: the first dbt whose `selector:` is a method like the others
_SELECTOR_METHOD = (1, 12)


def select_nodes(
    graph: Graph,
    *,
    select: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    selector: str | None = None,
    resource_types: Sequence[str] = (),
    exclude_resource_types: Sequence[str] = (),
    indirect_selection: str = "eager",
    buildable_only: bool = True,
    on_unmatched: Callable[[Written], object] = lambda _: None,
) -> frozenset[str]:
    """
    Return the unique_ids that dbt would select, ephemeral models included.

    :param graph: the project
    :param select: as `--select`: criteria separated by spaces, or a list of them; None for the default selector, or else
        everything
    :param exclude: as `--exclude`
    :param selector: the name of a YAML selector; then neither select nor exclude
    :param resource_types: as `--resource-type`, with "all" and "default"
    :param exclude_resource_types: as `--exclude-resource-type`
    :param indirect_selection: which tests come along: "eager", "cautious", "buildable" or "empty"
    :param buildable_only: True for what `dbt build` builds, False for what `dbt ls` lists
    :param on_unmatched: is told of each part of `select` and `exclude` that matches nothing, of which dbt warns
    :returns: the ids; none when nothing matches
    :raises SelectionError: when a part of the selection cannot be understood, or cannot be known while a DAG is parsed
    """
    indirect = _indirect(indirect_selection)
    types = asked_for(
        graph.facts.dbt_version,
        included=_texts("resource_types", resource_types) or (),
        excluded=_texts("exclude_resource_types", exclude_resource_types) or (),
        buildable_only=buildable_only,
    )

    index = index_of(graph)
    keep = frozenset().union(*(index.types.get(resource_type, ()) for resource_type in types))
    if buildable_only:
        keep -= index.empty  # a build passes over a file without code, though it can be listed
    definitions = Definitions(
        graph.facts.selectors, indirect=indirect, inherit=release(graph.facts.dbt_version) < _SELECTOR_METHOD
    )
    evaluator = Evaluator(graph, keep, definitions, on_unmatched)
    selects, excludes = _texts("select", select), _texts("exclude", exclude)
    if selector is not None and (selects or excludes):
        raise SelectionError(
            "selector", selector, "no select and no exclude beside it: dbt would ignore them"
        )
    name = selector if selector is not None or selects or excludes else definitions.default
    if name is not None:
        return frozenset(evaluator.select(definitions.specification(name), argument="selector"))
    return frozenset(evaluator.select(parse_arguments(selects, excludes, indirect), argument="select"))


def default_selector(graph: Graph) -> str | None:
    """Return the name of the YAML selector that holds when nothing is asked for, if there is one."""
    return Definitions(graph.facts.selectors, indirect=IndirectSelection.EAGER, inherit=False).default


def _indirect(value: str) -> IndirectSelection:
    try:
        return IndirectSelection(value)
    except ValueError:
        modes = [mode.value for mode in IndirectSelection]
        raise SelectionError("indirect_selection", value, f"one of {', '.join(modes)}", known=modes) from None


def _texts(argument: str, value: str | Sequence[str] | None) -> list[str] | None:
    """Return a list of text values that are not blank, or None when there are none."""
    if value is None:
        return None
    texts = [value] if isinstance(value, str) else list(value)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise SelectionError(argument, text, "text, or None for no restriction")
    return texts or None
