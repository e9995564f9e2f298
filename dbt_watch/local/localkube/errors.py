"""
Refusals of the API, as the `Status` objects that Kubernetes answers with.

Raised anywhere below the server, turned into an HTTP answer by it. The texts and reasons follow
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/, since clients read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason of a 422: which field is wrong, and how."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    def as_dict(self) -> dict[str, str]:
        """Return the form that stands in `details.causes`."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """
    A request that is refused.

    :param code: the HTTP status
    :param reason: the machine-readable word, such as `NotFound`
    :param message: for people
    :param details: what the refusal is about: name, kind, causes
    """

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        super().__init__(message)

    def status(self) -> dict[str, Any]:
        """Return the body of the answer."""
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
            "code": self.code,
        }
        if self.details is not None:
            status["details"] = self.details
        return status


def bad_request(message: str) -> ApiError:
    """400: the request is invalid, or not now."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: no token, or not ours."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(plural: str, name: str, why: str) -> ApiError:
    """403: understood, and not allowed."""
    return ApiError(
        403, "Forbidden", f'{plural} "{name}" is forbidden: {why}', {"name": name, "kind": plural}
    )


def not_found(plural: str, name: str) -> ApiError:
    """404: there is no such object."""
    return ApiError(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural})


def no_such_path() -> ApiError:
    """404: there is no such resource in the API."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, name: str) -> ApiError:
    """409: the name is taken."""
    return ApiError(409, "AlreadyExists", f'{plural} "{name}" already exists', {"name": name, "kind": plural})


def conflict(plural: str, name: str, why: str = "") -> ApiError:
    """409: the object has changed since the client read it."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {plural} "{name}": {why}',
        {"name": name, "kind": plural},
    )


def expired(message: str) -> ApiError:
    """410: the resource version asked for is no longer kept."""
    return ApiError(410, "Expired", message)


def invalid(kind: str, name: str, causes: list[Cause]) -> ApiError:
    """422: understood, but the object is wrong."""
    text = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
    if len(causes) > 1:
        text = f"[{text}]"
    details = {"name": name, "kind": kind, "causes": [cause.as_dict() for cause in causes]}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details)


def unsupported_media_type(kind: str) -> ApiError:
    """415: a patch of a kind that localkube does not know."""
    return ApiError(
        415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}", {}
    )


def unreachable(url: str, host: str) -> ApiError:
    """500 without a reason: what an API server says when it cannot reach the kubelet of a node."""
    return ApiError(500, "", f'Get "{url}": dial tcp {host}: connect: no route to host')


def internal(message: str) -> ApiError:
    """500: the request was right, and it did not work."""
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )
