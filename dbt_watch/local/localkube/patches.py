"""
The three kinds of patch that clients send, as functions from an object and a patch to a new object.

JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch, which merges the lists of
`MERGE_KEYS` by a key instead of replacing them
(https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from dbt_watch.local.localkube.errors import ApiError, bad_request, unsupported_media_type

if TYPE_CHECKING:
    from collections.abc import Callable

# Which field tells the entries of a list apart, from the API's own schema.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "env": "name",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
    "conditions": "type",
}


def apply(content_type: str, document: dict[str, Any], patch: Any) -> dict[str, Any]:
    """
    Return a patched copy.

    :raises ApiError: 415 for an unknown content type, 400 or 422 for a patch that does not fit
    """
    function = _FUNCTIONS.get(content_type.partition(";")[0].strip())
    if function is None:
        raise unsupported_media_type(content_type)
    result = function(copy.deepcopy(document), copy.deepcopy(patch))
    if not isinstance(result, dict):
        raise bad_request("the patch does not leave an object")
    return result


def merge(document: Any, patch: Any) -> Any:
    """Apply a JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = document if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic_merge(document: Any, patch: Any, field: str = "") -> Any:
    """Apply a strategic merge patch; `field` is the name under which the value stands."""
    if isinstance(patch, list):
        return _merge_lists(document, patch, field)
    if not isinstance(patch, dict):
        return patch
    directive = patch.pop("$patch", "merge")
    if directive == "replace" or not isinstance(document, dict):
        document = {}
    for key, value in patch.items():
        if key.startswith(("$setElementOrder/", "$retainKeys")):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            document[name] = [item for item in document.get(name) or [] if item not in value]
        elif value is None:
            document.pop(key, None)
        else:
            document[key] = strategic_merge(document.get(key), value, key)
    return document


def json_patch(document: Any, operations: Any) -> Any:
    """Apply a JSON patch, a list of operations."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:  # noqa: PERF203 - names the operation
            raise ApiError(
                422,
                "Invalid",
                f"the server rejected our request due to an error in our request: {operation}: {error}",
                {},
            ) from None
    return document


_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic_merge,
}


def _merge_lists(current: Any, patch: list[Any], field: str) -> list[Any]:
    key = MERGE_KEYS.get(field)
    if key is None or not isinstance(current, list):
        return [strategic_merge(None, item) for item in patch if not _deletes(item)]
    result = list(current)
    for item in patch:
        index = next((i for i, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if _deletes(item):
            if index is not None:
                del result[index]
        elif index is None:
            result.append(item)
        else:
            result[index] = strategic_merge(result[index], item)
    return result


def _deletes(item: Any) -> bool:
    return isinstance(item, dict) and item.get("$patch") == "delete"


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    name, path = operation["op"], _pointer(operation["path"])
    if name == "test":
        if _read(document, path) != operation["value"]:
            raise ValueError("test failed")
        return document
    if name == "remove":
        return _remove(document, path)
    if name == "replace":
        _read(document, path)
        return _add(_remove(document, path), path, operation["value"]) if path else operation["value"]
    if name == "add":
        return _add(document, path, operation["value"])
    if name in {"move", "copy"}:
        origin = _pointer(operation["from"])
        value = copy.deepcopy(_read(document, origin))
        if name == "move":
            document = _remove(document, origin)
        return _add(document, path, value)
    raise ValueError(f"unknown operation {name!r}")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(f"not a JSON pointer: {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _read(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _read(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else int(last), value)
    else:
        parent[last] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    parent, last = _read(document, path[:-1]), path[-1]
    del parent[int(last) if isinstance(parent, list) else last]
    return document
