"""What the errors of both Kubernetes clients say."""

from __future__ import annotations

from typing import Final

HTTP_UNAUTHORIZED: Final = 401
HTTP_NOT_FOUND: Final = 404


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of an error of either client; None when it never came to an answer."""
    status = getattr(error, "status", None)
    return int(status) if status else None
