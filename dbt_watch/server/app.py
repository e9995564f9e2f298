"""
The API: takes invocations, tells their states, passes on their logs and artifacts. `create_app` makes it, `supervisor` runs it.

It runs nothing itself. What a client is told to have been taken is in the database by then; the queue is only told that there is
work.
"""

import logging
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBasic, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.answers import (
    TASK_ID,
    Accepted,
    ArtifactList,
    ArtifactName,
    Health,
    InvocationAnswer,
    InvocationPage,
    InvocationRequest,
    Problem,
    ProjectAnswer,
    ProjectList,
    TaskId,
)
from dbt_watch.server.auth import Authenticator, Principal, Unauthenticated
from dbt_watch.server.callbacks import call_back, check_callback
from dbt_watch.server.database import Database
from dbt_watch.server.files import InvocationFiles, files_of
from dbt_watch.server.invocations.records import Invocation, InvocationState, NewInvocation
from dbt_watch.server.invocations.store import InvocationStore, QueueFull, TaskIdTaken
from dbt_watch.server.logs import DEFAULT_PIECE, LONGEST_PIECE, follow, read_piece
from dbt_watch.server.metrics import ServerMetrics
from dbt_watch.server.middleware import BodyLimit, RequestMeter
from dbt_watch.server.projects import ServedProject, find_project, served_projects
from dbt_watch.server.queue import TicketQueue
from dbt_watch.server.settings import Settings
from dbt_watch.server.tokens import TokenStore
from dbt_watch.server.worker.hosts import WorkerHosts

_LOGGER = logging.getLogger(__name__)
_LONGEST_PAGE = 500

DESCRIPTION = """\
Runs dbt invocations that clients post, one at a time for each project and target.

Post with a `task_id` of your own: the same request may then be posted again, and answers with what there is. Read the log by its
offset, or follow it; the invocation has ended when its state is neither `PENDING` nor `STARTED`.
"""


@dataclass(frozen=True)
class _Services:
    """What the routes work with."""

    settings: Settings
    store: InvocationStore
    hosts: WorkerHosts
    queue: TicketQueue
    projects: dict[str, ServedProject]
    authenticate: Authenticator
    metrics: ServerMetrics
    followers: list[str]

    def files(self, task_id: str) -> InvocationFiles:
        return files_of(self.settings.state_dir, task_id)

    def answer(self, invocation: Invocation) -> InvocationAnswer:
        return InvocationAnswer.of(invocation, str(self.files(invocation.task_id).log))

    def visible(self, task_id: str, principal: Principal) -> Invocation | None:
        """Return an invocation of a project that somebody may use; others are not there for them."""
        found = self.store.get(task_id)
        return found if found is not None and principal.may_use(found.project) else None


def _services(request: Request) -> _Services:
    return request.app.state.services  # type: ignore[no-any-return]


Server = Annotated[_Services, Depends(_services)]


class _DescribedBasic(HTTPBasic):
    """Says in the description that basic authentication is possible, and leaves it to `Authenticator`."""

    async def __call__(self, request: Request) -> None:  # noqa: ARG002 - as its base has it
        return None


def _principal(
    request: Request,
    server: Server,
    _bearer: Annotated[Any, Security(HTTPBearer(auto_error=False))] = None,
    _basic: Annotated[Any, Security(_DescribedBasic(auto_error=False))] = None,
) -> Principal:
    try:
        return server.authenticate(request.headers.get("authorization"))
    except Unauthenticated:
        raise HTTPException(
            401,
            "a valid token is needed",
            {"WWW-Authenticate": 'Bearer realm="dbt-watch", Basic realm="dbt-watch"'},
        ) from None


Sender = Annotated[Principal, Depends(_principal)]

# What any route that needs a token may answer.
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "No valid token."},
    422: {
        "model": Problem,
        "description": "The request cannot be understood, or asks for what is not allowed.",
    },
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "There is none."}}
_FORBIDDEN: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "The token is not for this command."}
}

