"""
The settings of a node's task that a dbt project holds: `meta.dbt_watch` of the node.

    models:
      - name: orders
        config:
          meta:
            dbt_watch: {pool: warehouse, priority: 5, owner: finance}

`rendering` reads them while a DAG is parsed, `producers.single_node` for a build of the node alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Node


class NodeSettings(msgspec.Struct, frozen=True):
    """
    The settings of one node's task.

    :param pool: Airflow's pool of the task
    :param priority: its priority weight; the higher, the earlier
    :param owner: its owner
    :param image: the image for a build of this node alone
    :param resources: what the container of such a build asks for: `{"requests": {...}, "limits": {...}}`, in
        Kubernetes' units
    :param isolate: whether it always gets a pod of its own: True, or arguments of KubernetesPodOperator for that pod
    """

    pool: str | None = None
    priority: int | None = None
    owner: str | None = None
    image: str | None = None
    resources: Mapping[str, Mapping[str, str]] | None = None
    isolate: bool | Mapping[str, Any] = False


NO_SETTINGS: Final = NodeSettings()


def node_settings(node: Node) -> NodeSettings:
    """
    Read the settings of a node.

    :raises ArgumentError: naming the node, the key, the value and what was expected
    """
    if not node.meta:
        return NO_SETTINGS
    given = node.meta.get("dbt_watch")
    where = f"meta.dbt_watch of {node.unique_id}"
    if not isinstance(given, Mapping):
        raise ArgumentError(where, given, f"a mapping with any of {', '.join(_CHECKS)}")
    for key, value in given.items():
        if key not in _CHECKS:
            raise ArgumentError(where, key, f"one of {', '.join(_CHECKS)}", known=_CHECKS)
        expected = _CHECKS[key](value)
        if expected:
            raise ArgumentError(f"{where}: {key}", value, expected)
    return NodeSettings(**given)


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "text"


def _whole_number(value: Any) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return None if is_number and value > 0 else "a whole number, 1 or more"


def _resources(value: Any) -> str | None:
    expected = 'requests and limits as in Kubernetes, such as {"requests": {"memory": "2Gi", "cpu": "500m"}}'
    if not isinstance(value, Mapping) or not value or not set(value) <= {"requests", "limits"}:
        return expected
    for amounts in value.values():
        if not isinstance(amounts, Mapping) or not amounts:
            return expected
        for name, amount in amounts.items():
            if (
                not isinstance(name, str)
                or isinstance(amount, bool)
                or not isinstance(amount, str | int | float)
            ):
                return expected
    return None


def _isolation(value: Any) -> str | None:
    is_mapping = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    expected = "true, or arguments of KubernetesPodOperator, such as {image: ..., node_selector: {...}}"
    return None if isinstance(value, bool) or (is_mapping and value) else expected


_CHECKS: Final = {
    "pool": _text,
    "priority": _whole_number,
    "owner": _text,
    "image": _text,
    "resources": _resources,
    "isolate": _isolation,
}
