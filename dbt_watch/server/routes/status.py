"""The routes to the server itself: its projects, its health, its metrics."""

import logging

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response

from dbt_watch.server.answers import Health, ProjectAnswer, ProjectList
from dbt_watch.server.routes.dependencies import PROBLEMS, Sender, Server, principal_of

_LOGGER = logging.getLogger(__name__)

router = APIRouter(responses=PROBLEMS)
# What needs no token.
public = APIRouter()


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


@public.get("/healthz", response_model_exclude_none=True)
async def healthz() -> Health:
    """Return that this process answers."""
    return Health(status="ok")


@public.get(
    "/readyz",
    response_model_exclude_none=True,
    responses={503: {"model": Health, "description": "Something is missing."}},
)
def readyz(server: Server, response: Response) -> Health:
    """Return whether invocations are accepted and run: the database and the queue answer, and there are workers."""
    try:
        workers = server.hosts.workers()
        server.queue.size()
    except Exception as error:
        _LOGGER.exception("not ready")
        response.status_code = 503
        return Health(
            status="the database does not respond"
            if isinstance(error, sa.exc.SQLAlchemyError)
            else "the queue does not respond"
        )
    if not workers:
        response.status_code = 503
    return Health(status="ok" if workers else "there are no workers", workers=workers)


@public.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 401: PROBLEMS[401]},
)
def metrics(request: Request, server: Server) -> Response:
    """Return the metrics for Prometheus; they need a token, unless the operator has opened them."""
    if not server.settings.metrics_open:
        principal_of(request, server)
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
