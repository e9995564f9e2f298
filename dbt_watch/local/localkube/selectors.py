"""
Label and field selectors: the text of a query parameter to a test of an object.

The grammar is that of https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ and
.../field-selectors/; called by `api.objects`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from dbt_watch.local.localkube.errors import bad_request

Test = Callable[[Mapping[str, Any]], bool]

_KEY = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_VALUE = r"[A-Za-z0-9._-]*"
_COMPARISON = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*({_VALUE})$")
_MEMBERSHIP = re.compile(rf"^({_KEY})\s+(in|notin)\s*\(([^()]*)\)$")
_PRESENCE = re.compile(rf"^(!?)\s*({_KEY})$")
_OUTSIDE_BRACKETS = re.compile(r",(?![^(]*\))")


def label_test(selector: str) -> Test:
    """
    Return the test for a label selector; an empty one takes everything.

    :raises ApiError: 400, the selector cannot be parsed
    """
    tests = [_label_requirement(part.strip(), selector) for part in _parts(selector)]

    def test(item: Mapping[str, Any]) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(requirement(labels) for requirement in tests)

    return test


def field_test(selector: str, known: frozenset[str]) -> Test:
    """
    Return the test for a field selector.

    :param known: the fields that may be selected by, as dotted paths
    :raises ApiError: 400, not parsable or not one of the known fields
    """
    requirements = []
    for part in _parts(selector):
        match = re.match(r"^([^=!]+?)\s*(==|=|!=)\s*(.*)$", part.strip())
        if match is None:
            raise bad_request(
                f'invalid selector: "{selector}"; can\'t understand "{part}"',
            )
        path, operator, value = match.groups()
        if path not in known:
            raise bad_request(f"field label not supported: {path}")
        requirements.append((path.split("."), operator != "!=", value))

    def test(item: Mapping[str, Any]) -> bool:
        return all((_field(item, path) == value) is wanted for path, wanted, value in requirements)

    return test


def _parts(selector: str) -> list[str]:
    return [part for part in _OUTSIDE_BRACKETS.split(selector) if part.strip()]


def _label_requirement(part: str, selector: str) -> Callable[[Mapping[str, str]], bool]:
    if match := _COMPARISON.match(part):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _MEMBERSHIP.match(part):
        key, operator, text = match.groups()
        values = {value.strip() for value in text.split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _PRESENCE.match(part):
        absent, key = match.groups()
        return lambda labels: (key in labels) is not bool(absent)
    raise bad_request(f'unable to parse requirement: found "{part}" in "{selector}"')


def _field(item: Mapping[str, Any], path: list[str]) -> str:
    value: Any = item
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)
