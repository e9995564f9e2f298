"""
The three kinds of patch that clients send, as functions from an object and a patch to a new object.

JSON patch (RFC 6902), JSON merge patch (RFC 7386) and, as far as pods need it, Kubernetes' strategic merge patch, which
merges the lists of `MERGE_KEYS` by a key instead of replacing them
(https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/). Called by `api.objects`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import jsonpatch
import jsonpointer

from dbt_watch.local.localkube.errors import ApiError, bad_request, unsupported_media_type

if TYPE_CHECKING:
    from collections.abc import Callable

# Which field tells the entries of a list apart, from the API's own schema; the other lists of a pod cannot be altered.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "conditions": "type",
}
# What kubectl adds to the lists of a patch; the order of the entries above means nothing.
_ORDER = "$setElementOrder/"


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


def _merge_patch(document: Any, patch: Any) -> Any:
    """Apply a JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = document if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_patch(result.get(key), value)
    return result


def _strategic_merge(document: Any, patch: Any, field: str = "") -> Any:
    """
    Apply a strategic merge patch.

    :param field: the name under which the value stands
    :raises ApiError: 400 for a directive (`$patch` and others), which localkube does not know
    """
    if isinstance(patch, list):
        return _merge_lists(document, patch, field)
    if not isinstance(patch, dict):
        return patch
    result = document if isinstance(document, dict) else {}
    for key, value in patch.items():
        if key.startswith("$"):
            if not key.startswith(_ORDER):
                raise bad_request(f"localkube does not know the directive {key} of a strategic merge patch")
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = _strategic_merge(result.get(key), value, key)
    return result


def _json_patch(document: Any, operations: Any) -> Any:
    """Apply a JSON patch, a list of operations."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    try:
        return jsonpatch.apply_patch(document, operations, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
        text = f"the server rejected our request due to an error in our request: {error}"
        raise ApiError(422, "Invalid", text, {}) from None


def _merge_lists(current: Any, patch: list[Any], field: str) -> list[Any]:
    key = MERGE_KEYS.get(field)
    if key is None or not isinstance(current, list):
        return [_strategic_merge(None, item) for item in patch]
    result = list(current)
    for item in patch:
        index = next((i for i, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if index is None:
            result.append(_strategic_merge(None, item))
        else:
            result[index] = _strategic_merge(result[index], item)
    return result


_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "application/json-patch+json": _json_patch,
    "application/merge-patch+json": _merge_patch,
    "application/strategic-merge-patch+json": _strategic_merge,
}