router = APIRouter(responses=_PROBLEMS)
health = APIRouter()


@router.post(
    "/invocations",
    responses={
        **_FORBIDDEN,
        400: {"model": Problem, "description": "The body is no text."},
        408: {"model": Problem, "description": "The body did not arrive in time."},
        409: {"model": Problem, "description": "Another invocation has this task_id."},
        413: {"model": Problem, "description": "The body is too large."},
        429: {"model": Problem, "description": "As many invocations wait as may."},
    },
)
def post_invocation(body: InvocationRequest, server: Server, sender: Sender) -> Accepted:
    """
    Let dbt run as soon as it is its turn.

    The same request with the same task_id answers with what there is, and runs nothing a second time.
    """
    project = find_project(server.projects, sender.projects_among(server.projects), body.project_dir)
    checked, target = project.checked(body.command)
    if not sender.may_run(checked.name):
        raise HTTPException(403, f"the token is not for {checked.name}")
    if body.callback_url is not None:
        check_callback(body.callback_url, server.settings.callbacks)
    same = [project.name, target, checked.words(), checked.log_level, body.callback_url]
    new = NewInvocation(
        task_id=body.task_id or secrets.token_hex(16),
        fingerprint=sha256(msgspec.json.encode(same)).hexdigest(),
        project=project.name,
        target=target,
        sub_command=checked.name,
        command=tuple(checked.words()),
        log_level=checked.log_level,
        callback_url=body.callback_url,
        principal=sender.name,
    )
    try:
        invocation, is_new = server.store.add(new)
    except TaskIdTaken:
        raise HTTPException(409, "another invocation has this task_id") from None
    except QueueFull:
        raise HTTPException(429, "too many invocations wait", {"Retry-After": "30"}) from None
    if is_new:
        _wake(server)
    return Accepted(task_id=new.task_id, log_path=str(server.files(new.task_id).log), state=invocation.state)


def _wake(server: _Services) -> None:
    try:
        server.queue.put()
    except Exception:
        # The invocation is kept, and the workers look for such work by themselves.
        _LOGGER.exception("the queue does not answer")


@router.get("/invocations", response_model_exclude_none=True)
def list_invocations(
    server: Server,
    sender: Sender,
    *,
    state: Annotated[list[InvocationState] | None, Query(description="May be repeated.")] = None,
    project: Annotated[str | None, Query(max_length=64)] = None,
    target: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=_LONGEST_PAGE)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the page before.")] = None,
) -> InvocationPage:
    """List the invocations of the projects that the sender may use, the newest first."""
    projects = sender.projects_among(server.projects)
    found = server.store.page(
        projects=projects if project is None else projects & {project},
        states=state or (),
        target=target,
        before=before,
        limit=limit + 1,
    )
    return InvocationPage(
        invocations=[server.answer(invocation) for invocation in found[:limit]],
        next=found[limit - 1].seq if len(found) > limit else None,
    )


@router.get("/invocations/{task_id}", response_model_exclude_none=True)
def get_invocation(task_id: TaskId, server: Server, sender: Sender) -> InvocationAnswer:
    """Tell the state of an invocation; of one that there is not, `NOT_FOUND`."""
    found = server.visible(task_id, sender)
    if found is None:
        return InvocationAnswer(task_id=task_id, state=InvocationState.NOT_FOUND)
    return server.answer(found)


@router.post(
    "/invocations/{task_id}/abort", response_model_exclude_none=True, responses={**_NOT_FOUND, **_FORBIDDEN}
)
def abort_invocation(task_id: TaskId, server: Server, sender: Sender) -> InvocationAnswer:
    """
    End an invocation early: one that waits at once, one that runs with SIGINT, and after 5 seconds with SIGKILL.

    It is not waited for: the state is `ABORTED` when dbt has ended. Of one that has ended nothing changes.
    """
    found = _found(server, task_id, sender)
    if not sender.may_run(found.sub_command):
        raise HTTPException(403, f"the token is not for {found.sub_command}")
    after = server.store.abort(task_id) or found
    if found.is_open and after.state is InvocationState.ABORTED and after.callback_url is not None:
        call_back(after.callback_url, task_id, after.state.value)
    return server.answer(after)


