"""
Tells a client that its invocation has ended, where the operator allows its address.

`app` asks whether an address may be called; `worker` calls it. A callback is an extra: its client still has to ask.
"""

from __future__ import annotations

import json
import logging
import urllib.request
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from dbt_watch.server.settings import CallbackSettings

_LOGGER: Final = logging.getLogger(__name__)
_TIMEOUT: Final = 5.0
_TRIES: Final = 2
_MAX_URL: Final = 2_000
_PORTS: Final = {"https": 443, "http": 80}


def check_callback(url: str, settings: CallbackSettings) -> None:
    """
    Check that an address may be called: a server that calls any address opens a way to those that only it can reach.

    :raises ArgumentError: when it may not
    """
    expected = (
        f"an address at one of the hosts that the server may call, over {'http or https' if settings.http else 'https'}"
        if settings.hosts
        else "to be left out: `callbacks` in the server's settings allows no host"
    )
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ArgumentError("callback_url", url, expected) from None
    hosts = {parts.hostname, f"{parts.hostname}:{port}"} if port == _PORTS.get(parts.scheme) else {
        f"{parts.hostname}:{port}"
    }  # fmt: skip
    if (
        len(url) > _MAX_URL
        or not url.isprintable()
        or "\\" in url
        or parts.scheme not in ({"https", "http"} if settings.http else {"https"})
        or parts.username is not None
        or not hosts & set(settings.hosts)
    ):
        raise ArgumentError("callback_url", url, expected)


def call_back(url: str, task_id: str, status: str) -> bool:
    """Report to a client how its invocation ended; return whether it has answered."""
    body = json.dumps({"task_id": task_id, "status": status}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - `check_callback`
    for _ in range(_TRIES):
        try:
            with _OPENER.open(request, timeout=_TIMEOUT):
                return True
        except (OSError, ValueError) as error:  # noqa: PERF203 - two rounds
            _LOGGER.warning("callback of %s failed: %s", task_id, type(error).__name__)
    return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which could lead to any host."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)
