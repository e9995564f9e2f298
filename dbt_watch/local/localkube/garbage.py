"""
The garbage collector: deletes secrets and config maps whose owners are gone.

An object goes when none of the objects in its `metadata.ownerReferences` is there any more, or ever was
(https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents). A cluster takes a moment for it; here it is
done as soon as the request that caused it is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dbt_watch.local.localkube.store import CONFIG_MAPS, SECRETS, Change, ChangeKind, Item

if TYPE_CHECKING:
    from dbt_watch.local.localkube.store import Resource, Store

COLLECTED = (SECRETS, CONFIG_MAPS)


class GarbageCollector:
    """
    The collector of a server; `observe` sees all changes of its store.

    :param store: of the server
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._alive: set[str] = set()

    def observe(self, change: Change) -> None:
        """Find out whether something has lost its owners."""
        uid = change.new["metadata"]["uid"]
        if change.kind is ChangeKind.DELETED:
            self._alive.discard(uid)
            self._later(*(item for resource in COLLECTED for item in self._owned(resource, uid)))
            return
        self._alive.add(uid)
        if change.resource in COLLECTED and _owners(change.new):
            self._later((change.resource, change.new))

    def _owned(self, resource: Resource, uid: str) -> list[tuple[Resource, Item]]:
        return [(resource, item) for item in self._store.list(resource) if uid in _owners(item)]

    def _later(self, *found: tuple[Resource, Item]) -> None:
        # The store is in the middle of a change.
        for resource, item in found:
            asyncio.get_running_loop().call_soon(self._collect, resource, item)

    def _collect(self, resource: Resource, item: Item) -> None:
        """Delete an object, if it is still there and none of its owners is."""
        metadata = item["metadata"]
        place = (metadata.get("namespace", ""), metadata["name"])
        current = self._store.find(resource, *place)
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            return
        owners = _owners(current)
        if owners and not owners & self._alive:
            self._store.delete(resource, *place)


def _owners(item: Item) -> set[str]:
    return {owner["uid"] for owner in item["metadata"].get("ownerReferences") or ()}
