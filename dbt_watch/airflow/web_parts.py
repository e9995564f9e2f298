"""
What the parts of Airflow's web interface that come with this package have in common: applications that Airflow mounts, and links.

Each process of Airflow that loads plugins loads this, so it imports next to nothing.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    AsgiMessage = MutableMapping[str, Any]


class LateMount:
    """
    An ASGI application as Airflow mounts it, which is made by its first request.

    :param make: makes it; called in a thread
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._app: Any = None
        self._making = threading.Lock()

    async def __call__(
        self,
        scope: AsgiMessage,
        receive: Callable[[], Awaitable[AsgiMessage]],
        send: Callable[[AsgiMessage], Awaitable[None]],
    ) -> None:
        """Answer a request."""
        if self._app is None:
            await asyncio.to_thread(self._make_once)
        await self._app(scope, receive, send)

    def _make_once(self) -> None:
        with self._making:
            if self._app is None:
                self._app = self._make()


class NamedOperator:
    """Stands for an operator of ours, whose module need not be imported for a link from it: Airflow compares names."""

    def __init__(self, name: str, module: str) -> None:
        self.__name__ = name
        self.__module__ = module


POD_OPERATORS: Final = tuple(
    NamedOperator(f"Dbt{name}", "dbt_watch.producers.pods.operator")
    for name in ("KubernetesPodOperator", "GKEStartPodOperator", "EksPodOperator")
)
"""The tasks that run dbt in a pod; those of other subclasses of KubernetesPodOperator have no links."""
