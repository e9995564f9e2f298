"""
POST of a fault: `Faults` for those who are not in the same process, such as users of `dbt-watch localkube`.

`/localkube/faults/evict` with `{"pod": "default/shop"}` does what `faults.evict("default/shop")` does. Only the user
of the server's own kubeconfig may. Called by `server`; no fault of requests touches these paths.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube.errors import bad_request, no_such_path
from dbt_watch.local.localkube.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "/localkube/"
SWITCHES: Final = frozenset(
    name for name, member in vars(Faults).items() if inspect.isfunction(member) and not name.startswith("_")
)


class FaultApi:
    """The handler of `localkube/faults/NAME`."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def press(self, request: web.Request) -> web.Response:
        """Press a switch with the arguments of the body, a JSON object."""
        name = request.match_info["name"]
        if name not in SWITCHES:
            raise no_such_path()
        switch: Callable[..., Any] = getattr(self._faults, name)
        arguments = await _arguments(request)
        try:
            inspect.signature(switch).bind(**arguments)
            # In a thread: the switches wait for this loop.
            await asyncio.to_thread(switch, **arguments)
        except (TypeError, ArgumentError) as error:
            raise bad_request(f"{name}: {error}") from None
        return web.json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})


async def _arguments(request: web.Request) -> dict[str, Any]:
    data = await request.read()
    try:
        arguments = json.loads(data) if data else {}
    except ValueError as error:
        raise bad_request(f"the body must be JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise bad_request("the body must be a JSON object: the arguments by name")
    return arguments
