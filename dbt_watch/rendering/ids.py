"""
Task ids of dbt nodes: legal for Airflow, distinct, and stable.

An id depends on the node alone, never on what else the project holds, so adding a node, a test or a description
renames nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dbt_watch.core.graph import Node

# Airflow takes 250 characters for a whole task id; the ids of the groups around it need room too.
MAX_LENGTH: Final = 120
_DIGEST_LENGTH: Final = 8

# Ids of tasks that are no node's.
PRODUCER_ID: Final = "dbt_build"
ALL_TESTS_ID: Final = "tests"
START_ID: Final = "dbt_start"
_RESERVED: Final = frozenset({PRODUCER_ID, ALL_TESTS_ID, START_ID})

_ILLEGAL: Final = re.compile(r"[^\w.-]+")
_REFERABLE: Final = frozenset({"model", "seed", "snapshot"})


def node_task_id(node: Node, project_name: str) -> str:
    """
    Give the id of a node's task, within its group.

    What can be referred to by `ref` bears its bare name, with its version; anything else its resource type in front, a
    table of a source the source's name too. What another package brings bears that package's name in front.

    :param node: the node
    :param project_name: the root project's name
    """
    own_names = (node.name,) if node.source_name is None else (node.source_name, node.name)
    name = ".".join(own_names) if not node.version else f"{node.name}.v{node.version}"
    if node.resource_type not in _REFERABLE:
        name = f"{node.resource_type}.{name}"
    if node.package_name != project_name:
        name = f"{node.package_name}.{name}"
    # A dot of its own would make a name look like one with a version, a package or a suffix.
    has_dot = any("." in own_name for own_name in own_names)
    return _with_digest(name, node.unique_id) if has_dot else legal(name, node.unique_id)


def suffixed(task_id: str, suffix: str, identity: str) -> str:
    """Give the id of a task that belongs to another one, such as `orders.test`."""
    return legal(f"{task_id}.{suffix}", f"{identity} {suffix}")


def legal(name: str, identity: str) -> str:
    """
    Make an id that Airflow takes of a name.

    :param name: the name to keep if it is legal
    :param identity: what tells two names apart that become the same when they are mended
    """
    if not _ILLEGAL.search(name) and len(name) <= MAX_LENGTH and name not in _RESERVED:
        return name
    return _with_digest(name, identity)


def _with_digest(name: str, identity: str) -> str:
    mended = _ILLEGAL.sub("_", name)
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{mended[: MAX_LENGTH - _DIGEST_LENGTH - 1]}-{digest}"