@router.get(
    "/invocations/{task_id}/log",
    response_class=Response,
    responses={
        200: {
            "description": "What dbt wrote to its standard output and error: its log as JSON, one record a line, and lines that"
            " are none.",
            "content": {"text/plain": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "X-Log-Offset": {
                    "description": "Where the next part begins, in bytes; not with `follow`.",
                    "schema": {"type": "integer"},
                },
                "X-Log-Size": {
                    "description": "The size of the log so far, in bytes; not with `follow`.",
                    "schema": {"type": "integer"},
                },
                "X-Log-Complete": {
                    "description": "`true` when the invocation has ended and nothing follows; not with `follow`.",
                    "schema": {"type": "string", "enum": ["true", "false"]},
                },
            },
        },
        **_NOT_FOUND,
        503: {"model": Problem, "description": "As many logs are followed as may be."},
    },
)
def get_log(
    task_id: TaskId,
    server: Server,
    sender: Sender,
    *,
    offset: Annotated[int, Query(ge=0, le=2**62, description="Where to begin, in bytes.")] = 0,
    limit: Annotated[
        int,
        Query(
            ge=1, le=LONGEST_PIECE, description="The most to return, in bytes; of no effect with `follow`."
        ),
    ] = DEFAULT_PIECE,
    follow: Annotated[
        bool, Query(description="Stream the log as it grows, until the invocation has ended.")
    ] = False,
) -> Response:
    """
    Read the log from an offset on.

    The log only grows, so an offset stays valid. A part may end in the middle of a line. A stream that ends does not tell
    whether it was cut: ask for the part from there on, and look at `X-Log-Complete`.
    """
    found = _found(server, task_id, sender)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if follow:
        if len(server.followers) >= server.settings.limits.followers:
            raise HTTPException(503, "too many logs are followed", {"Retry-After": "5"})
        return StreamingResponse(_followed(server, task_id, offset), media_type="text/plain", headers=headers)
    piece = read_piece(server.files(task_id).log, offset, limit, has_ended=not found.is_open)
    headers |= {
        "X-Log-Offset": str(piece.offset),
        "X-Log-Size": str(piece.size),
        "X-Log-Complete": str(piece.is_complete).lower(),
    }
    return Response(piece.data, media_type="text/plain", headers=headers)


async def _followed(server: _Services, task_id: str, offset: int) -> AsyncIterator[bytes]:
    def has_ended() -> bool:
        found = server.store.get(task_id)
        return found is None or not found.is_open

    server.followers.append(task_id)
    try:
        async for data in follow(server.files(task_id).log, offset, has_ended):
            yield data
    finally:
        server.followers.remove(task_id)


@router.get("/invocations/{task_id}/artifacts", responses=_NOT_FOUND)
def list_artifacts(task_id: TaskId, server: Server, sender: Sender) -> ArtifactList:
    """List what dbt wrote; there is nothing before it has ended."""
    _found(server, task_id, sender)
    return ArtifactList(artifacts=server.files(task_id).artifacts())


@router.get(
    "/invocations/{task_id}/artifacts/{name}",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The artifact.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **_NOT_FOUND,
    },
)
def get_artifact(task_id: TaskId, name: ArtifactName, server: Server, sender: Sender) -> Response:
    """Read an artifact: run_results.json, manifest.json, catalog.json, sources.json or semantic_manifest.json."""
    _found(server, task_id, sender)
    files = server.files(task_id)
    if name not in files.artifacts():
        raise HTTPException(404, "there is no such artifact")
    return FileResponse(files.artifact(name), media_type="application/json")


