"""
The names of nodes in texts for people: the one place that shortens a unique_id.

Everything that names a node in a message or a log calls `label_of`; what is compared or stored is the unique_id.
"""

from __future__ import annotations

import re
from typing import Final

# The hash that dbt appends to the name of a generic test, so that its key is unique.
_HASH: Final = re.compile(r"\.[0-9a-f]{10}\Z")


def label_of(unique_id: str) -> str:
    """
    Return the short name of a node.

    A model's with its version (`orders.v2`), a source's table with the source in front (`raw.orders`), a test's without
    dbt's hash, a unit test's without its model, any other's as it is.

    :param unique_id: dbt's key of the node; what is no such key is returned unchanged
    """
    resource_type, _, rest = unique_id.partition(".")
    name = rest.partition(".")[2]
    if resource_type == "test":
        name = _HASH.sub("", name)
    elif resource_type == "unit_test":
        name = name.partition(".")[2] or name
    return name or unique_id
