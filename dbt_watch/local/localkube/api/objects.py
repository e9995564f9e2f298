"""
Create, read, list, watch, replace, patch and delete, for every kind of object alike.

Pods differ in two ways: a new one is handed to the kubelet, and a deleted one leaves only when its containers have
stopped. Called by `server`, which has parsed the path.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from dbt_watch.local.localkube import patches, validation
from dbt_watch.local.localkube.errors import ApiError, bad_request, conflict, expired, forbidden
from dbt_watch.local.localkube.selectors import Test, field_test, label_test
from dbt_watch.local.localkube.store import (
    NAMESPACES,
    PODS,
    Change,
    ChangeKind,
    Item,
    Resource,
    Store,
    now,
    timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.local.localkube.kubelet import Kubelet

# These exist from the start; a cluster does not let them go either.
DEFAULT_NAMESPACE = "default"
LASTING_NAMESPACES = (DEFAULT_NAMESPACE, "kube-system")
METADATA = "meta.k8s.io/v1"
_YES = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_TERMINAL = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about; no namespace stands for all, no name for the collection."""

    resource: Resource
    namespace: str | None = None
    name: str | None = None


class ObjectApi:
    """The handlers; each takes the request and what its path names."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet

    async def read(self, request: web.Request, target: Target) -> web.StreamResponse:
        """GET of one object, of a list, or a watch."""
        if target.name is not None:
            item = self._find(target)
            return answer_metadata(item) if _wants_metadata(request) else answer(target.resource, item)
        if flag(request.query, "watch"):
            return await self._watch(request, target)
        return self._list(request, target)

    async def create(self, request: web.Request, target: Target) -> web.Response:
        """POST of a new object."""
        namespace = target.namespace or ""
        item = validation.prepare(target.resource, namespace, await _body(request))
        if target.resource.namespaced:
            self._check_namespace(target.resource, namespace, item["metadata"]["name"])
        if request.query.get("dryRun"):
            return answer(target.resource, item, status=201)
        item = self._store.create(target.resource, item)
        if target.resource is PODS:
            self._kubelet.adopt(item)
        return answer(target.resource, item, status=201)

    async def replace(self, request: web.Request, target: Target, part: str | None = None) -> web.Response:
        """PUT of a whole object, or of its `part` alone."""
        body = await _body(request)

        def change(old: Item) -> Item:
            return _accepted(target.resource, old, copy.deepcopy(body), part)

        return self._update(target, change, body)

    async def patch(self, request: web.Request, target: Target, part: str | None = None) -> web.Response:
        """PATCH of an object, or of its `part` alone."""
        body = await _body(request)

        def change(old: Item) -> Item:
            return _accepted(target.resource, old, patches.apply(request.content_type, old, body), part)

        return self._update(target, change, body)

    async def delete(self, request: web.Request, target: Target) -> web.Response:
        """DELETE of one object, or of all that the selectors take."""
        options = await _body(request) if request.can_read_body else {}
        grace = request.query.get("gracePeriodSeconds", (options or {}).get("gracePeriodSeconds"))
        if target.name is not None:
            item = self._find(target)
            self._check_preconditions(target.resource, item, options or {})
            return self._delete(target.resource, item, grace)
        test = _tests(request, target)
        items = [item for item in self._store.list(target.resource, target.namespace) if test(item)]
        for item in items:
            self._delete(target.resource, item, grace)
        return answer_list(target.resource, items, str(self._store.version))

    def _find(self, target: Target) -> Item:
        return self._store.get(target.resource, target.namespace or "", target.name or "")

    def _update(self, target: Target, change: Any, body: Any) -> web.Response:
        metadata = body.get("metadata") if isinstance(body, dict) else None
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        item = self._store.update(
            target.resource, target.namespace or "", target.name or "", change, expected_version=version
        )
        return answer(target.resource, item)

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if self._store.takes_any_namespace and self._store.find(NAMESPACES, "", namespace) is None:
            made = validation.prepare(NAMESPACES, "", {"metadata": {"name": namespace}})
            self._store.create(NAMESPACES, made)
        home = self._store.get(NAMESPACES, "", namespace)
        if home["status"]["phase"] == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource.plural, name, why)

    def _check_preconditions(self, resource: Resource, item: Item, options: Item) -> None:
        wanted = options.get("preconditions") or {}
        for field in ("uid", "resourceVersion"):
            if wanted.get(field) not in (None, item["metadata"][field]):
                name = item["metadata"]["name"]
                text = f"the {field} in the precondition ({wanted[field]}) does not match that of the object"
                raise conflict(resource.plural, name, text)

    def _delete(self, resource: Resource, item: Item, grace: Any) -> web.Response:
        metadata = item["metadata"]
        if resource is PODS:
            return answer(resource, self._delete_pod(item, _seconds(grace)))
        if resource is NAMESPACES:
            return answer(resource, self._delete_namespace(item))
        self._store.delete(resource, metadata["namespace"], metadata["name"])
        return web.json_response(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {"name": metadata["name"], "kind": resource.plural, "uid": metadata["uid"]},
            }
        )

    def _delete_pod(self, pod: Item, grace: int | None) -> Item:
        if grace is None:
            grace = pod["spec"]["terminationGracePeriodSeconds"]
        if pod["status"]["phase"] in _TERMINAL:
            grace = 0
        before = pod["metadata"].get("deletionGracePeriodSeconds")
        grace = grace if before is None else min(grace, before)

        def mark(item: Item) -> None:
            end = now() + dt.timedelta(seconds=grace)
            item["metadata"]["deletionTimestamp"] = timestamp(end)
            item["metadata"]["deletionGracePeriodSeconds"] = grace

        marked = self._store.update(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], mark)
        self._kubelet.terminate(marked, grace)
        return marked

    def _delete_namespace(self, namespace: Item) -> Item:
        name = namespace["metadata"]["name"]
        if name in LASTING_NAMESPACES:
            raise forbidden(NAMESPACES.plural, name, "this namespace may not be deleted")

        def mark(item: Item) -> None:
            item["metadata"]["deletionTimestamp"] = timestamp()
            item["status"] = {"phase": "Terminating"}

        marked = self._store.update(NAMESPACES, "", name, mark)
        self._kubelet.empty_namespace(name)
        return marked

    def _list(self, request: web.Request, target: Target) -> web.Response:
        test = _tests(request, target)
        items = [item for item in self._store.list(target.resource, target.namespace) if test(item)]
        token = request.query.get("continue")
        if token:
            after = _resume_point(token)
            items = [item for item in items if _place(item) > after]
        limit = int(request.query.get("limit") or 0)
        version = str(self._store.version)
        more: dict[str, Any] = {}
        if limit and len(items) > limit:
            more = {"remainingItemCount": len(items) - limit}
            items = items[:limit]
            more["continue"] = base64.urlsafe_b64encode(json.dumps(_place(items[-1])).encode()).decode()
        if _wants_metadata(request):
            return answer_metadata_list(items, version, more)
        return answer_list(target.resource, items, version, more)

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        test = _tests(request, target)
        text = request.query.get("resourceVersion") or "0"
        if not text.isdigit():
            raise bad_request(f"invalid resource version: {text}")
        since = int(text) or None
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        deadline = float(request.query.get("timeoutSeconds") or 0) or None
        # What exists at the moment of subscribing comes first when no version was named.
        try:
            with self._store.subscribe(since) as queue:
                existing = [] if since else self._store.list(target.resource, target.namespace)
                await response.prepare(request)
                for item in filter(test, existing):
                    await _send(response, ChangeKind.ADDED.value, target.resource, item)
                try:
                    await asyncio.wait_for(_follow(queue, response, target, test), deadline)
                except asyncio.TimeoutError:
                    if flag(request.query, "allowWatchBookmarks"):
                        mark = {"metadata": {"resourceVersion": str(self._store.version)}}
                        await _send(response, "BOOKMARK", target.resource, mark)
        except ApiError as error:
            # A watch has begun with 200 by then; its refusal is an event.
            await response.prepare(request)
            await response.write(json.dumps({"type": "ERROR", "object": error.status()}).encode() + b"\n")
        await response.write_eof()
        return response


def answer(resource: Resource, item: Item, *, status: int = 200) -> web.Response:
    """Return one object as an HTTP answer."""
    return web.json_response({"kind": resource.kind, "apiVersion": "v1", **item}, status=status)


def answer_list(
    resource: Resource, items: list[Item], version: str, more: Mapping[str, Any] | None = None
) -> web.Response:
    """Return a list as an HTTP answer."""
    return web.json_response(
        {
            "kind": f"{resource.kind}List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": version, **(more or {})},
            "items": items,
        }
    )


def answer_metadata(item: Item) -> web.Response:
    """Return the metadata of one object as an HTTP answer."""
    return web.json_response(_metadata_alone(item))


def answer_metadata_list(items: list[Item], version: str, more: Mapping[str, Any]) -> web.Response:
    """Return a list of nothing but metadata as an HTTP answer."""
    return web.json_response(
        {
            "kind": "PartialObjectMetadataList",
            "apiVersion": METADATA,
            "metadata": {"resourceVersion": version, **more},
            "items": [_metadata_alone(item) for item in items],
        }
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a query parameter is set to something that means yes."""
    return query.get(name, "") in _YES


