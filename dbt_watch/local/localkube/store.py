"""
What the API server remembers: objects by resource, namespace and name, their versions, and the changes to watch.

Everything here runs in the server's event loop, so nothing is locked. Objects are plain dictionaries as they go over
the wire; a stored one is never altered, an update stores a new one, so readers need no copies.
"""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import uuid
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from dbt_watch.local.localkube.errors import already_exists, conflict, expired, not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """
    A kind of object.

    :ivar plural: its name in paths and messages
    :ivar selectable: fields beyond the name and namespace that a field selector may use
    """

    plural: str
    kind: str
    namespaced: bool = True
    selectable: frozenset[str] = frozenset()

    @property
    def fields(self) -> frozenset[str]:
        """Every field that a field selector may use."""
        return self.selectable | {"metadata.name", "metadata.namespace"}


NAMESPACES = Resource("namespaces", "Namespace", namespaced=False, selectable=frozenset({"status.phase"}))
PODS = Resource(
    "pods",
    "Pod",
    selectable=frozenset(
        {"spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"}
    ),
)
EVENTS = Resource(
    "events",
    "Event",
    selectable=frozenset({"reason", "type", "reportingComponent", "source"})
    | {
        f"involvedObject.{name}"
        for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    },
)
SECRETS = Resource("secrets", "Secret", selectable=frozenset({"type"}))
CONFIG_MAPS = Resource("configmaps", "ConfigMap")
RESOURCES = {resource.plural: resource for resource in (NAMESPACES, PODS, EVENTS, SECRETS, CONFIG_MAPS)}

# How many changes are kept for watches that resume; older ones are answered with 410.
HISTORY = 20_000


class ChangeKind(str, Enum):
    """What happened to an object, in the words of a watch."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the history: `old` is None for a new object; for a deleted one, `new` is its last form."""

    version: int
    resource: Resource
    kind: ChangeKind
    old: Item | None
    new: Item


class Store:
    """
    Objects and their history.

    :ivar observers: called with every change, at once and in the server's thread
    :ivar admission: called with every new object before it is stored; may raise ApiError
    :ivar takes_any_namespace: whether a namespace that is not there comes to be when something is created in it
    """

    def __init__(self) -> None:
        self.version = 1
        self._items: dict[Resource, dict[tuple[str, str], Item]] = {
            resource: {} for resource in RESOURCES.values()
        }
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._watchers: set[asyncio.Queue[Change]] = set()
        self.observers: list[Callable[[Change], None]] = []
        self.admission: list[Callable[[Resource, Item], None]] = []
        self.takes_any_namespace = False

    def get(self, resource: Resource, namespace: str, name: str) -> Item:
        """Return an object; :raises ApiError: 404."""
        try:
            return self._items[resource][namespace, name]
        except KeyError:
            raise not_found(resource.plural, name) from None

    def find(self, resource: Resource, namespace: str, name: str) -> Item | None:
        """Return an object, or None."""
        return self._items[resource].get((namespace, name))

    def list(self, resource: Resource, namespace: str | None = None) -> list[Item]:
        """Return all objects of a resource in a namespace (None: in all), by namespace and name."""
        items = self._items[resource]
        return [items[key] for key in sorted(items) if namespace is None or key[0] == namespace]

    def create(self, resource: Resource, item: Item) -> Item:
        """Store a new object with identity, version and time of creation; :raises ApiError: 403, 409."""
        for admit in self.admission:
            admit(resource, item)
        item = copy.deepcopy(item)
        metadata = item["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if key in self._items[resource]:
            raise already_exists(resource.plural, metadata["name"])
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = timestamp()
        self._put(resource, key, ChangeKind.ADDED, None, item)
        return item

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Item], Item | None],
        *,
        expected_version: str | None = None,
    ) -> Item:
        """
        Alter an object.

        :param change: alters the copy it is given, or returns a new object
        :param expected_version: the version that the caller has seen
        :raises ApiError: 404; 409 when the object has another version than expected
        """
        old = self.get(resource, namespace, name)
        if expected_version and expected_version != old["metadata"]["resourceVersion"]:
            raise conflict(resource.plural, name)
        draft = copy.deepcopy(old)
        new = change(draft)
        if new is None:
            new = draft
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return old
        self._put(resource, (namespace, name), ChangeKind.MODIFIED, old, new)
        return new

    def delete(self, resource: Resource, namespace: str, name: str) -> Item:
        """Forget an object; :raises ApiError: 404."""
        old = self.get(resource, namespace, name)
        new = copy.deepcopy(old)
        self._put(resource, (namespace, name), ChangeKind.DELETED, old, new)
        return new

    @contextmanager
    def subscribe(self, since: int | None = None) -> Iterator[asyncio.Queue[Change]]:
        """
        Collect changes in a queue while the context is open.

        :param since: first the changes after this version, from the history
        :raises ApiError: 410, the history does not reach back that far
        """
        queue: asyncio.Queue[Change] = asyncio.Queue()
        if since is not None:
            self._check_reach(since)
            for change in self._history:
                if change.version > since:
                    queue.put_nowait(change)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    @contextmanager
    def next_change(self, *resources: Resource) -> Iterator[asyncio.Event]:
        """Yield an event that the first change of one of the resources from now on sets."""
        changed = asyncio.Event()

        def observe(change: Change) -> None:
            if change.resource in resources:
                changed.set()

        self.observers.append(observe)
        try:
            yield changed
        finally:
            self.observers.remove(observe)

    def forget_history(self) -> None:
        """Drop the changes kept for watches, as a server does after some minutes; resuming gives 410 then."""
        self._history.clear()
        self.version += 1

    def _check_reach(self, since: int) -> None:
        oldest = self._history[0].version - 1 if self._history else self.version
        if since < oldest:
            raise expired(f"too old resource version: {since} ({oldest})")

    def _put(
        self, resource: Resource, key: tuple[str, str], kind: ChangeKind, old: Item | None, new: Item
    ) -> None:
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        if kind is ChangeKind.DELETED:
            del self._items[resource][key]
        else:
            self._items[resource][key] = new
        change = Change(self.version, resource, kind, old, new)
        self._history.append(change)
        for queue in self._watchers:
            queue.put_nowait(change)
        for observe in self.observers:
            observe(change)


def timestamp(moment: dt.datetime | None = None) -> str:
    """Return a time (default: now) as objects carry it, to the second."""
    return (moment or now()).strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> dt.datetime:
    """Return the time with its zone."""
    return dt.datetime.now(dt.timezone.utc)
