"""What the routes share: what they work with, who sends a request, and the problems that several of them answer with."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPBasic, HTTPBearer

from dbt_watch.server.answers import InvocationAnswer, Problem
from dbt_watch.server.auth import Authenticator, Principal, Unauthenticated
from dbt_watch.server.files import InvocationFiles, files_of
from dbt_watch.server.invocations.records import Invocation
from dbt_watch.server.invocations.store import InvocationStore
from dbt_watch.server.metrics import ServerMetrics
from dbt_watch.server.projects import ServedProject
from dbt_watch.server.queue import TicketQueue
from dbt_watch.server.settings import Settings
from dbt_watch.server.worker.hosts import WorkerHosts


@dataclass(frozen=True)
class Services:
    """
    What the routes work with.

    :ivar followers: the invocations whose logs are followed, each as often as it is
    """

    settings: Settings
    store: InvocationStore
    hosts: WorkerHosts
    queue: TicketQueue
    projects: dict[str, ServedProject]
    authenticate: Authenticator
    metrics: ServerMetrics
    followers: list[str]

    def files(self, task_id: str) -> InvocationFiles:
        """Return the files of an invocation."""
        return files_of(self.settings.state_dir, task_id)

    def answer(self, invocation: Invocation) -> InvocationAnswer:
        """Return what is shown of an invocation."""
        return InvocationAnswer.of(invocation, str(self.files(invocation.task_id).log))

    def visible(self, task_id: str, principal: Principal) -> Invocation | None:
        """Return an invocation of a project that somebody may use; others are not there for them."""
        found = self.store.get(task_id)
        return found if found is not None and principal.may_use(found.project) else None


def _services(request: Request) -> Services:
    return request.app.state.services  # type: ignore[no-any-return]


Server = Annotated[Services, Depends(_services)]


class _DescribedBasic(HTTPBasic):
    """Says in the description that basic authentication is possible, and leaves it to `Authenticator`."""

    async def __call__(self, request: Request) -> None:  # noqa: ARG002 - as its base has it
        return None


def principal_of(
    request: Request,
    server: Server,
    _bearer: Annotated[Any, Security(HTTPBearer(auto_error=False))] = None,
    _basic: Annotated[Any, Security(_DescribedBasic(auto_error=False))] = None,
) -> Principal:
    """
    Return who sends a request.

    :raises HTTPException: when that cannot be believed
    """
    try:
        return server.authenticate(request.headers.get("authorization"))
    except Unauthenticated:
        raise HTTPException(
            401,
            "a valid token is required",
            {"WWW-Authenticate": 'Bearer realm="dbt-watch", Basic realm="dbt-watch"'},
        ) from None


Sender = Annotated[Principal, Depends(principal_of)]

# What any route that needs a token may answer.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "No valid token."},
    422: {
        "model": Problem,
        "description": "The request is invalid, or asks for something that is not allowed.",
    },
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "It does not exist."}}
FORBIDDEN: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "The token is not for this command."}
}


def find_invocation(server: Services, task_id: str, sender: Principal) -> Invocation:
    """
    Return an invocation of a project that its sender may use.

    :raises HTTPException: when there is none
    """
    found = server.visible(task_id, sender)
    if found is None:
        raise HTTPException(404, "there is no such invocation")
    return found