async def _follow(
    queue: asyncio.Queue[Change], response: web.StreamResponse, target: Target, test: Test
) -> None:
    while True:
        change = await queue.get()
        if change.resource is not target.resource:
            continue
        if target.namespace is not None and change.new["metadata"]["namespace"] != target.namespace:
            continue
        kind = _kind_for(change, test)
        if kind is not None:
            await _send(response, kind.value, target.resource, _seen(change, kind))


def _seen(change: Change, kind: ChangeKind) -> Item:
    """
    Return the object as a watch shows it: one that has left its selectors is shown as it was, with the new version.

    Source: kubernetes, staging/src/k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go (convertToWatchEvent).
    """
    if kind is not ChangeKind.DELETED or change.old is None or change.kind is ChangeKind.DELETED:
        return change.new
    version = change.new["metadata"]["resourceVersion"]
    return {**change.old, "metadata": {**change.old["metadata"], "resourceVersion": version}}


def _kind_for(change: Change, test: Test) -> ChangeKind | None:
    """Return what a change is to a watcher whose selectors see only a part of the objects."""
    before = change.old is not None and test(change.old)
    after = change.kind is not ChangeKind.DELETED and test(change.new)
    if before and after:
        return ChangeKind.MODIFIED
    if after:
        return ChangeKind.ADDED
    return ChangeKind.DELETED if before else None


