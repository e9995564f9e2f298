"""
The API: takes invocations, tells their states, passes on their logs and artifacts.

`create_app` makes it of its `routes`, `command` runs it. It runs no dbt itself. What a client is told to have been taken is in the database by then; the queue is only told that there is
work.
"""

import os
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dbt_watch.exceptions import ArgumentError
from dbt_watch.server.auth import Authenticator
from dbt_watch.server.database import Database
from dbt_watch.server.invocations.store import InvocationStore
from dbt_watch.server.metrics import ServerMetrics
from dbt_watch.server.middleware import BodyLimit, RequestMeter
from dbt_watch.server.projects import served_projects
from dbt_watch.server.queue import TicketQueue
from dbt_watch.server.routes import invocations, output, status
from dbt_watch.server.routes.dependencies import Services
from dbt_watch.server.settings import Settings
from dbt_watch.server.tokens import TokenStore
from dbt_watch.server.worker.hosts import WorkerHosts

DESCRIPTION = """\
Runs dbt invocations that clients post, one at a time for each project and target.

Post with a `task_id` of your own: the same request can then be repeated, and returns the existing invocation. Read the log by its
offset, or follow it; the invocation has ended when its state is neither `PENDING` nor `STARTED`.
"""


def create_app(settings: Settings) -> FastAPI:
    """Make the API of a server."""
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.umask(0o077)
    database = Database(settings.database_url)
    database.make_tables()
    store = InvocationStore(database, queued=settings.limits.queued)
    hosts = WorkerHosts(database)
    services = Services(
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
    for router in (invocations.router, output.router, status.router, status.public):
        app.include_router(router)
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
    return _problem(422, "the request is invalid", places)


async def _show_wrong_argument(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ArgumentError)  # noqa: S101 - registered for these alone
    return _problem(422, str(error), {"argument": error.argument, "expected": error.expected})


async def _show_failure(_: Request, __: Exception) -> JSONResponse:
    return _problem(500, "the server failed; see its log")
