"""The routes that take, list, show and abort invocations."""

import logging
import secrets
from hashlib import sha256
from typing import Annotated

import msgspec
from fastapi import APIRouter, HTTPException, Query

from dbt_watch.server.answers import (
    Accepted,
    InvocationAnswer,
    InvocationPage,
    InvocationRequest,
    Problem,
    TaskId,
)
from dbt_watch.server.callbacks import call_back, check_callback
from dbt_watch.server.invocations.records import InvocationState, NewInvocation
from dbt_watch.server.invocations.store import QueueFull, TaskIdTaken
from dbt_watch.server.projects import find_project
from dbt_watch.server.routes.dependencies import (
    FORBIDDEN,
    NOT_FOUND,
    PROBLEMS,
    Sender,
    Server,
    Services,
    find_invocation,
)

_LOGGER = logging.getLogger(__name__)
_LONGEST_PAGE = 500

router = APIRouter(responses=PROBLEMS)


@router.post(
    "/invocations",
    responses={
        **FORBIDDEN,
        400: {"model": Problem, "description": "The body is not text."},
        408: {"model": Problem, "description": "The body did not arrive in time."},
        409: {"model": Problem, "description": "Another invocation has this task_id."},
        413: {"model": Problem, "description": "The body is too large."},
        429: {"model": Problem, "description": "The maximum number of invocations is waiting."},
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
        raise HTTPException(429, "too many invocations are waiting", {"Retry-After": "30"}) from None
    if is_new:
        _wake(server)
    return Accepted(task_id=new.task_id, log_path=str(server.files(new.task_id).log), state=invocation.state)


def _wake(server: Services) -> None:
    try:
        server.queue.put()
    except Exception:
        # The invocation is kept, and the workers look for such work by themselves.
        _LOGGER.exception("the queue does not respond")


@router.get("/invocations", response_model_exclude_none=True)
def list_invocations(
    server: Server,
    sender: Sender,
    *,
    state: Annotated[list[InvocationState] | None, Query(description="May be repeated.")] = None,
    project: Annotated[str | None, Query(max_length=64)] = None,
    target: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=_LONGEST_PAGE)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="`next` of the previous page.")] = None,
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
    """Return the state of an invocation; `NOT_FOUND` if there is none."""
    found = server.visible(task_id, sender)
    if found is None:
        return InvocationAnswer(task_id=task_id, state=InvocationState.NOT_FOUND)
    return server.answer(found)


@router.post(
    "/invocations/{task_id}/abort", response_model_exclude_none=True, responses={**NOT_FOUND, **FORBIDDEN}
)
def abort_invocation(task_id: TaskId, server: Server, sender: Sender) -> InvocationAnswer:
    """
    End an invocation early: one that waits at once, one that runs with SIGINT, and after 5 seconds with SIGKILL.

    It is not waited for: the state is `ABORTED` when dbt has ended. Of one that has ended nothing changes.
    """
    found = find_invocation(server, task_id, sender)
    if not sender.may_run(found.sub_command):
        raise HTTPException(403, f"the token is not for {found.sub_command}")
    after = server.store.abort(task_id) or found
    if found.is_open and after.state is InvocationState.ABORTED and after.callback_url is not None:
        call_back(after.callback_url, task_id, after.state.value)
    return server.answer(after)
