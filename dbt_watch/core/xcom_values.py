"""
What a sensor leaves in XCom: the results of its nodes, written and read back.

`sensors` writes it; `authoring.node_functions`, `rendering.callbacks` and `rendering.results` read it, for functions bound to
nodes, for callbacks and for `project.results`.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.results import NodeResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.core.manifest.graph import Node


PACKED_ABOVE: Final = 100
"""The results of more nodes than this are packed: those of 10,000 tests would be an XCom of 1.6 MB."""


def xcom_value(results: Sequence[NodeResult]) -> dict[str, Any]:
    """
    Return what a sensor leaves in XCom.

    :param results: what became of its nodes
    :returns: of one node, a `NodeResult` as a dict; of several, `{"nodes": [...]}`; of more than 100,
        `{"statuses": {"pass": 9998, ...}, "packed": "..."}`, which `results_in` reads
    """
    if len(results) == 1:
        return results[0].to_dict()
    if len(results) <= PACKED_ABOVE:
        return {"nodes": [result.to_dict() for result in results]}
    packed = zlib.compress(msgspec.json.encode(results))
    return {
        "statuses": dict(Counter(result.status for result in results).most_common()),
        "packed": base64.b64encode(packed).decode(),
    }


def results_in(value: Any) -> list[NodeResult]:
    """
    Return the results that a sensor's XCom holds; none for a sensor that left nothing.

    :param value: the XCom. What a trigger leaves there, Airflow encodes twice, so that it arrives as text.
    :raises msgspec.ValidationError: when it is something else
    """
    if isinstance(value, str | bytes):
        value = msgspec.json.decode(value)
    if not value:
        return []
    if "packed" in value:
        return msgspec.json.decode(zlib.decompress(base64.b64decode(value["packed"])), type=list[NodeResult])
    items = value.get("nodes", [value])
    return [NodeResult.from_dict(item) for item in items]


def result_of(node: Node, value: Any) -> NodeResult:
    """
    Return the result of one node.

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
        message="dbt did not get to this node",
    )
