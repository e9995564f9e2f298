"""
Reads selections as dbt's command line takes them: `tag:nightly,+orders @customers`.

`select_nodes` calls `parse_arguments`; `definitions` and `near` read single criteria. Grammar:
https://docs.getdbt.com/reference/node-selection/syntax. A space is a union, a comma an intersection.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dbt_watch.core.selection.methods import METHODS
from dbt_watch.core.selection.spec import (
    UNLIMITED,
    Criterion,
    Group,
    IndirectSelection,
    Operator,
    Specification,
    Written,
)
from dbt_watch.exceptions import SelectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: what dbt selects when it is not told what to select; `fqn:*` finds all but sources
EVERYTHING = ("fqn:*", "source:*", "exposure:*", "metric:*", "semantic_model:*")

_CRITERION = re.compile(
    r"""
    (?P<at>@)?
    (?:(?P<up>\d*)\+)?
    (?:(?P<method>[\w.]+):)?
    (?P<value>.*?)
    (?:\+(?P<down>\d*))?
    """,
    re.VERBOSE,
)
_CODE_FILES = (".sql", ".py", ".csv")


def parse_arguments(
    select: Sequence[str] | None, exclude: Sequence[str] | None, indirect: IndirectSelection
) -> Specification:
    """
    Read what --select and --exclude were given.

    :param select: None for everything
    :param exclude: None for nothing
    :raises SelectionError: when a part of them cannot be understood
    """
    included = _union("select", EVERYTHING if select is None else select, indirect)
    excluded = _union("exclude", exclude or (), indirect)
    return Group(Operator.DIFFERENCE, (included, excluded))


def parse_criterion(text: str, *, argument: str, indirect: IndirectSelection) -> Criterion:
    """
    Read one criterion, such as `2+tag:nightly`.

    :param argument: what to call it in messages
    :raises SelectionError: when it is not one
    """
    match = _CRITERION.fullmatch(text)
    if match is None:
        raise SelectionError(
            argument, text, "a selection on one line, its parts separated by spaces or commas"
        )
    value = match["value"]
    method, *arguments = (match["method"] or default_method(value)).split(".")
    criterion = Criterion(
        text=text,
        method=method,
        arguments=tuple(arguments),
        value=value,
        parents=None if match["up"] is None else int(match["up"] or UNLIMITED),
        children=None if match["down"] is None else int(match["down"] or UNLIMITED),
        childrens_parents=match["at"] is not None,
        indirect=indirect,
    )
    check_criterion(criterion, argument=argument)
    return criterion


def check_criterion(criterion: Criterion, *, argument: str) -> None:
    """
    Refuse what can have no answer.

    :raises SelectionError: for an unknown method, or contradictory operators
    """
    if criterion.method not in METHODS and criterion.method != "selector":
        raise SelectionError(
            argument,
            criterion.method,
            f"a method of dbt's node selection before the colon of {criterion.text!r}: "
            f"one of {', '.join(sorted(METHODS))}",
            known=METHODS,
        )
    if criterion.childrens_parents and criterion.children is not None:
        raise SelectionError(argument, criterion.text, "either `@` before or `+` after, not both")


def default_method(value: str) -> str:
    """Return the method that dbt takes for a value without one."""
    if "/" in value:
        return "path"
    return "file" if value.lower().endswith(_CODE_FILES) else "fqn"


def _union(argument: str, texts: Iterable[str], indirect: IndirectSelection) -> Group:
    parts = [
        Group(
            Operator.INTERSECTION,
            tuple(parse_criterion(part, argument=argument, indirect=indirect) for part in word.split(",")),
            indirect,
            None if texts is EVERYTHING else Written(argument, word),
        )
        for text in texts
        for word in text.split(" ")
    ]
    return Group(Operator.UNION, tuple(parts), indirect)
