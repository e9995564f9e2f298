"""
What a sensor leaves in XCom, read back: the results of its nodes.

Functions bound to nodes, callbacks and `DbtProject.results` ask here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.results import NodeResult

if TYPE_CHECKING:
    from dbt_watch.core.graph import Node


def results_in(value: Any) -> list[NodeResult]:
    """
    Give the results that a sensor's XCom holds; none for a sensor that left nothing.

    :param value: the XCom. What a trigger leaves there, Airflow encodes twice, so that it arrives as text.
    :raises msgspec.ValidationError: when it is something else
    """
    if isinstance(value, str | bytes):
        value = msgspec.json.decode(value)
    if not value:
        return []
    items = value.get("nodes", [value])
    return [NodeResult.from_dict(item) for item in items]


def result_of(node: Node, value: Any) -> NodeResult:
    """
    Give the result of one node.

    :param node: the node
    :param value: the XCom of its sensor
    :returns: a result with the status "not run" when the sensor left none: then dbt never came to the node
    """
    for result in results_in(value):
        if result.unique_id == node.unique_id:
            return result
    return NodeResult(
        unique_id=node.unique_id,
        name=node.name,
        resource_type=node.resource_type,
        status=statuses.NOT_RUN,
        message="dbt did not come to this node",
    )
