"""
The HTTP application: which path leads to which handler, who may come in, and refusals as `Status` objects.

Built by `cluster`. Further middlewares, given there, run between the check of the token and the handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from dbt_watch.local.localkube.accounts import Access, Accounts
from dbt_watch.local.localkube.api.exec import ExecApi
from dbt_watch.local.localkube.api.faults import PREFIX, FaultApi
from dbt_watch.local.localkube.api.logs import LogApi
from dbt_watch.local.localkube.api.objects import ObjectApi, Target
from dbt_watch.local.localkube.errors import ApiError, internal, no_such_path, unauthorized
from dbt_watch.local.localkube.store import NAMESPACES, RESOURCES, Store

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from dbt_watch.local.localkube.faults import Faults
    from dbt_watch.local.localkube.isolation import Isolation
    from dbt_watch.local.localkube.kubelet import Kubelet
    from dbt_watch.local.localkube.traffic import Traffic

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The release whose behaviour localkube follows.
VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0+localkube",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2025-08-27T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
# A cluster answers these to anybody.
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})
LARGEST_BODY = 3 * 1024 * 1024
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of."""

    store: Store
    kubelet: Kubelet
    isolation: Isolation
    accounts: Accounts
    traffic: Traffic
    faults: Faults


def make_app(parts: Parts, middlewares: Sequence[Middleware] = ()) -> web.Application:
    """Return the application; only requests with a valid token are served, and as far as its user's rights go."""
    store, kubelet = parts.store, parts.kubelet
    app = web.Application(
        middlewares=[_refusals, _faults(parts.traffic), _access(parts.accounts), *middlewares],
        client_max_size=LARGEST_BODY,
    )
    _add_discovery(app.router)
    _add_pod_parts(app.router, parts)
    _add_objects(app.router, ObjectApi(store, kubelet))
    app.router.add_post(f"{PREFIX}faults/{{name}}", FaultApi(parts.faults).press)
    app.router.add_route("*", "/{path:.*}", _nothing_there)
    return app


def _add_objects(router: web.UrlDispatcher, api: ObjectApi) -> None:
    def to(method: Callable[[web.Request, Target], Awaitable[web.StreamResponse]]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await method(request, _target(request))

        return handle

    one = "/{name:[^/]+}"
    inside = "/api/v1/namespaces/{namespace:[^/]+}/{plural:[^/]+}"
    for collection in ("/api/v1/{plural:namespaces}", inside):
        router.add_get(collection, to(api.read))
        router.add_post(collection, to(api.create))
        router.add_get(collection + one, to(api.read))
        router.add_put(collection + one, to(api.replace))
        router.add_patch(collection + one, to(api.patch))
        router.add_delete(collection + one, to(api.delete))
    router.add_delete(inside, to(api.delete))
    router.add_get("/api/v1/{plural:[^/]+}", to(api.read))


def _add_pod_parts(router: web.UrlDispatcher, parts: Parts) -> None:
    store, kubelet = parts.store, parts.kubelet
    objects, logs = ObjectApi(store, kubelet), LogApi(store, kubelet, parts.traffic)
    execs = ExecApi(store, kubelet, parts.isolation)

    async def read_status(request: web.Request) -> web.StreamResponse:
        return await objects.read(request, _target(request, "pods"))

    async def patch_status(request: web.Request) -> web.StreamResponse:
        return await objects.patch(request, _target(request, "pods"), "status")

    async def replace_status(request: web.Request) -> web.StreamResponse:
        return await objects.replace(request, _target(request, "pods"), "status")

    async def read_log(request: web.Request) -> web.StreamResponse:
        return await logs.read(request, request.match_info["namespace"], request.match_info["name"])

    async def execute(request: web.Request) -> web.StreamResponse:
        return await execs.run(request, request.match_info["namespace"], request.match_info["name"])

    pod = "/api/v1/namespaces/{namespace:[^/]+}/pods/{name:[^/]+}"
    router.add_get(f"{pod}/status", read_status)
    router.add_patch(f"{pod}/status", patch_status)
    router.add_put(f"{pod}/status", replace_status)
    router.add_get(f"{pod}/log", read_log)
    router.add_get(f"{pod}/exec", execute)
    router.add_post(f"{pod}/exec", execute)


def _add_discovery(router: web.UrlDispatcher) -> None:
    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    def fixed(document: dict[str, object]) -> Handler:
        async def handle(_: web.Request) -> web.Response:
            return web.json_response(document)

        return handle

    for path in PUBLIC_PATHS - {"/version"}:
        router.add_get(path, health)
    for path in ("/version", "/version/"):
        router.add_get(path, fixed({**VERSION}))
    router.add_get("/api", fixed({"kind": "APIVersions", "versions": ["v1"]}))
    router.add_get("/apis", fixed({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
    resources = [
        {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": _VERBS,
        }
        for resource in RESOURCES.values()
    ]
    document: dict[str, object] = {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources}
    router.add_get("/api/v1", fixed(document))


def _target(request: web.Request, plural: str | None = None) -> Target:
    names = request.match_info
    resource = RESOURCES.get(plural or names["plural"])
    if resource is None or (resource is NAMESPACES and "namespace" in names):
        raise no_such_path()
    # A name in a path without a namespace belongs to a namespace itself.
    namespace = names.get("namespace") if resource.namespaced else ""
    return Target(resource, namespace, names.get("name"))


async def _nothing_there(_: web.Request) -> web.StreamResponse:
    raise no_such_path()


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        wait = (error.details or {}).get("retryAfterSeconds")
        headers = None if wait is None else {"Retry-After": str(wait)}
        return web.json_response(error.status(), status=error.code, headers=headers)
    except web.HTTPMethodNotAllowed as error:
        refusal = ApiError(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {}
        )
        return web.json_response(refusal.status(), status=error.status)
    except web.HTTPRequestEntityTooLarge:
        refusal = ApiError(413, "RequestEntityTooLarge", f"limit is {LARGEST_BODY} bytes", {})
        return web.json_response(refusal.status(), status=413)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # A body of a wrong shape that no check has named.
        refusal = internal(f"{type(error).__name__}: {error}")
        return web.json_response(refusal.status(), status=500)


def _faults(traffic: Traffic) -> Middleware:
    @web.middleware
    async def suffer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(PREFIX):
            await traffic.meet(request)
        return await handler(request)

    return suffer


def _access(accounts: Accounts) -> Middleware:
    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if given or request.path.rstrip("/") not in PUBLIC_PATHS:
            user = await accounts.authenticate(given.removeprefix("Bearer "))
            if user is None:
                raise unauthorized()
            access = Access.of(request)
            if access is not None:
                user.check(access)
            elif request.path.startswith(PREFIX):
                user.check_path(request.method, request.path)
        return await handler(request)

    return admit