async def _send(response: web.StreamResponse, kind: str, resource: Resource, item: Item) -> None:
    event = {"type": kind, "object": {"kind": resource.kind, "apiVersion": "v1", **item}}
    await response.write(json.dumps(event).encode() + b"\n")


async def _body(request: web.Request) -> Any:
    data = await request.read()
    if not data:
        return {}
    try:
        return json.loads(data)
    except ValueError as error:
        raise bad_request(f"the object provided is unrecognized (must be of type JSON): {error}") from None


def _accepted(resource: Resource, old: Item, new: Any, part: str | None) -> Item:
    """Return what an update makes of an object: its identity stays, and only `part` changes if one is named."""
    if not isinstance(new, dict):
        raise bad_request("the object provided is unrecognized: it is not a JSON object")
    for key in ("kind", "apiVersion"):
        new.pop(key, None)
    if part is not None:
        return {**old, part: new.get(part, old.get(part))}
    new.setdefault("metadata", {})
    for key in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if key in old["metadata"]:
            new["metadata"].setdefault(key, old["metadata"][key])
    for key in ("status", "spec") if resource is PODS else ("status",):
        if key in old and (key == "status" or key not in new):
            new[key] = old[key]
    validation.check_update(resource, old, new)
    return new


def _wants_metadata(request: web.Request) -> bool:
    """
    Return whether a client asks for metadata alone.

    Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches
    """
    first, *parameters = request.headers.get("Accept", "").partition(",")[0].split(";")
    wanted = {parameter.strip() for parameter in parameters}
    kinds = {"as=PartialObjectMetadata", "as=PartialObjectMetadataList"}
    return first.strip() == "application/json" and "g=meta.k8s.io" in wanted and bool(kinds & wanted)


def _metadata_alone(item: Item) -> Item:
    return {"kind": "PartialObjectMetadata", "apiVersion": METADATA, "metadata": item["metadata"]}


def _tests(request: web.Request, target: Target) -> Test:
    labels = label_test(request.query.get("labelSelector") or "")
    fields = field_test(request.query.get("fieldSelector") or "", target.resource.fields)
    return lambda item: labels(item) and fields(item)


def _place(item: Item) -> list[str]:
    return [item["metadata"].get("namespace", ""), item["metadata"]["name"]]


def _resume_point(token: str) -> list[str]:
    try:
        place = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise expired("The provided continue parameter is too old or not one of this server") from None
    return [str(part) for part in place]


def _seconds(value: Any) -> int | None:
    try:
        return None if value is None else max(0, int(value))
    except (TypeError, ValueError):
        raise bad_request(f"gracePeriodSeconds: invalid value: {value!r}") from None
