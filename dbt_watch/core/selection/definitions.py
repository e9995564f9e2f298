"""
YAML selectors, as dbt writes them into the manifest.

Source: https://docs.getdbt.com/reference/node-selection/yaml-selectors. dbt has turned most strings into mappings by then, but
leaves those within `exclude` as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dbt_watch.core.selection.parser import check_criterion, default_method, parse_criterion
from dbt_watch.core.selection.spec import (
    UNLIMITED,
    Criterion,
    Group,
    IndirectSelection,
    Operator,
    Specification,
)
from dbt_watch.exceptions import SelectionError

_GROUPS = {"union": Operator.UNION, "intersection": Operator.INTERSECTION}


class Definitions:
    """
    The YAML selectors of a manifest.

    :param selectors: the section `selectors` of the manifest: by name, each with its `definition`
    :param indirect: which tests come along where a definition does not say it
    :param inherit: whether a reference to another selector stands for that one's definition, as before dbt 1.12; since
        then it is a method like the others, and stands for that one's nodes
    :ivar names: the names of all selectors
    """

    def __init__(self, selectors: Mapping[str, Any], *, indirect: IndirectSelection, inherit: bool) -> None:
        self.names = selectors.keys()
        self.indirect = indirect
        self.inherit = inherit
        self._selectors = selectors

    @property
    def default(self) -> str | None:
        """The name of the selector that holds when nothing is asked for, if there is one."""
        for name, selector in self._selectors.items():
            if isinstance(selector, Mapping) and selector.get("default") is True:
                return name
        return None

    def specification(self, name: str, *, argument: str = "selector") -> Specification:
        """
        Read the definition of a selector.

        :raises SelectionError: when there is no such selector, or it is not what dbt's documentation allows
        """
        return _Reader(self, name, argument).read(self.definition(name, argument=argument))

    def definition(self, name: str, *, argument: str = "selector") -> Any:
        """
        Return the definition of a selector as it is written.

        :raises SelectionError: when there is no such selector
        """
        selector = self._selectors.get(name)
        if selector is None:
            known = ", ".join(sorted(self._selectors)) or "there is none"
            raise SelectionError(
                argument,
                name,
                f"the name of a YAML selector in the manifest ({known})",
                known=self._selectors,
            )
        return selector.get("definition") if isinstance(selector, Mapping) else None


class _Reader:
    """Reads the definition of one selector; `seen` are those whose definitions led here."""

    def __init__(
        self, definitions: Definitions, name: str, argument: str, seen: tuple[str, ...] = ()
    ) -> None:
        self._definitions = definitions
        self._name = name
        self._argument = argument
        self._seen = (*seen, name)

    def read(self, definition: Any) -> Specification:
        if isinstance(definition, str):
            return parse_criterion(definition, argument=self._argument, indirect=self._definitions.indirect)
        if not isinstance(definition, Mapping):
            raise self._refuse(
                definition, "text, or a mapping with `method` and `value`, `union` or `intersection`"
            )
        for key, operator in _GROUPS.items():
            if key in definition:
                return self._group(operator, definition[key])
        if definition.get("method") == "selector" and self._definitions.inherit:
            return self._inherited(definition.get("value"))
        return self._criterion(definition)

    def _group(self, operator: Operator, parts: Any) -> Specification:
        included: list[Specification] = []
        excluded: Specification | None = None
        for part in self._list(parts):
            # An `exclude` here is the whole group's, and dbt then ignores a method and a value beside it.
            if isinstance(part, Mapping) and "exclude" in part:
                if excluded is not None:
                    raise self._refuse(parts, f"one `exclude` in a {operator.value}")
                excluded = self._exclusion(part["exclude"])
            else:
                included.append(self.read(part))
        return _without(Group(operator, tuple(included)), excluded)

    def _criterion(self, definition: Mapping[str, Any]) -> Specification:
        if len(definition) == 1:
            [(method, value)] = definition.items()
            definition = {"method": method, "value": value}
        if "value" not in definition:
            raise self._refuse(definition, "a mapping with `method` and `value`")
        value = definition["value"]
        if not isinstance(value, str | bool | int | float):
            raise self._refuse(value, "one value, such as text")
        method, *arguments = str(definition.get("method") or default_method(str(value))).split(".")
        criterion = Criterion(
            text=f"{method}:{value}",
            method=method,
            arguments=tuple(arguments),
            value=value,
            parents=self._depth(definition, "parents"),
            children=self._depth(definition, "children"),
            childrens_parents=bool(definition.get("childrens_parents")),
            indirect=self._indirect(definition),
        )
        check_criterion(criterion, argument=self._argument)
        excluded = self._exclusion(definition["exclude"]) if "exclude" in definition else None
        return _without(criterion, excluded)

    def _inherited(self, name: Any) -> Specification:
        if name in self._seen:
            circle = " -> ".join([*self._seen, str(name)])
            raise self._refuse(name, f"YAML selectors without circular references ({circle})")
        inherited = self._definitions.definition(str(name), argument=self._argument)
        return _Reader(self._definitions, str(name), self._argument, self._seen).read(inherited)

    def _exclusion(self, parts: Any) -> Specification | None:
        excluded = tuple(self.read(part) for part in self._list(parts))
        return Group(Operator.UNION, excluded) if excluded else None

    def _depth(self, definition: Mapping[str, Any], key: str) -> int | None:
        if not definition.get(key):
            return None
        depth = definition.get(f"{key}_depth")
        if not depth:
            return UNLIMITED
        try:
            return int(depth)
        except (TypeError, ValueError):
            raise self._refuse(depth, f"a number of generations as `{key}_depth`") from None

    def _indirect(self, definition: Mapping[str, Any]) -> IndirectSelection:
        value = definition.get("indirect_selection")
        if value is None:
            return self._definitions.indirect
        try:
            return IndirectSelection(value)
        except ValueError:
            known = [mode.value for mode in IndirectSelection]
            raise self._refuse(value, f"one of {', '.join(known)} as `indirect_selection`", known) from None

    def _list(self, parts: Any) -> list[Any]:
        if not isinstance(parts, list):
            raise self._refuse(parts, "a list of definitions")
        return parts

    def _refuse(self, value: Any, expected: str, known: Iterable[str] = ()) -> SelectionError:
        return SelectionError(
            self._argument, value, f"{expected}, in the YAML selector {self._name!r}", known=known
        )


def _without(included: Specification, excluded: Specification | None) -> Specification:
    return included if excluded is None else Group(Operator.DIFFERENCE, (included, excluded))