@router.get("/projects")
def list_projects(server: Server, sender: Sender) -> ProjectList:
    """List the projects that the sender may use."""
    names = sorted(sender.projects_among(server.projects))
    return ProjectList(
        projects=[
            ProjectAnswer(
                name=name,
                directory=str(project.directory),
                targets=list(project.settings.targets),
                default_target=project.default_target,
                commands=[command for command in project.settings.commands if sender.may_run(command)],
            )
            for name, project in ((name, server.projects[name]) for name in names)
        ]
    )


@health.get("/healthz", response_model_exclude_none=True)
async def healthz() -> Health:
    """Tell that this process answers."""
    return Health(status="ok")


@health.get(
    "/readyz",
    response_model_exclude_none=True,
    responses={503: {"model": Health, "description": "Something is missing."}},
)
def readyz(server: Server, response: Response) -> Health:
    """Tell whether invocations are taken and run: the database and the queue answer, and there are workers."""
    try:
        workers = server.hosts.workers()
        server.queue.size()
    except Exception as error:
        _LOGGER.exception("not ready")
        response.status_code = 503
        return Health(
            status="the database does not answer"
            if isinstance(error, sa.exc.SQLAlchemyError)
            else "the queue does not answer"
        )
    if not workers:
        response.status_code = 503
    return Health(status="ok" if workers else "there are no workers", workers=workers)


@health.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 401: _PROBLEMS[401]},
)
def metrics(request: Request, server: Server) -> Response:
    """Tell Prometheus how the server is; with a token, unless the operator has opened it."""
    if not server.settings.metrics_open:
        _principal(request, server)
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _found(server: _Services, task_id: str, sender: Principal) -> Invocation:
    found = server.visible(task_id, sender)
    if found is None:
        raise HTTPException(404, "there is no such invocation")
    return found


def create_app(settings: Settings) -> FastAPI:
    """Make the API of a server."""
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.umask(0o077)
    database = Database(settings.database_url)
    database.make_tables()
    store = InvocationStore(database, queued=settings.limits.queued)
    hosts = WorkerHosts(database)
    services = _Services(
        settings=settings,
        store=store,
        hosts=hosts,
        queue=TicketQueue(settings),
        projects=served_projects(settings),
        authenticate=Authenticator(settings, TokenStore(database)),
        metrics=ServerMetrics(store, hosts),
        followers=[],
    )
    app = FastAPI(title="dbt-watch server", description=DESCRIPTION, version="1", redoc_url=None)
    app.state.services = services
    app.include_router(router)
    app.include_router(health)
    app.add_middleware(BodyLimit, limit=settings.limits.body_bytes)
    app.add_middleware(RequestMeter, metrics=services.metrics)
    if settings.auth == "none":
        # A page of another site could name an address of its own for this machine, and read what is answered.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    app.add_exception_handler(StarletteHTTPException, _show_refusal)
    app.add_exception_handler(RequestValidationError, _show_invalid)
    app.add_exception_handler(ArgumentError, _show_wrong_argument)
    app.add_exception_handler(Exception, _show_failure)
    return app


def _problem(status: int, message: str, data: Any = None, headers: Any = None) -> JSONResponse:
    content = {"status_code": status, "message": message, "data": data}
    return JSONResponse(content, status, headers=headers)


async def _show_refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - registered for these alone
    return _problem(error.status_code, str(error.detail), headers=error.headers)


async def _show_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for these alone
    # Without the values, which may hold secrets.
    places = [{"loc": list(part["loc"]), "msg": part["msg"]} for part in error.errors()]
    return _problem(422, "the request cannot be understood", places)


async def _show_wrong_argument(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ArgumentError)  # noqa: S101 - registered for these alone
    return _problem(422, str(error), {"argument": error.argument, "expected": error.expected})


async def _show_failure(_: Request, __: Exception) -> JSONResponse:
    return _problem(500, "the server failed; its log says more")


__all__ = ["TASK_ID", "create_app"]
