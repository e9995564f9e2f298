"""The routes to what an invocation wrote: its log, in parts or as it grows, and its artifacts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from dbt_watch.server.answers import ArtifactList, ArtifactName, Problem, TaskId
from dbt_watch.server.logs import DEFAULT_PIECE, LONGEST_PIECE, LONGEST_WAIT, await_piece
from dbt_watch.server.logs import follow as follow_log
from dbt_watch.server.routes.dependencies import (
    NOT_FOUND,
    PROBLEMS,
    Sender,
    Server,
    Services,
    find_invocation,
)

router = APIRouter(responses=PROBLEMS)


@router.get(
    "/invocations/{task_id}/log",
    response_class=Response,
    responses={
        200: {
            "description": "What dbt wrote to its standard output and error: its log as JSON, one record per line, and lines that are"
            " not records.",
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
        **NOT_FOUND,
        503: {"model": Problem, "description": "The maximum number of logs is being followed."},
    },
)
async def get_log(
    task_id: TaskId,
    server: Server,
    sender: Sender,
    *,
    offset: Annotated[int, Query(ge=0, le=2**62, description="Where to begin, in bytes.")] = 0,
    limit: Annotated[
        int,
        Query(ge=1, le=LONGEST_PIECE, description="The most to return, in bytes; no effect with `follow`."),
    ] = DEFAULT_PIECE,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=LONGEST_WAIT,
            description="How long to wait, in seconds, for something to be there at the offset, or for the end of the invocation."
            " It does not wait while the maximum number of logs is being followed; no effect with `follow`.",
        ),
    ] = 0.0,
    follow: Annotated[
        bool, Query(description="Stream the log as it grows, until the invocation has ended.")
    ] = False,
) -> Response:
    """
    Read the log from an offset on.

    The log only grows, so an offset stays valid. A part may end in the middle of a line. A stream that ends does not tell
    whether it was cut: ask for the part from there on, and look at `X-Log-Complete`.
    """
    await asyncio.to_thread(find_invocation, server, task_id, sender)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    is_full = len(server.followers) >= server.settings.limits.followers
    if follow:
        if is_full:
            raise HTTPException(503, "too many logs are being followed", {"Retry-After": "5"})
        return StreamingResponse(_followed(server, task_id, offset), media_type="text/plain", headers=headers)
    path, has_ended = server.files(task_id).log, _end_of(server, task_id)
    if wait == 0 or is_full:
        piece = await await_piece(path, offset, limit, has_ended, 0.0)
    else:
        with _counted(server, task_id):
            piece = await await_piece(path, offset, limit, has_ended, wait)
    headers |= {
        "X-Log-Offset": str(piece.offset),
        "X-Log-Size": str(piece.size),
        "X-Log-Complete": str(piece.is_complete).lower(),
    }
    return Response(piece.data, media_type="text/plain", headers=headers)


async def _followed(server: Services, task_id: str, offset: int) -> AsyncIterator[bytes]:
    with _counted(server, task_id):
        async for data in follow_log(server.files(task_id).log, offset, _end_of(server, task_id)):
            yield data


def _end_of(server: Services, task_id: str) -> Callable[[], bool]:
    """Return what tells whether an invocation has ended."""

    def has_ended() -> bool:
        found = server.store.get(task_id)
        return found is None or not found.is_open

    return has_ended


@contextlib.contextmanager
def _counted(server: Services, task_id: str) -> Iterator[None]:
    """Count one who waits for a log among those who follow one."""
    server.followers.append(task_id)
    try:
        yield
    finally:
        server.followers.remove(task_id)


@router.get("/invocations/{task_id}/artifacts", responses=NOT_FOUND)
def list_artifacts(task_id: TaskId, server: Server, sender: Sender) -> ArtifactList:
    """List what dbt wrote; there is nothing before it has ended."""
    find_invocation(server, task_id, sender)
    return ArtifactList(artifacts=server.files(task_id).artifacts())


@router.get(
    "/invocations/{task_id}/artifacts/{name}",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The artifact.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **NOT_FOUND,
    },
)
def get_artifact(task_id: TaskId, name: ArtifactName, server: Server, sender: Sender) -> Response:
    """Read an artifact: run_results.json, manifest.json, catalog.json, sources.json or semantic_manifest.json."""
    find_invocation(server, task_id, sender)
    files = server.files(task_id)
    if name not in files.artifacts():
        raise HTTPException(404, "there is no such artifact")
    return FileResponse(files.artifact(name), media_type="application/json")
