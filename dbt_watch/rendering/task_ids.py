"""
Task ids of dbt nodes: legal for Airflow, distinct, and stable.

An id depends on the node alone, never on what else the project holds, so adding a node, a test or a description
renames nothing. So that it is the node's own all the same, a name gets a hash suffix where it would read like another
part of an id: a type, a version, the suffix of a node's tests.

Airflow tells ids apart by the case of their letters, on MySQL too, so `Orders` and `orders` are two ids here.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Node

# Airflow takes 250 characters for a whole task id; the ids of the groups around it need room too.
MAX_LENGTH: Final = 120
_HASH_LENGTH: Final = 8

# Ids of tasks that are no node's.
PRODUCER_ID: Final = "dbt_build"
ALL_TESTS_ID: Final = "tests"
START_ID: Final = "dbt_start"
_REPORT: Final = "assets"
_PRODUCER: Final = re.compile(rf"{PRODUCER_ID}(_[0-9]+)?")
_RESERVED: Final = re.compile(rf"{_PRODUCER.pattern}(\.{_REPORT})?|{ALL_TESTS_ID}|{START_ID}")

_ILLEGAL: Final = re.compile(r"[^\w.-]+")
_REFERABLE: Final = frozenset({"model", "seed", "snapshot"})
# What may follow a name: the suffix of its tests, or its version.
_VERSION: Final = r"v[0-9]+"
_FOLLOWS_A_NAME: Final = rf"test|unit_test|{_VERSION}"
# What may stand in front of a name of the root project: the types of what cannot be referred to.
_TYPES: Final = frozenset(
    {
        "analysis",
        "exposure",
        "function",
        "metric",
        "operation",
        "saved_query",
        "semantic_model",
        "source",
        "test",
    }
    | {"unit_test"}
)


def node_task_id(node: Node, project_name: str) -> str:
    """
    Return the id of a node's task, within its group.

    What can be referred to by `ref` uses its plain name, with its version; anything else has its resource type in front,
    a table of a source the source's name too. A node of another package has that package's name in front.

    :param node: the node
    :param project_name: the root project's name
    """
    front = [] if node.package_name == project_name else [node.package_name]
    if node.resource_type not in _REFERABLE:
        front.append(node.resource_type)
    own_names = [node.name] if node.source_name is None else [node.source_name, node.name]
    version = [f"v{node.version}"] if node.version else []
    name = ".".join([*front, *own_names, *version])
    needs_suffix = (
        any("." in own_name for own_name in own_names)
        or (front and re.fullmatch(_FOLLOWS_A_NAME, node.name))
        or (version and not re.fullmatch(_VERSION, version[0]))
        or (node.package_name != project_name and node.package_name in _TYPES)
        or _is_chosen_freely(node)
    )
    return _with_hash(name, node.unique_id) if needs_suffix else legal(name, node.unique_id)


def _is_chosen_freely(node: Node) -> bool:
    """
    Return whether others may have this very name too.

    So it is with unit tests of different models, and with generic tests whose name is not the one that dbt makes of the
    test, the node and the arguments.
    """
    if node.test_name is None:
        return node.resource_type == "unit_test"
    tested = "" if not node.attached_node else node.attached_node.split(".")[2]
    return f"{node.test_name}_{tested}" not in node.name


def producer_id(number: int) -> str:
    """Return the id of a producer by its number in the project, from 0: `dbt_build`, `dbt_build_2` and so on."""
    return PRODUCER_ID if number == 0 else f"{PRODUCER_ID}_{number + 1}"


def is_producer_id(task_id: str) -> bool:
    """Return whether an id within the group is that of a producer, and so no node's."""
    return _PRODUCER.fullmatch(task_id) is not None


def report_id(producer: str) -> str:
    """Return the id of the task that tells what a producer has built that has failed."""
    return f"{producer}.{_REPORT}"


def suffixed(task_id: str, suffix: str, identity: str) -> str:
    """Return the id of a task that belongs to another one, such as `orders.test`."""
    return legal(f"{task_id}.{suffix}", f"{identity} {suffix}")


def legal(name: str, identity: str) -> str:
    """
    Make an id that Airflow takes of a name.

    :param name: the name to keep if it is legal
    :param identity: what tells two names apart that become the same when they are sanitized
    """
    if not _ILLEGAL.search(name) and len(name) <= MAX_LENGTH and not _RESERVED.fullmatch(name):
        return name
    return _with_hash(name, identity)


def _with_hash(name: str, identity: str) -> str:
    sanitized = _ILLEGAL.sub("_", name)
    suffix = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{sanitized[: MAX_LENGTH - _HASH_LENGTH - 1]}-{suffix}"
